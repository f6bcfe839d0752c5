"""A CLEVR scene: its objects, lamps and camera.

The constants are those of the original generator (Johnson et al., CLEVR, CVPR
2017; `image_generation/data/base_scene.blend` and `properties.json` of
facebookresearch/clevr-dataset-gen). Lengths are in Blender units; z is up and
the floor is at z = 0.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

RADII = (0.35, 0.7)
"""Half extent of a small and a large object of any shape. The released code
intends to shrink cubes by sqrt(2) but compares with an outdated name; in the
published images cubes have their full size."""

PALETTE = np.array(
  [
    (87, 87, 87),
    (42, 75, 215),
    (129, 74, 25),
    (255, 238, 51),
    (173, 35, 35),
    (29, 105, 20),
    (129, 38, 192),
    (41, 208, 208),
  ],
  np.float32,
) / np.float32(255.0)
"""[8, 3] in [0, 1]: base colors of the shaders, in the order of
`types.CLEVR_LAYOUT`: gray, blue, brown, yellow, red, green, purple, cyan."""

CAMERA = (7.481131553649902, -6.5076398849487305, 5.34366512298584)
"""Location of the camera before its jitter."""
KEY_LIGHT = (6.446710109710693, -2.905174732208252, 4.258398056030273)
"""Location of the key lamp before its jitter."""
FILL_LIGHT = (-4.671124458312988, -4.01359748840332, 3.0112245082855225)
"""Location of the fill lamp before its jitter."""
BACK_LIGHT = (-1.168501377105713, 2.646024465560913, 5.815736770629883)
"""Location of the back lamp before its jitter."""

RIGHT = (0.6563112735748291, 0.7544902563095093, 0.0)
"""Direction "right" on the floor, for the camera before its jitter: the
original reads the camera's matrix before Blender has updated it."""
BEHIND = (-0.754490315914154, 0.6563112735748291, 0.0)
"""Direction "behind" on the floor, for the camera before its jitter."""

LENS = 35.0
"""Focal length in mm."""
SENSOR = 32.0
"""Width in mm of the sensor, which spans the longer side of the image."""


@flax.struct.dataclass
class Scene:
  """Objects, lamps and camera of one scene.

  Padding comes last and is zero. The camera and the lamps point at the origin
  from their jittered locations.

  Attributes:
    coords: [O, 3], centers; x and y in [-3, 3], z is the object's radius.
    rotation: [O] in [0, 360), the number that CLEVR's JSON gives as degrees. A
      quirk of the original: objects are rotated by this number of *radians*;
      see `angle`.
    size: [O] int32, 0 small, 1 large; see `RADII`.
    material: [O] int32, 0 rubber, 1 metal.
    shape: [O] int32, 0 cube, 1 sphere, 2 cylinder.
    color: [O] int32, index into `PALETTE`.
    texture_seed: [O + 1] uint32, seeds of the textures of the objects and,
      last, of the backdrop; used only if the family is textured.
    present: [O] bool, False for padding.
    camera: [3], location.
    key_light: [3], location.
    fill_light: [3], location.
    back_light: [3], location.
  """

  coords: jax.Array
  rotation: jax.Array
  size: jax.Array
  material: jax.Array
  shape: jax.Array
  color: jax.Array
  texture_seed: jax.Array
  present: jax.Array
  camera: jax.Array
  key_light: jax.Array
  fill_light: jax.Array
  back_light: jax.Array

  @property
  def radius(self) -> jax.Array:
    """[O], half extent of each object; that of a small object for padding."""
    return jnp.asarray(RADII)[self.size]

  @property
  def angle(self) -> jax.Array:
    """[O] radians in [0, 2 pi), the actual rotation about z."""
    return jnp.mod(self.rotation, 2.0 * np.pi)


def camera_axes(camera: Any) -> tuple[Any, Any, Any]:
  """Axes of a camera that looks at the origin and has a level horizon.

  Args:
    camera: [3], location, an array of JAX or NumPy; not directly above or below
      the origin.

  Returns:
    Three unit vectors [3]: right and up in the image, and forward.
  """
  xp = _namespace(camera)
  forward = -camera / xp.linalg.norm(camera)
  x, y, _ = forward
  right = xp.stack([y, -x, xp.zeros_like(x)]) / xp.hypot(x, y)
  return right, xp.cross(right, forward), forward


def _namespace(array: Any) -> Any:
  """`numpy` for its arrays, which need no program for each operation."""
  return np if isinstance(array, np.ndarray) else jnp


def focal_length(resolution: tuple[int, int]) -> float:
  """Focal length in pixels at a resolution (H, W)."""
  return LENS / SENSOR * max(resolution)


def project(camera: Any, points: Any, resolution: tuple[int, int]) -> Any:
  """Projects points onto the image.

  Rounded, these are the `pixel_coords` of CLEVR's JSON.

  Args:
    camera: [3], location of the camera, an array of JAX or NumPy.
    points: [..., 3], in front of the camera; an array of the same.
    resolution: (H, W) of the image.

  Returns:
    [..., 3]: column and row in pixels, where the upper left corner of the image
    is (0, 0) and pixel (0, 0) has its center at (0.5, 0.5); and depth along
    the viewing direction.
  """
  h, w = resolution
  offset = [points[..., i] - camera[i] for i in range(3)]
  # Sums of products instead of a matmul, which accelerators may round to 8-11
  # bits.
  x, y, depth = (
    sum(offset[i] * axis[i] for i in range(3)) for axis in camera_axes(camera)
  )
  scale = focal_length(resolution) / depth
  xp = _namespace(camera)
  return xp.stack([0.5 * w + scale * x, 0.5 * h - scale * y, depth], axis=-1)
