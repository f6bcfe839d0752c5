"""Which part of an image is kept."""

from typing import Literal

import numpy as np

# The reference crops 240 x 320 images to these rows and columns.
_PAPER_TOP, _PAPER_LEFT, _PAPER_SIDE, _PAPER_HEIGHT = 29, 64, 192, 240

Crop = Literal["paper", "literal", "center"] | None


def crop_window(
  height: int, width: int, literal: bool = False
) -> tuple[int, int, int, int]:
  """The paper's square window around the objects of a CLEVR image.

  The window was chosen for images of 240 x 320. For other sizes it is scaled
  by `height / 240` and, as on 240 x 320, centered horizontally.

  Args:
    height: rows of the image.
    width: columns of the image.
    literal: take rows 29:221 and columns 64:256 whatever the size, as the
      reference's code does. On 320 x 480 images, which TFDS gives, that is a
      tighter window off the center.

  Returns:
    `(top, bottom, left, right)`: the window is `[top:bottom, left:right]`.

  Raises:
    ValueError: if the window does not lie within the image.

  Example:
    >>> from slot_attention_jax.data import crops
    >>> crops.crop_window(240, 320)
    (29, 221, 64, 256)
    >>> crops.crop_window(320, 480)
    (39, 295, 112, 368)
    >>> crops.crop_window(320, 480, literal=True)
    (29, 221, 64, 256)

  Source: `preprocess_clevr` in `slot_attention/data.py` of the reference.
  """
  if literal:
    top, left, side = _PAPER_TOP, _PAPER_LEFT, _PAPER_SIDE
  else:
    side = round(height * _PAPER_SIDE / _PAPER_HEIGHT)
    top = round(height * _PAPER_TOP / _PAPER_HEIGHT)
    left = (width - side) // 2
  bottom, right = top + side, left + side
  if side < 1 or left < 0 or bottom > height or right > width:
    raise ValueError(
      f"Expected a crop window within an image of {height} x {width}, got rows "
      f"{top}:{bottom} and columns {left}:{right} of the "
      f"{'literal' if literal else 'scaled'} one. Use another crop, or None "
      "for none."
    )
  return top, bottom, left, right


def crop_box(height: int, width: int, crop: Crop) -> tuple[int, int, int, int]:
  """The part of an image that a crop keeps.

  Args:
    height: rows of the image.
    width: columns of the image.
    crop: see `transforms.preprocess_image`.

  Returns:
    `(top, bottom, left, right)`: the part is `[top:bottom, left:right]`.

  Raises:
    ValueError: if the crop is unknown or does not lie within the image.

  Example:
    >>> from slot_attention_jax.data import crops
    >>> crops.crop_box(240, 320, "center")
    (0, 240, 40, 280)
  """
  if crop not in (None, "paper", "literal", "center"):
    raise ValueError(
      f"Expected a crop of 'paper', 'literal', 'center' or None, got {crop!r}."
    )
  if crop is None:
    return 0, height, 0, width
  if crop == "center":
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return top, top + side, left, left + side
  return crop_window(height, width, literal=crop == "literal")


def cropped(image: np.ndarray, crop: Crop) -> np.ndarray:
  """The part of an image or a segmentation that a crop keeps."""
  height, width = image.shape[:2]
  top, bottom, left, right = crop_box(height, width, crop)
  return image[top:bottom, left:right]
