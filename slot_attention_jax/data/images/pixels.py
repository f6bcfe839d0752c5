"""Pixels of image files, whatever their number of bits."""

import pathlib

import numpy as np

_PNG = b"\x89PNG\r\n\x1a\n"
_GRAY = 0  # The color type of a PNG that has gray values alone.


def read_rgb(path: pathlib.Path) -> np.ndarray:
  """Reads an image as [H, W, 3] uint8, turned as its EXIF tag says.

  Transparency is dropped. Of 16 bits a channel the upper 8 are kept.

  Args:
    path: of the file.

  Returns:
    The pixels.

  Raises:
    ValueError: if it is not an image.
  """
  from PIL import Image, ImageOps

  with _open(path) as image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
      # Of 16-bit gray values Pillow's own conversion would make white.
      gray = np.asarray(image).astype(np.int64) >> 8
      image = Image.fromarray(gray.astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def read_values(path: pathlib.Path) -> np.ndarray:
  """Reads gray values or palette indices [H, W], or colors [H, W, C], as is.

  Args:
    path: of the file.

  Returns:
    The values, integers.

  Raises:
    ValueError: if it is not an image, or one whose values Pillow would round.
  """
  with path.open("rb") as file:
    header = file.read(26)
  if header.startswith(_PNG) and header[24] == 16 and header[25] != _GRAY:
    raise ValueError(
      f"Expected {path} to have gray values or 8 bits a channel, got 16 bits "
      "for each of several channels. Save it as 16-bit gray, or with 8 bits."
    )
  with _open(path) as image:
    return np.asarray(image)


def _open(path: pathlib.Path):
  """Opens and decodes an image; ValueError if it cannot be read."""
  from PIL import Image

  try:
    image = Image.open(path)
    image.load()
  except (OSError, SyntaxError, Image.DecompressionBombError) as error:
    raise ValueError(
      f"Expected {path} to be an image, but it cannot be read: {error}."
    ) from error
  return image
