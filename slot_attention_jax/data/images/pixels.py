"""Pixels of image files, whatever their number of bits."""

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

FORMATS = ("PNG", "JPEG")
"""What is decoded: others have had more holes, and nobody stores scenes so."""
MOST_PIXELS = 2**26
"""Of one image: a small file can claim, and fill, any amount of memory."""
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
  _check_file(path)
  with path.open("rb") as file:
    header = file.read(26)
  if header.startswith(_PNG) and header[24] == 16 and header[25] != _GRAY:
    raise ValueError(
      f"Expected {path} to have gray values or 8 bits a channel, got 16 bits "
      "for each of several channels. Save it as 16-bit gray, or with 8 bits."
    )
  with _open(path) as image:
    return np.asarray(image)


def _check_file(path: pathlib.Path) -> None:
  """Raises if it is no file: opening a named pipe would wait for ever."""
  if path.is_file():
    return
  if path.is_dir():
    got = "a directory"
  elif path.is_symlink():
    got = f"a link to {path.readlink()}, which does not exist"
  else:
    got = "a device or pipe" if path.exists() else "nothing"
  raise ValueError(
    f"Expected an image file at {path}, found {got}. Rename it, take it out of "
    "the folder or put the image there."
  )


def _open(path: pathlib.Path):
  """Opens and decodes the image in a file."""
  _check_file(path)
  return open_image(path, str(path))


def open_image(source: Any, name: str, formats: Sequence[str] = FORMATS) -> Any:
  """Opens and decodes an image, by these decoders alone.

  Args:
    source: a path or a binary file.
    name: what it is, for the message.
    formats: of Pillow.

  Returns:
    An image of Pillow.

  Raises:
    ValueError: if it is no such image, is damaged, or has more than
      `MOST_PIXELS`, of which none is decoded.
  """
  from PIL import Image

  image = None
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", Image.DecompressionBombWarning)
      image = Image.open(source, formats=list(formats))
    if image.width * image.height > MOST_PIXELS:
      raise ValueError(
        f"it has {image.width} x {image.height} pixels, more than {MOST_PIXELS}"
      )
    image.load()
  # Pillow's decoders raise many kinds.
  except Exception as error:
    if image is not None:
      image.close()
    if isinstance(error, MemoryError):
      raise
    raise ValueError(
      f"Expected {name} to be an image ({', '.join(formats)}), but it cannot "
      f"be read: {error}."
    ) from error
  return image
