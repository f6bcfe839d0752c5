"""The part of the camera's frame that an image shows."""

import flax.struct

from slot_attention_jax.data import transforms
from slot_attention_jax.data.procedural import scene_family
from slot_attention_jax.data.procedural.clevr import geometry, scene, tiles


@flax.struct.dataclass
class View:
  """The part of the camera's frame that an image shows.

  Attributes:
    frame: (H, W) of the whole frame in pixels.
    crop: as in `transforms.crop_window`: `"paper"`, `"literal"`, or None for
      the whole frame.
  """

  frame: tuple[int, int] = flax.struct.field(
    pytree_node=False, default=(240, 320)
  )
  crop: transforms.Crop = flax.struct.field(pytree_node=False, default=None)

  def window(self) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) in pixels of the frame.

    Raises:
      ValueError: if the frame is empty or too small for the crop.
    """
    scene_family.check_resolution(self.frame)
    if self.crop is None:
      return 0, self.frame[0], 0, self.frame[1]
    return transforms.crop_window(*self.frame, literal=self.crop == "literal")


def get_camera(
  s: scene.Scene, resolution: tuple[int, int], view: View
) -> tiles.Camera:
  """The camera of a scene, in pixels of the image rather than of the frame."""
  top, bottom, left, right = view.window()
  rows, columns = (bottom - top) / resolution[0], (right - left) / resolution[1]
  scale = 1.0 / scene.focal_length(view.frame)
  axes = scene.camera_axes(s.camera)
  across, up, forward = (geometry.Vector.of(axis) for axis in axes)
  corner = (
    forward
    + across * (scale * (left - 0.5 * view.frame[1]))
    + up * (scale * (0.5 * view.frame[0] - top))
  )
  return tiles.Camera(
    eye=geometry.Vector.of(s.camera),
    corner=corner,
    column=across * (scale * columns),
    row=up * (-scale * rows),
  )
