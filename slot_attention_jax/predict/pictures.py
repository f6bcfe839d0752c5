"""Pictures of predictions: segments, overlay, slots, the overview."""

import pathlib
from typing import Any

import numpy as np

from slot_attention_jax import models
from slot_attention_jax.evaluation import (
  decomposition,
  object_figure,
  palette,
)
from slot_attention_jax.predict import predictions as predictions_lib
from slot_attention_jax.runtime import files

# Pictures are enlarged by whole factors to about this height in pixels.
_MIN_SIZE = 384
# A strip of a few rows is not enlarged beyond this.
_MOST_WIDTH = 4096


def save_segments(path: pathlib.Path, numbers: np.ndarray) -> None:
  """Writes slot numbers [H, W] uint8 as a PNG with a palette, lossless.

  A pixel's index is the number of its slot, from 1, or 0 outside the window;
  viewers show the slots' colors.
  """
  from PIL import Image

  colors = np.zeros((256, 3), np.uint8)
  colors[1:] = palette.slot_colors(np.arange(255))
  image = Image.fromarray(np.ascontiguousarray(numbers))
  image.putpalette(colors.tobytes())
  with files.atomic_write(path) as temporary:
    image.save(temporary, format="PNG")


def overlay(image: np.ndarray, numbers: np.ndarray) -> np.ndarray:
  """Slots over an image, enlarged if it is small.

  Args:
    image: [H, W, 3] uint8.
    numbers: [H, W] uint8 slot numbers from 1; 0 outside the window.

  Returns:
    [H', W', 3] uint8: tinted with the slots' colors, with outlines; darkened
    outside the window.
  """
  factor = enlargement(image)
  image, numbers = (enlarge(x, factor) for x in (image, numbers))
  colors = palette.slot_colors(numbers.astype(np.int32) - 1)
  colors = np.where(numbers[..., None] > 0, colors, np.uint8(0))
  mixed = (6 * image.astype(np.uint16) + 4 * colors.astype(np.uint16)) // 10
  edge = palette.outlines(numbers)[..., None]
  return np.where(edge, np.uint8(255), mixed.astype(np.uint8))


def save_slot(path: pathlib.Path, image: np.ndarray, mask: np.ndarray) -> None:
  """Writes an image [H, W, 3] uint8 with a mask [H, W] as its opacity."""
  alpha = np.round(255 * np.clip(mask, 0, 1)).astype(np.uint8)
  files.save_png(path, np.concatenate([image, alpha[..., None]], axis=-1))


def overview(found: predictions_lib.Predictions, most: int) -> Any:
  """Draws the figure of the first images, at most this many."""
  trained = found.trained
  grid = found.attention.shape[-2:]
  rows = slice(0, most)
  attention = found.attention[rows].reshape(
    *found.attention[rows].shape[:3], -1
  )
  title = f"{trained.name}, K = {found.num_slots}, T = {found.num_iterations}"
  images, slots = found.images[rows], found.slots[rows]
  # Output classes hold arrays of any kind.
  options: dict[str, Any] = {"attention": attention, "slots": slots}
  if found.reconstruction is not None and found.slot_images is not None:
    options |= {
      "reconstruction": found.reconstruction[rows],
      "images": found.slot_images[rows],
      "masks": found.masks[rows, ..., None],
    }
    output = models.AutoEncoderOutput(**options)
    return decomposition.figure(images, output, grid, title=title)
  assert found.predictions is not None
  assert trained.layout is not None
  options["predictions"] = found.predictions[rows]
  return object_figure.figure(
    images,
    models.ClassifierOutput(**options),
    grid,
    trained.layout,
    data=trained.data,
    title=title,
  )


def iterations(found: predictions_lib.Predictions, i: int, title: str) -> Any:
  """Draws the attention of all slots and iterations for image i."""
  images = found.slot_images
  return decomposition.iterations_figure(
    found.attention[i],
    found.images.shape[1:3],
    image=found.images[i],
    slot_images=None if images is None else images[i],
    masks=None if images is None else found.masks[i],
    title=title,
  )


def enlargement(image: np.ndarray) -> int:
  """The whole factor by which an image [H, W, ...] is enlarged."""
  height, width = image.shape[:2]
  return max(1, min(round(_MIN_SIZE / height), _MOST_WIDTH // width))


def enlarge(image: np.ndarray, factor: int | None = None) -> np.ndarray:
  """Enlarges an image by a whole factor, so that its pixels stay sharp.

  Args:
    image: [H, W, ...].
    factor: of both sides; None: `enlargement` of the image.

  Returns:
    [factor * H, factor * W, ...].
  """
  factor = enlargement(image) if factor is None else factor
  return image.repeat(factor, axis=0).repeat(factor, axis=1)
