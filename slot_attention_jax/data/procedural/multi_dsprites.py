"""The family of Multi-dSprites scenes: pure functions of a PRNG key."""

import dataclasses
import operator
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import types
from slot_attention_jax.data.procedural import scene_family, sprites

VARIANTS = {
  "binarized": (2, 3),
  "colored_on_grayscale": (2, 5),
  "colored_on_colored": (1, 4),
}
"""Smallest and largest number of sprites in a scene, by variant."""
MAX_SPRITES = 16

SCALES = np.linspace(0.5, 1.0, 6, dtype=np.float32)
ORIENTATIONS = np.linspace(0.0, 2.0 * np.pi, 40, dtype=np.float32)
POSITIONS = np.linspace(0.0, 1.0, 32, dtype=np.float32)

_CENTER_RANGE = (0.25, 0.75)  # Center of a sprite at position 0 and 1.
# Smallest hue, saturation and value. The original does not document them; these
# keep sprites distinct from any gray.
_HSV_LOW = (0.0, 0.5, 0.5)

LAYOUT = types.PropertyLayout(
  name="multi_dsprites",
  properties=(
    types.Property("coords", 2, "continuous", low=0.0, high=1.0),
    types.Property(
      "shape", len(sprites.SHAPES), "categorical", labels=sprites.SHAPES
    ),
    types.Property("scale", 1, "continuous", low=0.5, high=1.0),
    types.Property("orientation", 2, "continuous", low=-1.0, high=1.0),
    types.Property("color", 3, "continuous", low=0.0, high=1.0),
    types.Property("confidence", 1, "confidence"),
  ),
)
"""12 numbers: (y, x), shape, scale, (cos, sin), RGB, confidence."""


@flax.struct.dataclass
class Scene:
  """Sprites of one scene; a sprite occludes those of earlier rows.

  Attributes:
    present: [O] bool, False for padding, which comes last.
    shape: [O] int32, index into square, ellipse, heart.
    scale: [O] one of `SCALES`.
    orientation: [O] one of `ORIENTATIONS`, radians, counterclockwise; 0 and
      2 pi look the same.
    position: [O, 2] y (downwards) and x, each one of `POSITIONS`.
    color: [O, 3] RGB in [0, 1].
    background: [3] RGB in [0, 1].
  """

  present: jax.Array
  shape: jax.Array
  scale: jax.Array
  orientation: jax.Array
  position: jax.Array
  color: jax.Array
  background: jax.Array


def _hsv_to_rgb(hsv: jax.Array) -> jax.Array:
  """RGB of colors [..., 3] in hue, saturation, value; all in [0, 1]."""
  hue, saturation, value = jnp.split(hsv, 3, axis=-1)  # [..., 1] each
  sector = jnp.concatenate([hue * 6.0 + n for n in (5, 3, 1)], axis=-1) % 6.0
  ramp = jnp.clip(jnp.minimum(sector, 4.0 - sector), 0.0, 1.0)  # [..., 3]
  return value * (1.0 - saturation * ramp)


@dataclasses.dataclass(frozen=True)
class MultiDSprites:
  """Squares, ellipses and hearts that may occlude one another.

  Follows the Multi-dSprites of `multi_object_datasets` (its README) and
  dSprites (its README and notebook). The number of sprites is uniform on the
  variant's range. Shape (3), scale (6), orientation (40) and position (32 x 32)
  are independent and uniform on dSprites' values. A sprite always lies entirely
  on the canvas. Masks are binary, pixels are not blended. The variants:

  - `"binarized"`: 2 to 3 white sprites on black.
  - `"colored_on_grayscale"`: 2 to 5 sprites of random hue on a random gray.
  - `"colored_on_colored"`: 1 to 4 sprites; their colors and the background's
    are uniform in RGB.

  The original documents "some occlusions", but not their extent, nor the order
  of the sprites, nor the range of the HSV colors. Here no scene is rejected, so
  a sprite may be partly or fully occluded (with 2 to 5 sprites about 1 in 120
  is fully occluded); `Rendering.visibility` counts its visible pixels. Later
  rows occlude earlier ones. Saturation and value are uniform on [0.5, 1]. The
  shapes are fitted to dSprites' images.

  Attributes:
    variant: one of `VARIANTS`.
    num_objects: (lo, hi), smallest and largest number of sprites, within 1 to
      16; None for the variant's range.

  Example:
    >>> import jax
    >>> from slot_attention_jax.data.procedural import multi_dsprites
    >>> family = multi_dsprites.MultiDSprites("colored_on_grayscale")
    >>> scene = jax.jit(family.sample)(jax.random.key(0))
    >>> rendering = jax.jit(lambda s: family.render(s, (64, 64)))(scene)
    >>> rendering.image.shape, rendering.visibility.shape
    ((64, 64, 3), (5,))
  """

  variant: str = "colored_on_grayscale"
  num_objects: tuple[int, int] | None = None

  layout: ClassVar[types.PropertyLayout] = LAYOUT
  resolution: ClassVar[tuple[int, int]] = (64, 64)
  version: ClassVar[int] = 1

  def __post_init__(self):
    if self.variant not in VARIANTS:
      raise ValueError(
        f"Expected a variant of {tuple(VARIANTS)}, got {self.variant!r}."
      )
    if self.num_objects is None:
      return
    try:
      low, high = map(operator.index, self.num_objects)
    except (TypeError, ValueError):
      low, high = 0, 0
    if not 1 <= low <= high <= MAX_SPRITES:
      raise ValueError(
        "Expected num_objects as two integers (lo, hi) with 1 <= lo <= hi <= "
        f"{MAX_SPRITES}, got {self.num_objects!r}; None means the variant's "
        f"range, {VARIANTS[self.variant]}."
      )
    object.__setattr__(self, "num_objects", (low, high))  # Hashable.

  @property
  def _range(self) -> tuple[int, int]:
    return self.num_objects or VARIANTS[self.variant]

  @property
  def name(self) -> str:
    """Name of the data, with the variant unless it is the paper's."""
    if self.variant == "colored_on_grayscale":
      return "multi_dsprites_scenes"
    return f"multi_dsprites_scenes_{self.variant}"

  @property
  def max_objects(self) -> int:
    """O, the largest number of sprites in a scene."""
    return self._range[1]

  def sample(self, key: jax.Array) -> Scene:
    """Samples a scene.

    Args:
      key: typed PRNG key.
    """
    keys = jax.random.split(key, 7)
    low, high = self._range
    o = self.max_objects

    def choose(key, values, shape=(o,)):
      index = jax.random.randint(key, shape, 0, len(values), jnp.int32)
      return jnp.asarray(values)[index]

    number = jax.random.randint(keys[0], (), low, high + 1, jnp.int32)
    if self.variant == "binarized":
      color, background = jnp.ones((o, 3)), jnp.zeros((3,))
    elif self.variant == "colored_on_grayscale":
      least = jnp.array([_HSV_LOW])  # [1, 3]
      hsv = least + (1.0 - least) * jax.random.uniform(keys[1], (o, 3))
      color = _hsv_to_rgb(hsv)
      background = jnp.full((3,), jax.random.uniform(keys[2]))
    else:
      color = jax.random.uniform(keys[1], (o, 3))
      background = jax.random.uniform(keys[2], (3,))
    return Scene(
      present=jnp.arange(o, dtype=jnp.int32) < number,
      shape=choose(keys[3], np.arange(len(sprites.SHAPES), dtype=np.int32)),
      scale=choose(keys[4], SCALES),
      orientation=choose(keys[5], ORIENTATIONS),
      position=choose(keys[6], POSITIONS, (o, 2)),
      color=color,
      background=background,
    )

  def render(
    self, scene: Scene, resolution: tuple[int, int]
  ) -> scene_family.Rendering:
    """Renders a scene; a pixel shows the canvas point at its center.

    Args:
      scene: the scene.
      resolution: (H, W) in pixels; the image is stretched if they differ.

    Returns:
      A `Rendering`. Sprites that are absent or fully occluded do not occur in
      the segmentation and have visibility 0.

    Raises:
      ValueError: if H or W is below 1.
    """
    scene_family.check_resolution(resolution)
    h, w = resolution
    rows = (jnp.arange(h, dtype=jnp.float32) + 0.5) / h
    columns = (jnp.arange(w, dtype=jnp.float32) + 0.5) / w
    start, end = _CENTER_RANGE
    center = start + (end - start) * scene.position  # [O, 2]
    scale = scene.scale[:, None]
    y = ((rows[None] - center[:, :1]) / scale)[:, :, None]  # [O, H, 1]
    x = ((columns[None] - center[:, 1:]) / scale)[:, None, :]  # [O, 1, W]
    cos = jnp.cos(scene.orientation)[:, None, None]
    sin = jnp.sin(scene.orientation)[:, None, None]
    # Rows count downwards, so this turns the points clockwise, to the frame of
    # the upright sprite.
    inside = sprites.contains(scene.shape, cos * x - sin * y, sin * x + cos * y)
    inside &= scene.present[:, None, None]  # [O, H, W]
    index = jnp.arange(1, self.max_objects + 1, dtype=jnp.int32)
    # The last sprite on a pixel has the largest index.
    segmentation = jnp.where(inside, index[:, None, None], 0).max(axis=0)
    seen = segmentation[None] == index[:, None, None]  # [O, H, W]
    palette = jnp.concatenate([scene.background[None], scene.color])
    return scene_family.Rendering(
      image=(2.0 * palette - 1.0)[segmentation],  # [H, W, 3]
      segmentation=segmentation,
      visibility=seen.sum(axis=(1, 2), dtype=jnp.int32),
    )

  def targets(self, scene: Scene) -> jax.Array:
    """Property vectors of a scene: [O, 12] in the order of `LAYOUT`."""
    angle = scene.orientation
    values = {
      "coords": scene.position,
      "shape": scene.shape,
      "scale": scene.scale[:, None],
      "orientation": jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1),
      "color": scene.color,
    }
    return jnp.asarray(self.layout.encode(values, scene.present))

  def describe(
    self, scene: Scene, resolution: tuple[int, int]
  ) -> dict[str, jax.Array]:
    """Describes the sprites in dSprites' units; all zeros for padding.

    The original's features have one more row, for the background.

    Args:
      scene: the scene.
      resolution: (H, W) of the image; dSprites' units do not depend on it.

    Returns:
      `present` [O] bool; `x` and `y` [O] in dSprites' [0, 1]; `shape` [O]
      int32, 1 square, 2 ellipse, 3 heart; `color` [O, 3] RGB in [0, 1], for
      `"binarized"` [O, 1], 1 for white; `orientation` [O] in [0, 2 pi];
      `scale` [O] in [0.5, 1].
    """
    scene_family.check_resolution(resolution)
    channels = 1 if self.variant == "binarized" else 3
    real = scene.present
    return {
      "present": real,
      "x": jnp.where(real, scene.position[:, 1], 0.0),
      "y": jnp.where(real, scene.position[:, 0], 0.0),
      "shape": jnp.where(real, scene.shape + 1, 0),
      "color": jnp.where(real[:, None], scene.color[:, :channels], 0.0),
      "orientation": jnp.where(real, scene.orientation, 0.0),
      "scale": jnp.where(real, scene.scale, 0.0),
    }
