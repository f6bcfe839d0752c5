"""The family of Tetrominoes scenes: pure functions of a PRNG key."""

import dataclasses
import numbers
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import types
from slot_attention_jax.data.procedural import scene_family

CANVAS = 35
"""Side of the canvas in canvas units; one unit is one pixel at 35x35."""
CELL = 5
"""Side of one of the four cells of a tetromino, in canvas units."""

_PIECES = {
  "I": ["1111"],
  "O": ["11", "11"],
  "T": ["111", "010"],
  "S": ["011", "110"],
  "Z": ["110", "011"],
  "J": ["100", "111"],
  "L": ["001", "111"],
}
_COLORS = {
  "red": (255, 0, 0),
  "green": (0, 255, 0),
  "blue": (0, 0, 255),
  "yellow": (255, 255, 0),
  "magenta": (255, 0, 255),
  "cyan": (0, 255, 255),
}


def _orientations() -> dict[str, np.ndarray]:
  """The 19 fixed tetrominoes, [4, 4] bool, by name and quarter turns."""
  shapes = {}
  for name, rows in _PIECES.items():
    piece = np.array([[c == "1" for c in row] for row in rows])
    seen = set()
    for turns in range(4):
      turned = np.rot90(piece, turns)
      key = (turned.shape, turned.tobytes())
      if key not in seen:
        seen.add(key)
        padding = [(0, 4 - n) for n in turned.shape]
        shapes[f"{name}{turns}"] = np.pad(turned, padding)
  return shapes


_SHAPES = _orientations()
_SHAPE_GRID = np.stack(list(_SHAPES.values()))  # [19, 4, 4] bool
# Rows and columns of the bounding box, in cells: [19, 2].
_SHAPE_SIZE = np.stack(
  [_SHAPE_GRID.any(axis=2).sum(axis=1), _SHAPE_GRID.any(axis=1).sum(axis=1)],
  axis=-1,
).astype(np.int32)
# (row, column) of each of the four cells: [19, 4, 2].
_SHAPE_CELLS = np.stack([np.argwhere(g) for g in _SHAPE_GRID]).astype(np.int32)
_COLOR_VALUES = np.array(list(_COLORS.values()), np.float32) / 127.5 - 1.0

LAYOUT = types.PropertyLayout(
  name="tetrominoes",
  properties=(
    types.Property("coords", 2, "continuous", low=0.0, high=float(CANVAS)),
    types.Property("shape", len(_SHAPES), "categorical", labels=tuple(_SHAPES)),
    types.Property("color", len(_COLORS), "categorical", labels=tuple(_COLORS)),
    types.Property("confidence", 1, "confidence"),
  ),
)
"""28 numbers: center (row, column) in canvas units, shape, color, confidence.
"""


@flax.struct.dataclass
class Scene:
  """Tetrominoes of one scene.

  Attributes:
    shape: [O] int32, index into the 19 fixed tetrominoes.
    color: [O] int32, index into red, green, blue, yellow, magenta, cyan.
    corner: [O, 2] int32, row and column of the upper left corner of the
      bounding box, in canvas units.
  """

  shape: jax.Array
  color: jax.Array
  corner: jax.Array


@dataclasses.dataclass(frozen=True)
class Tetrominoes:
  """Tetrominoes that do not overlap, on a black 35x35 canvas.

  Shapes (the 19 fixed tetrominoes), colors (6) and positions (those at which
  the piece lies entirely on the canvas) are independent and uniform, given that
  no two pieces overlap; they may touch. The Tetrominoes of
  `multi_object_datasets` have the same canvas, number of pieces and colors. Its
  README counts 17 shapes without listing them, its issue 10 counts all 19. Its
  preview shades the edges of the cells; here a piece has one color.

  Attributes:
    num_objects: O, number of pieces in a scene, 1 to 3.
    step: spacing of the positions, in canvas units, 1 to 5.

  Example:
    >>> import jax
    >>> from slot_attention_jax.data.procedural import tetrominoes
    >>> family = tetrominoes.Tetrominoes()
    >>> scene = family.sample(jax.random.key(0))
    >>> rendering = family.render(scene, (35, 35))
    >>> rendering.image.shape, int(rendering.segmentation.max())
    ((35, 35, 3), 3)
  """

  num_objects: int = 3
  step: int = 1

  layout: ClassVar[types.PropertyLayout] = LAYOUT
  resolution: ClassVar[tuple[int, int]] = (CANVAS, CANVAS)
  version: ClassVar[int] = 1

  def __post_init__(self):
    number, step = self.num_objects, self.step
    if not (isinstance(number, numbers.Integral) and 1 <= number <= 3):
      raise ValueError(
        "Expected an integer of 1 to 3 tetrominoes (more do not fit reliably), "
        f"got {number}."
      )
    if not (isinstance(step, numbers.Integral) and 1 <= step <= CELL):
      raise ValueError(
        f"Expected an integer step of 1 to {CELL}, got {step}; positions are "
        "multiples of it, in canvas units."
      )

  @property
  def name(self) -> str:
    """Name of the data."""
    return "tetrominoes_scenes"

  @property
  def max_objects(self) -> int:
    """O."""
    return self.num_objects

  @property
  def _candidates(self) -> int:
    # Of three pieces at step 1, the worst case, 0.145 of the samples have no
    # overlap: all 96 fail in one of 3.5 million scenes.
    return 1 if self.num_objects == 1 else 96

  def sample(self, key: jax.Array) -> Scene:
    """Samples a scene.

    Args:
      key: typed PRNG key.

    Returns:
      A `Scene`.
    """
    shape_key, color_key, corner_key = jax.random.split(key, 3)
    o, m = self.num_objects, self._candidates
    shape = jax.random.randint(shape_key, (m, o), 0, len(_SHAPES), jnp.int32)
    color = jax.random.randint(color_key, (o,), 0, len(_COLORS), jnp.int32)
    room = CANVAS - CELL * jnp.asarray(_SHAPE_SIZE)[shape]  # [M, O, 2]
    places = room // self.step + 1
    corner = self.step * jax.random.randint(
      corner_key, (m, o, 2), 0, places, jnp.int32
    )
    cells = corner[:, :, None] + CELL * jnp.asarray(_SHAPE_CELLS)[shape]
    valid = jnp.ones((m,), bool)
    for i in range(o):
      for j in range(i):
        gap = jnp.abs(cells[:, i, :, None] - cells[:, j, None])  # [M, 4, 4, 2]
        valid &= ~(gap < CELL).all(axis=-1).any(axis=(1, 2))
    first = jnp.argmax(valid)
    # The fallback if all candidates overlap: squares along the diagonal.
    square = jnp.full((o,), list(_SHAPES).index("O0"), jnp.int32)
    diagonal = 2 * CELL * jnp.arange(o, dtype=jnp.int32)
    found = valid.any()
    return Scene(
      shape=jnp.where(found, shape[first], square),
      color=color,
      corner=jnp.where(
        found, corner[first], jnp.stack([diagonal, diagonal], axis=-1)
      ),
    )

  def render(
    self, scene: Scene, resolution: tuple[int, int]
  ) -> scene_family.Rendering:
    """Renders a scene; a pixel shows the canvas point at its center.

    Args:
      scene: the scene.
      resolution: (H, W) in pixels; at (35, 35) a pixel is a canvas unit.

    Returns:
      A `Rendering`; the segmentation is exact at any resolution.

    Raises:
      ValueError: if H or W is below 1.
    """
    scene_family.check_resolution(resolution)
    h, w = resolution
    # Integer arithmetic: the canvas unit that contains the center of pixel i.
    rows = (2 * np.arange(h) + 1) * CANVAS // (2 * h)
    columns = (2 * np.arange(w) + 1) * CANVAS // (2 * w)
    row_cell = (rows[None] - scene.corner[:, 0, None]) // CELL  # [O, H]
    column_cell = (columns[None] - scene.corner[:, 1, None]) // CELL  # [O, W]
    inside = jnp.zeros((self.num_objects, h, w), bool)
    cells = jnp.asarray(_SHAPE_CELLS)[scene.shape]  # [O, 4, 2]
    for c in range(4):
      on_row = row_cell == cells[:, c, 0, None]
      on_column = column_cell == cells[:, c, 1, None]
      inside |= on_row[:, :, None] & on_column[:, None, :]  # [O, H, W]
    index = jnp.arange(1, self.num_objects + 1, dtype=jnp.int32)
    segmentation = jnp.where(inside, index[:, None, None], 0).sum(axis=0)
    palette = jnp.concatenate(
      [jnp.full((1, 3), -1.0), jnp.asarray(_COLOR_VALUES)[scene.color]]
    )
    return scene_family.Rendering(
      image=palette[segmentation],  # [H, W, 3]
      segmentation=segmentation.astype(jnp.int32),
      visibility=inside.sum(axis=(1, 2), dtype=jnp.int32),
    )

  def targets(self, scene: Scene) -> jax.Array:
    """Property vectors of a scene: [O, 28] in the order of `LAYOUT`."""
    size = CELL * jnp.asarray(_SHAPE_SIZE)[scene.shape]  # [O, 2]
    values = {
      "coords": scene.corner + 0.5 * size,
      "shape": scene.shape,
      "color": scene.color,
    }
    real = jnp.ones((self.num_objects,), bool)
    return jnp.asarray(self.layout.encode(values, real))

  def describe(
    self, scene: Scene, resolution: tuple[int, int]
  ) -> dict[str, jax.Array]:
    """Describes the pieces.

    Args:
      scene: the scene.
      resolution: (H, W) of the image.

    Returns:
      `present` [O] bool; `x` and `y` [O], column and row of the bounding box's
      center in pixels, 0 at the left and upper edge of the image; `shape` [O]
      int32, the layout's id; `color` [O, 3] RGB in [0, 1]. The original does
      not document its ids, nor which point of a piece its coordinates refer to.
    """
    scene_family.check_resolution(resolution)
    size = CELL * jnp.asarray(_SHAPE_SIZE)[scene.shape]  # [O, 2]
    center = (scene.corner + 0.5 * size) / CANVAS  # [O, 2]
    return {
      "present": jnp.ones((self.num_objects,), bool),
      "x": center[:, 1] * resolution[1],
      "y": center[:, 0] * resolution[0],
      "shape": scene.shape,
      "color": (jnp.asarray(_COLOR_VALUES)[scene.color] + 1.0) / 2.0,
    }
