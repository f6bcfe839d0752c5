"""Images of what the models do."""

import numpy as np

from slot_attention_jax import models


def to_uint8(images: np.ndarray) -> np.ndarray:
  """Images [..., H, W, 3] in [-1, 1] to uint8, clipped."""
  return np.round((np.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def _tile(rows: list[list[np.ndarray]], scale: int, gap: int = 2) -> np.ndarray:
  """Joins uint8 tiles [H, W, 3] of one size, enlarged, with white gaps."""
  padding = [(gap, 0), (gap, 0), (0, 0)]
  lines = []
  for row in rows:
    tiles = [t.repeat(scale, axis=0).repeat(scale, axis=1) for t in row]
    tiles = [np.pad(t, padding, constant_values=255) for t in tiles]
    lines.append(np.concatenate(tiles, axis=1))
  image = np.concatenate(lines, axis=0)
  return np.pad(image, [(0, gap), (0, gap), (0, 0)], constant_values=255)


# Matplotlib's tab10, without its gray, then its lighter twins.
_PALETTE = np.array(
  [
    (31, 119, 180),
    (255, 127, 14),
    (44, 160, 44),
    (214, 39, 40),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (188, 189, 34),
    (23, 190, 207),
    (174, 199, 232),
    (255, 187, 120),
    (152, 223, 138),
    (255, 152, 150),
    (197, 176, 213),
    (196, 156, 148),
    (247, 182, 210),
  ],
  np.uint8,
)


def output_grid(
  images: np.ndarray,
  output: models.AutoEncoderOutput | models.ClassifierOutput,
) -> np.ndarray:
  """The grid that shows the output of a model.

  Args:
    images: [B, H, W, 3] in [-1, 1].
    output: of the model on these images, on the host.

  Returns:
    `decomposition_grid` of an autoencoder, else `attention_grid`.
  """
  if isinstance(output, models.AutoEncoderOutput):
    return decomposition_grid(images, output)
  return attention_grid(images, np.asarray(output.attention))


def decomposition_grid(
  images: np.ndarray, output: models.AutoEncoderOutput, *, min_size: int = 96
) -> np.ndarray:
  """A grid with one row per image: how the slots decompose it.

  Columns: image, reconstruction, segmentation by the largest mask (one color
  per slot), then each slot's image, masked, on white.

  Args:
    images: [B, H, W, 3] in [-1, 1].
    output: of the autoencoder, on the host.
    min_size: tiles are enlarged by whole factors to about this height, px.

  Returns:
    An image [H', W', 3] uint8.

  Raises:
    ValueError: if images and output do not belong together.
  """
  if images.shape != output.reconstruction.shape:
    raise ValueError(
      f"Expected images {output.reconstruction.shape}, got {images.shape}."
    )
  masks = np.asarray(output.masks, np.float32)
  slot_images = np.clip(np.asarray(output.images, np.float32), -1.0, 1.0)
  segmentation = masks[..., 0].argmax(axis=1)
  rows = []
  for b in range(images.shape[0]):
    row = [
      to_uint8(np.asarray(images[b])),
      to_uint8(np.asarray(output.reconstruction[b])),
      _PALETTE[segmentation[b] % len(_PALETTE)],
    ]
    for k in range(masks.shape[1]):
      row.append(to_uint8(masks[b, k] * slot_images[b, k] + 1.0 - masks[b, k]))
    rows.append(row)
  scale = max(1, round(min_size / images.shape[1]))
  return _tile(rows, scale)


def attention_grid(
  images: np.ndarray, attention: np.ndarray, *, min_size: int = 96
) -> np.ndarray:
  """A grid with one row per image: the attention of the last iteration.

  Args:
    images: [B, H, W, 3] in [-1, 1].
    attention: [B, T, K, N] with N a grid of the images' aspect.
    min_size: tiles are enlarged by whole factors to about this height, px.

  Returns:
    An image [H', W', 3] uint8: image, then it under each slot's attention.

  Raises:
    ValueError: if N is no grid that fits the images.
  """
  _, h, w, _ = images.shape
  n = attention.shape[-1]
  rows = round((n * h / w) ** 0.5)
  if rows < 1 or n % rows:
    raise ValueError(f"Expected a grid of aspect {h}:{w}, got N = {n} inputs.")
  grid = attention[:, -1].reshape(*attention.shape[:1], -1, rows, n // rows)
  y = np.arange(h) * rows // h
  x = np.arange(w) * (n // rows) // w
  grid = grid[:, :, y][:, :, :, x][..., None]  # [B, K, H, W, 1]
  tiles = []
  for image, maps in zip(np.asarray(images), np.asarray(grid), strict=True):
    shaded = [to_uint8(m * image + (1.0 - m)) for m in maps]
    tiles.append([to_uint8(image), *shaded])
  return _tile(tiles, max(1, round(min_size / h)))


def scene_grid(
  images: np.ndarray,
  segmentations: np.ndarray,
  *,
  columns: int = 4,
  min_size: int = 96,
) -> np.ndarray:
  """A grid of scenes, each image next to its segmentation.

  Args:
    images: [B, H, W, 3] uint8.
    segmentations: [B, H, W] integers, 0 background (black), i = object i.
    columns: scenes in a row.
    min_size: tiles are enlarged by whole factors to about this height, px.

  Returns:
    An image [H', W', 3] uint8.

  Raises:
    ValueError: if images and segmentations do not belong together.
  """
  if not len(images) or images.shape[:3] != segmentations.shape:
    raise ValueError(
      f"Expected segmentations {images.shape[:3]} of at least 1 image, got "
      f"{segmentations.shape}."
    )
  colors = _PALETTE[(segmentations - 1) % len(_PALETTE)]
  colors = np.where(segmentations[..., None] > 0, colors, np.uint8(0))
  tiles = [t for pair in zip(images, colors, strict=True) for t in pair]
  width = 2 * min(columns, len(images))
  tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % width)
  rows = [tiles[i : i + width] for i in range(0, len(tiles), width)]
  return _tile(rows, max(1, round(min_size / images.shape[1])))
