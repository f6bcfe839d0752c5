"""Crops, resizing and normalization of images, as the reference does them."""

import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import crops, types

Crop = crops.Crop
crop_window = crops.crop_window
crop_box = crops.crop_box


@dataclasses.dataclass(frozen=True)
class ImageSpec:
  """How the images of a dataset are prepared, and where they are kept.

  Attributes:
    resolution: (h, w) of the images, in pixels.
    crop: see `preprocess_image`.
    cache_dir: the directory of all caches; None for
      `cache.default_directory()`.
  """

  resolution: tuple[int, int]
  crop: Crop = None
  cache_dir: str | os.PathLike[str] | None = None


@functools.lru_cache(maxsize=64)
def _interpolation(
  in_size: int, out_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Lower index, upper index and weight of the upper one, each [out_size]."""
  # float32 throughout, in TensorFlow's order of operations.
  scale = np.float32(in_size) / np.float32(out_size)
  half = np.float32(0.5)
  position = (np.arange(out_size, dtype=np.float32) + half) * scale - half
  floor = np.floor(position)
  lower = np.maximum(floor.astype(np.int64), 0)
  upper = np.minimum(floor.astype(np.int64) + 1, in_size - 1)
  weight = (position - floor).astype(np.float32)
  for array in (lower, upper, weight):
    array.flags.writeable = False  # The cache hands out the same arrays.
  return lower, upper, weight


def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Resizes bilinearly, with half-pixel centers and without antialiasing.

  Equals `tf.image.resize(image, size)`. Written out because no library gives
  the same bits: Pillow antialiases; `jax.image.resize(antialias=False)` and
  `scipy.ndimage.zoom(order=1)` round otherwise, which changes up to 1% of the
  pixels of a cache by a gray level, and the one compiles for each size of an
  image, the other takes four times as long.

  Args:
    image: [H, W, C], any real dtype.
    size: (h, w) of the result.

  Returns:
    [h, w, C] float32.

  Raises:
    ValueError: if the image is not [H, W, C] or a size is not positive.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.data import transforms
    >>> image = np.array([0.0, 1.0, 2.0, 3.0]).reshape(1, 4, 1)
    >>> transforms.resize_bilinear(image, (1, 2)).ravel().tolist()
    [0.5, 2.5]
  """
  if image.ndim != 3:
    raise ValueError(f"Expected an image [H, W, C], got shape {image.shape}.")
  height, width, _ = image.shape
  if min(*size, height, width) < 1:
    raise ValueError(
      f"Expected sizes of at least 1, got {height} x {width} to {size}."
    )
  x0, x1, wx = _interpolation(width, size[1])
  y0, y1, wy = _interpolation(height, size[0])
  wx, wy = wx[None, :, None], wy[:, None, None]
  image = np.asarray(image, np.float32)
  left = np.take(image, x0, axis=1)  # [H, w, C]
  right = np.take(image, x1, axis=1)  # [H, w, C]
  rows = left + (right - left) * wx
  top = np.take(rows, y0, axis=0)  # [h, w, C]
  bottom = np.take(rows, y1, axis=0)  # [h, w, C]
  return top + (bottom - top) * wy


def normalize(image: types.Array) -> Any:
  """Maps gray levels to `[-1, 1]`.

  Works on NumPy arrays (returns NumPy) and on JAX arrays, also under jit.

  Args:
    image: [...], uint8 or float, in [0, 255].

  Returns:
    [...] float32 in [-1, 1].
  """
  xp: Any = jnp if isinstance(image, jax.Array) else np
  level = xp.asarray(image, dtype=np.float32)
  return (level / np.float32(255) - np.float32(0.5)) * np.float32(2)


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Rounds an image [...] in [-1, 1] to gray levels [...] uint8."""
  return np.round((np.clip(image, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def preprocess_image(
  image: np.ndarray, resolution: tuple[int, int], crop: Crop
) -> np.ndarray:
  """Crops, resizes and normalizes one image, as the reference does.

  Args:
    image: [H, W, 3] uint8.
    resolution: (h, w) of the result. The aspect ratio is not kept.
    crop: `"paper"` for the paper's window scaled to the image, `"literal"`
      for the reference's literal rows and columns, `"center"` for the largest
      square in the middle, None for the whole image.

  Returns:
    [h, w, 3] float32 in [-1, 1].

  Raises:
    ValueError: if the image is not [H, W, 3] uint8, the crop is unknown or it
      does not lie within the image.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.data import transforms
    >>> image = np.full((240, 320, 3), 255, np.uint8)
    >>> out = transforms.preprocess_image(image, (128, 128), crop="paper")
    >>> out.shape, float(out.min())
    ((128, 128, 3), 1.0)

  Source: `preprocess_clevr` in `slot_attention/data.py` of the reference.
  """
  if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
    raise ValueError(
      f"Expected an image [H, W, 3] uint8, got {image.shape} {image.dtype}."
    )
  # The reference normalizes before it crops; per pixel that is the same.
  image = normalize(crops.cropped(image, crop))
  return np.clip(resize_bilinear(image, resolution), -1.0, 1.0)


def preprocess(
  images: np.ndarray,
  resolution: tuple[int, int] | None = None,
  crop: Crop = None,
) -> np.ndarray:
  """Makes the input of a model of images as files have them.

  Args:
    images: [B, H, W, 3] uint8, or [H, W, 3] of one image.
    resolution: (h, w) that the model takes, in pixels; None: (H, W), or the
      size of the crop.
    crop: which part is resized: `"center"`, the largest square; `"paper"`, the
      paper's window of CLEVR, scaled to the image; `"literal"`, rows 29:221
      and columns 64:256; None: all.

  Returns:
    [B, h, w, 3] float32 in [-1, 1], with B = 1 for one image.

  Raises:
    ValueError: on other shapes or dtypes, or a crop that does not fit.

  Example:
    >>> import numpy as np
    >>> import slot_attention_jax as sa
    >>> image = np.full((240, 320, 3), 255, np.uint8)
    >>> x = sa.preprocess(image, (128, 128), crop="center")
    >>> x.shape, float(x.max())
    ((1, 128, 128, 3), 1.0)
  """
  images = np.asarray(images)
  if images.ndim == 3:
    images = images[None]
  if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
    remedy = ""
    if images.dtype.kind == "f":
      remedy = " Floats in [-1, 1] need no preprocessing but the right size."
    raise ValueError(
      "Expected images [B, H, W, 3] or one [H, W, 3] of uint8, got "
      f"{images.shape} {images.dtype}.{remedy}"
    )
  if not len(images):
    raise ValueError("Expected at least one image, got none.")
  size = resolution or crops.cropped(images[0], crop).shape[:2]
  return np.stack([preprocess_image(x, size, crop) for x in images])


def preprocess_segmentation(
  segmentation: np.ndarray, resolution: tuple[int, int], crop: Crop
) -> np.ndarray:
  """Crops and resizes a segmentation as `preprocess_image` does its image.

  Each pixel takes the id at its center, as `tf.image.resize(method="nearest")`.

  Args:
    segmentation: [H, W] integers.
    resolution: (h, w) of the result.
    crop: see `preprocess_image`.

  Returns:
    [h, w] int32.

  Raises:
    ValueError: if the segmentation is not [H, W] of integers or the crop does
      not exist or does not lie within it.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.data import transforms
    >>> ids = np.arange(6)[None].repeat(6, axis=0)
    >>> transforms.preprocess_segmentation(ids, (1, 2), crop=None).tolist()
    [[1, 4]]
  """
  if segmentation.ndim != 2 or segmentation.dtype.kind not in "iu":
    raise ValueError(
      "Expected a segmentation [H, W] of integers, got "
      f"{segmentation.shape} {segmentation.dtype}."
    )
  if min(resolution) < 1:
    raise ValueError(f"Expected sizes of at least 1, got {resolution}.")
  segmentation = crops.cropped(segmentation, crop)
  rows, columns = (
    (2 * np.arange(out) + 1) * size // (2 * out)
    for out, size in zip(resolution, segmentation.shape, strict=True)
  )
  return segmentation[rows[:, None], columns[None]].astype(np.int32)
