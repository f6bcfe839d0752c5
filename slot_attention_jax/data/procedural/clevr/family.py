"""The family of CLEVR scenes and of harder variants."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import transforms, types
from slot_attention_jax.data.procedural import scene_family
from slot_attention_jax.data.procedural.clevr import render as render_lib
from slot_attention_jax.data.procedural.clevr import sampling
from slot_attention_jax.data.procedural.clevr import scene as scene_lib
from slot_attention_jax.data.procedural.clevr import view as view_lib

SPLITS = ("cogent_a", "cogent_b")
"""CLEVR-CoGenT's conditions. In A, cubes are gray, blue, brown or yellow and
cylinders are red, green, purple or cyan; in B it is the other way around.
Spheres have any color."""
_CUBE_COLORS_A = ("gray", "blue", "brown", "yellow")
_CLEVR_OBJECTS = 10


@dataclasses.dataclass(frozen=True)
class Clevr:
  """CLEVR scenes: sampled by the original's rules, rendered by ray tracing.

  Attributes:
    num_objects: (lo, hi), the number of objects in a scene is uniform on this
      range; within 1 to 16.
    frame: (H, W) of the camera's frame: (240, 320) as in CLEVR with masks, or
      (320, 480) as in CLEVR itself.
    crop: part of the frame that is shown, as in `transforms.crop_window`:
      `"paper"`, `"literal"`, or None for all of it.
    textured: whether objects and backdrop have random textures, in the spirit
      of ClevrTex; an object's color is then the first of two.
    held_out: `"cogent_a"`, `"cogent_b"`, or `""` for all combinations of shape
      and color.

  Raises:
    ValueError: on a range out of bounds, or an unknown crop or condition.

  Example:
    >>> import jax
    >>> from slot_attention_jax.data.procedural import clevr
    >>> family = clevr.Clevr(crop="paper")
    >>> scene = jax.jit(family.sample)(jax.random.key(0))
    >>> rendering = jax.jit(lambda s: family.render(s, (32, 32)))(scene)
    >>> rendering.image.shape, rendering.segmentation.shape
    ((32, 32, 3), (32, 32))

  Source: Johnson et al., CLEVR, CVPR 2017; Karazija et al., ClevrTex, NeurIPS
  2021 Datasets and Benchmarks.
  """

  num_objects: tuple[int, int] = (3, _CLEVR_OBJECTS)
  frame: tuple[int, int] = (240, 320)
  crop: transforms.Crop = None
  textured: bool = False
  held_out: str = ""

  layout: ClassVar[types.PropertyLayout] = types.CLEVR_LAYOUT
  resolution: ClassVar[tuple[int, int]] = (128, 128)
  # Version 1 lit the backdrop at each pixel.
  version: ClassVar[int] = 2

  def __post_init__(self):
    lo, hi = self.num_objects
    if not 1 <= lo <= hi <= sampling.MAX_OBJECTS:
      raise ValueError(
        f"Expected num_objects (lo, hi) with 1 <= lo <= hi <= "
        f"{sampling.MAX_OBJECTS}, got {self.num_objects}. More objects do not "
        "fit on the floor."
      )
    if self.held_out not in ("", *SPLITS):
      raise ValueError(
        f"Expected held_out '' or one of {SPLITS}, got {self.held_out!r}."
      )
    if self.crop not in (None, "paper", "literal"):
      raise ValueError(
        f"Expected a crop 'paper', 'literal' or None, got {self.crop!r}."
      )
    self._view.window()

  @property
  def name(self) -> str:
    """Name of the data; says how the objects differ from plain CLEVR's."""
    parts = ["clevr_scenes"]
    if self.num_objects != (3, _CLEVR_OBJECTS):
      parts.append("{}_to_{}".format(*self.num_objects))
    if self.textured:
      parts.append("textured")
    if self.held_out:
      parts.append(self.held_out)
    return "_".join(parts)

  @property
  def max_objects(self) -> int:
    """O: 10 as in CLEVR, or more if scenes may have more."""
    return max(_CLEVR_OBJECTS, self.num_objects[1])

  @property
  def _view(self) -> view_lib.View:
    return view_lib.View(frame=self.frame, crop=self.crop)

  @property
  def _allowed(self) -> np.ndarray | None:
    """[3, 8] bool, colors allowed for each shape; None for all."""
    if not self.held_out:
      return None
    colors = self.layout["color"].labels
    cubes_a = np.array([color in _CUBE_COLORS_A for color in colors])
    cubes = cubes_a if self.held_out == "cogent_a" else ~cubes_a
    rows = {"cube": cubes, "sphere": np.ones_like(cubes), "cylinder": ~cubes}
    return np.stack([rows[shape] for shape in self.layout["shape"].labels])

  def sample(self, key: jax.Array) -> scene_lib.Scene:
    """Samples a scene; see `sampling.sample`.

    Args:
      key: typed PRNG key.

    Returns:
      A `Scene`.
    """
    return sampling.sample(
      key,
      num_objects=self.num_objects,
      max_objects=self.max_objects,
      shape_color_allowed=self._allowed,
    )

  def render(
    self, scene: scene_lib.Scene, resolution: tuple[int, int]
  ) -> scene_family.Rendering:
    """Renders a scene; see `render.render`.

    Args:
      scene: the scene.
      resolution: (H, W) in pixels.

    Returns:
      A `Rendering`.

    Raises:
      ValueError: if H or W is below 1.
    """
    return render_lib.render(
      scene, resolution, self._view, textured=self.textured
    )

  def targets(self, scene: scene_lib.Scene) -> jax.Array:
    """Property vectors [O, 19] of a scene; zeros for padding."""
    values = {
      "coords": scene.coords,
      "size": scene.size,
      "material": scene.material,
      "shape": scene.shape,
      "color": scene.color,
    }
    return jnp.asarray(self.layout.encode(values, scene.present))

  def describe(
    self, scene: scene_lib.Scene, resolution: tuple[int, int]
  ) -> dict[str, jax.Array]:
    """Describes the objects in CLEVR's units; all zeros for padding.

    Args:
      scene: the scene.
      resolution: (H, W) of the image.

    Returns:
      `present` [O] bool; `x`, `y`, `z` [O] of the centers; `pixel_coords`
      [O, 3], column and row in pixels of the image, and depth; `rotation`
      [O], CLEVR's number in [0, 360); `size`, `material`, `shape`, `color` [O]
      int32 ids as in the layout.
    """
    scene_family.check_resolution(resolution)
    top, bottom, left, right = self._view.window()
    where = scene_lib.project(scene.camera, scene.coords, self.frame)
    corner = np.array([left, top, 0.0], np.float32)
    scale = np.array(
      [resolution[1] / (right - left), resolution[0] / (bottom - top), 1.0],
      np.float32,
    )
    where = (where - corner[None]) * scale[None]
    return {
      "present": scene.present,
      "x": scene.coords[:, 0],
      "y": scene.coords[:, 1],
      "z": scene.coords[:, 2],
      "pixel_coords": jnp.where(scene.present[:, None], where, 0.0),
      "rotation": scene.rotation,
      "size": scene.size,
      "material": scene.material,
      "shape": scene.shape,
      "color": scene.color,
    }

  def extras(
    self, scene: scene_lib.Scene
  ) -> dict[str, jax.Array | dict[str, jax.Array]]:
    """The jittered locations of camera and lamps, which CLEVR's JSON lacks."""
    return {
      "camera_location": scene.camera,
      "lamp_locations": {
        "Lamp_Key": scene.key_light,
        "Lamp_Fill": scene.fill_light,
        "Lamp_Back": scene.back_light,
      },
    }
