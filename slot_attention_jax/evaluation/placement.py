"""Where things are in an image: of masks, of attention, of 3D coordinates."""

import numpy as np

from slot_attention_jax.data import transforms, types

Window = tuple[int, int, int, int]
"""(top, bottom, left, right) in pixels, as of `transforms.crop_box`."""

# TFDS's CLEVR, and its aspect ratios: 320 x 480 and the generator's 240 x 320.
_CLEVR_FRAME = (320, 480)
_CLEVR_ASPECTS = (3 / 2, 4 / 3)


def to_image(
  masks: np.ndarray, size: tuple[int, int], window: Window
) -> np.ndarray:
  """Puts masks of what a model saw back into the image.

  Args:
    masks: [K, h, w], of the window.
    size: (H, W) of the image.
    window: the part of the image that the model saw.

  Returns:
    [K, H, W] float32, resized bilinearly; 0 outside the window.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.evaluation import placement
    >>> masks = np.ones((1, 2, 2))
    >>> placement.to_image(masks, (2, 4), (0, 2, 1, 3))[0].tolist()
    [[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]
  """
  top, bottom, left, right = window
  out = np.zeros((len(masks), *size), np.float32)
  inside = transforms.resize_bilinear(
    np.moveaxis(masks, 0, -1), (bottom - top, right - left)
  )
  out[:, top:bottom, left:right] = np.moveaxis(inside, -1, 0)
  return out


def slot_numbers(masks: np.ndarray) -> np.ndarray:
  """Numbers of the slots with the largest masks.

  Args:
    masks: [..., K, H, W].

  Returns:
    [..., H, W] uint8 in 1 to K; 0 where all masks are 0.
  """
  numbers = masks.argmax(axis=-3) + 1
  return np.where(masks.max(axis=-3) > 0, numbers, 0).astype(np.uint8)


def attention_centers(attention: np.ndarray, window: Window) -> np.ndarray:
  """Centers of attention in the image.

  They are centers of mass of the attention's fourth power, as those of
  `modules.attention_moments`, so that the little attention that every slot has
  everywhere does not count.

  Args:
    attention: [K, h, w] of one iteration.
    window: the part of the image that the model saw.

  Returns:
    [K, 2] float32, column and row in pixels; pixel (0, 0) has its center at
    (0.5, 0.5).
  """
  top, bottom, left, right = window
  _, h, w = attention.shape
  most = attention.max(axis=(1, 2), keepdims=True)
  weights = (attention / np.maximum(most, 1e-12)) ** 4
  weights = weights / (weights.sum(axis=(1, 2), keepdims=True) + 1e-12)
  x = (weights.sum(axis=1) * (np.arange(w) + 0.5)).sum(axis=1) / w
  y = (weights.sum(axis=2) * (np.arange(h) + 0.5)).sum(axis=1) / h
  points = np.stack([left + x * (right - left), top + y * (bottom - top)], -1)
  return points.astype(np.float32)


def has_camera(data: str, layout: types.PropertyLayout | None) -> bool:
  """Whether coordinates of a layout can be projected onto images of the data.

  Args:
    data: name of the data that the model was trained on.
    layout: of the predictions.

  Returns:
    True for CLEVR and its synthetic scenes, whose camera is known up to its
    jitter.
  """
  return (
    data.startswith("clevr")
    and layout is not None
    and layout.position == "coords"
    and layout["coords"].size == 3
  )


def project(coords: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Projects CLEVR's coordinates by its camera, before the camera's jitter.

  Args:
    coords: [..., 3] in CLEVR's units.
    size: (H, W) of the image: a whole frame of CLEVR, of any size. One that
      has none of its aspect ratios is taken for a squeezed frame of 3:2.

  Returns:
    [..., 2] float32, column and row in pixels; pixel (0, 0) has its center at
    (0.5, 0.5). They are off by as much as the camera was moved: up to a
    twentieth of the width.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.evaluation import placement
    >>> placement.project(np.zeros((1, 3)), (320, 480)).round(3).tolist()
    [[240.0, 160.0]]
  """
  # The renderer, which only set predictors of CLEVR need.
  from slot_attention_jax.data.procedural.clevr import scene

  height, width = size
  whole = any(abs(width / height - a) < 0.02 for a in _CLEVR_ASPECTS)
  frame = (height, width) if whole else _CLEVR_FRAME
  camera, points = (np.asarray(a, np.float32) for a in (scene.CAMERA, coords))
  points = np.asarray(scene.project(camera, points, frame))[..., :2]
  scale = np.array([width / frame[1], height / frame[0]], np.float32)
  return points * scale
