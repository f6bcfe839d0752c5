"""Figures of object discovery: how slots take images apart."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from slot_attention_jax import models
from slot_attention_jax.data import transforms
from slot_attention_jax.evaluation import figures, palette
from slot_attention_jax.evaluation.visualize import to_uint8

_BACKGROUND, _BORDER = 232, 90


def figure(
  images: np.ndarray,
  output: models.AutoEncoderOutput,
  grid: tuple[int, int],
  *,
  segmentation: np.ndarray | None = None,
  scores: Mapping[str, np.ndarray] | None = None,
  title: str = "",
) -> Any:
  """Draws a row for each image.

  Columns: the image; the true objects, each in the color of the slot that
  covers most of it; the prediction, every pixel in the color of its slot; the
  reconstruction; the attention of every iteration, upsampled; and each slot's
  image under its mask.

  Args:
    images: [B, H, W, 3] in [-1, 1].
    output: of the model, on the host.
    grid: (h, w) of the attention, N = h w.
    segmentation: [B, H, W] integers, 0 background; None: no ground truth.
    scores: [B] each, by their names, to stand beside the rows.
    title: above all.

  Returns:
    A figure of matplotlib.
  """
  masks = np.asarray(output.masks, np.float32)[..., 0]  # [B, K, H, W]
  slots = masks.argmax(axis=1)  # [B, H, W]
  columns = [_column("image", to_uint8(images))]
  if segmentation is not None:
    true = [true_colors(t, s) for t, s in zip(segmentation, slots, strict=True)]
    columns.append(_column("ground truth", true))
  columns += [
    _column("prediction", palette.slot_colors(slots)),
    _column("reconstruction", to_uint8(np.asarray(output.reconstruction))),
    *attention_columns(np.asarray(output.attention), grid, masks.shape[2:]),
    *slot_columns(np.asarray(output.images), masks),
  ]
  return figures.grid(columns, row_labels(scores or {}, len(images)), title)


def iterations_figure(
  attention: np.ndarray,
  size: tuple[int, int],
  *,
  image: np.ndarray,
  slot_images: np.ndarray | None = None,
  masks: np.ndarray | None = None,
  title: str = "",
) -> Any:
  """Draws the attention of every slot at every iteration, for one image.

  Rows: the iterations t = 1, ..., T; of an autoencoder also the slots' images
  under their masks. Columns: all slots in their colors, then each slot: the
  image under its attention.

  Args:
    attention: [T, K, h, w].
    size: (H, W) of the image.
    image: [H, W, 3] in [-1, 1].
    slot_images: [K, H, W, 3] in [-1, 1]; None of set predictors.
    masks: [K, H, W]; None of set predictors.
    title: above all.

  Returns:
    A figure of matplotlib.
  """
  maps = [upsampled(a, size) for a in attention]
  rows = [[palette.blend_slots(m) for m in maps]]
  pixels = to_uint8(image)
  for k in range(attention.shape[1]):
    rows.append([palette.on_checkerboard(pixels, m[k]) for m in maps])
  labels = [f"t = {t}" for t in range(1, len(maps) + 1)]
  if slot_images is not None and masks is not None:
    labels.append("decoded")
    rows[0].append(palette.slot_colors(masks.argmax(axis=0)))
    for k, column in enumerate(rows[1:]):
      column.append(palette.on_checkerboard(to_uint8(slot_images[k]), masks[k]))
  columns = [_column("all slots", rows[0])]
  columns += [
    figures.Column(title=f"slot {k + 1}", panels=r, slot=k, apart=not k)
    for k, r in enumerate(rows[1:])
  ]
  return figures.grid(columns, labels, title)


def attention_columns(
  attention: np.ndarray, grid: tuple[int, int], size: tuple[int, int]
) -> list[figures.Column]:
  """Columns of attention [B, T, K, N], one for each iteration."""
  b, t, k, _ = attention.shape
  maps = attention.reshape(b, t, k, *grid)
  return [
    figures.Column(
      title="attention t = 1" if i == 0 else f"t = {i + 1}",
      panels=[palette.blend_slots(upsampled(m[i], size)) for m in maps],
      apart=i == 0,
    )
    for i in range(t)
  ]


def slot_columns(
  slot_images: np.ndarray, masks: np.ndarray
) -> list[figures.Column]:
  """Columns of slots' images [B, K, H, W, 3] under masks [B, K, H, W]."""
  pixels = to_uint8(slot_images.astype(np.float32))
  return [
    figures.Column(
      title=f"slot {k + 1}",
      panels=[
        palette.on_checkerboard(p[k], m[k])
        for p, m in zip(pixels, masks, strict=True)
      ],
      slot=k,
      apart=k == 0,
    )
    for k in range(masks.shape[1])
  ]


def true_colors(true: np.ndarray, slots: np.ndarray) -> np.ndarray:
  """Paints true objects in the colors of the slots that cover them.

  Args:
    true: [H, W] integers, 0 background.
    slots: [H, W] integers, the predicted slots from 0.

  Returns:
    [H, W, 3] uint8: each object has the color of the slot with most of its
    pixels, with a dark border between objects; the background is light gray.
  """
  out = np.full((*true.shape, 3), _BACKGROUND, np.uint8)
  for i in np.unique(true[true > 0]):
    inside = true == i
    out[inside] = palette.slot_colors(np.bincount(slots[inside]).argmax())
  out[palette.outlines(true) & (true > 0)] = _BORDER
  return out


def upsampled(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Attention [K, h, w], upsampled bilinearly to [K, H, W]."""
  last = np.moveaxis(np.asarray(maps, np.float32), 0, -1)
  return np.moveaxis(transforms.resize_bilinear(last, size), -1, 0)


def row_labels(scores: Mapping[str, np.ndarray], count: int) -> list[str]:
  """Labels of rows: their scores, a line each; none without scores."""
  if not scores:
    return []
  return [
    "\n".join(
      f"{name} {round(float(values[i]), 2) + 0.0:.2f}"
      for name, values in scores.items()
    )
    for i in range(count)
  ]


def _column(title: str, panels: Any) -> figures.Column:
  return figures.Column(title=title, panels=list(panels))
