"""Colors of slots, which color-blind people tell apart, and a checkerboard."""

from typing import Any

import numpy as np

COLORS = np.array(
  [
    # Okabe and Ito's, without black.
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    # Those that differ most from these and each other, for people with
    # deuteranopia and protanopia too.
    (51, 34, 136),
    (144, 232, 176),
    (122, 20, 20),
    (120, 80, 240),
    (80, 40, 80),
    (160, 240, 120),
    (240, 0, 80),
    (80, 240, 240),
    (40, 40, 200),
  ],
  np.uint8,
)
"""[16, 3]: slot k, from 0, has color k modulo 16."""


def slot_colors(slots: Any) -> np.ndarray:
  """Colors [..., 3] uint8 of slots, integers [...] from 0."""
  return COLORS[np.asarray(slots) % len(COLORS)]


def blend_slots(masks: np.ndarray) -> np.ndarray:
  """Mixes the slots' colors by their masks.

  Args:
    masks: [K, H, W] in [0, 1], sum to 1 over K.

  Returns:
    [H, W, 3] uint8.
  """
  colors = slot_colors(np.arange(len(masks))).astype(np.float32)
  mixed = np.einsum("khw,kc->hwc", np.asarray(masks, np.float32), colors)
  return np.round(np.clip(mixed, 0, 255)).astype(np.uint8)


def checkerboard(h: int, w: int) -> np.ndarray:
  """A gray checkerboard [h, w, 1] uint8 of about 12 squares a side."""
  side = max(1, round(min(h, w) / 12))
  y, x = np.mgrid[:h, :w] // side
  return np.where((y + x) % 2, 235, 205).astype(np.uint8)[..., None]


def on_checkerboard(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Puts an image [H, W, 3] uint8 under a mask [H, W] on a checkerboard."""
  mask = np.asarray(mask, np.float32)[..., None]
  board = checkerboard(*image.shape[:2])
  return np.round(mask * image + (1.0 - mask) * board).astype(np.uint8)


def outlines(segments: np.ndarray) -> np.ndarray:
  """Where segments [H, W] border on the right or below: [H, W] bool."""
  edge = np.zeros(segments.shape, bool)
  edge[:, :-1] |= segments[:, :-1] != segments[:, 1:]
  edge[:-1] |= segments[:-1] != segments[1:]
  return edge
