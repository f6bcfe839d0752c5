"""What figures show, as arrays in a file, for pages on which it is looked at.

Everything that is in [0, 1] or [-1, 1] is rounded to 8 bits: a tenth of the
size, and as much as an eye sees.
"""

import io
from typing import Any

import numpy as np

from slot_attention_jax import models, tasks
from slot_attention_jax.evaluation import examples
from slot_attention_jax.evaluation.visualize import to_uint8
from slot_attention_jax.runtime import files, storage

_LARGEST_GRID = 64


def collect(
  task: tasks.Task,
  shown: examples.Shown,
  scores: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
  """Collects what a figure shows.

  Args:
    task: the objective.
    shown: what is drawn.
    scores: [B] each, of the images, by their names.

  Returns:
    `image` [B, H, W, 3] uint8; `attention` [B, T, K, h, w] uint8, 255 is 1, its
    grid thinned out to 64 a side; of autoencoders `masks` [B, K, H, W] uint8
    and `reconstruction` [B, H, W, 3] uint8; of set predictors `predictions`
    [B, K, P]; where there is ground truth, `segmentation` [B, H, W] uint8 and,
    of set predictors, `target` [B, O, P]; and `score_NAME` [B].
  """
  output = shown.output
  attention = np.asarray(output.attention, np.float32)
  h, w = task.model.feature_grid(task.image_shape[:2], attention.shape[-1])
  step = -(-max(h, w) // _LARGEST_GRID)
  maps = attention.reshape(*attention.shape[:3], h, w)
  found: dict[str, np.ndarray] = {
    "image": to_uint8(shown.images),
    "attention": _to_bytes(maps[..., ::step, ::step]),
  }
  if isinstance(output, models.AutoEncoderOutput):
    found["masks"] = _to_bytes(np.asarray(output.masks)[..., 0])
    found["reconstruction"] = to_uint8(np.asarray(output.reconstruction))
  else:
    found["predictions"] = np.asarray(output.predictions, np.float32)
    if "target" in shown.truth:
      found["target"] = np.asarray(shown.truth["target"], np.float32)
  if "segmentation" in shown.truth:
    true = np.asarray(shown.truth["segmentation"])
    found["segmentation"] = np.clip(true, 0, 255).astype(np.uint8)
  for name, values in (scores or {}).items():
    found[f"score_{name}"] = np.asarray(values, np.float32)
  return found


def save(path: storage.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes arrays by name, compressed, atomically."""
  with files.atomic_write(path) as temporary, temporary.open("wb") as file:
    arguments: dict[str, Any] = dict(arrays)
    np.savez_compressed(file, **arguments)


def load(path: storage.Path) -> dict[str, np.ndarray]:
  """Reads what `save` wrote.

  Args:
    path: of the file.

  Returns:
    The arrays by name.

  Raises:
    OSError: if it cannot be read.
    ValueError: if it is damaged; it names the file.
  """
  # NumPy does not close a file that turns out to be damaged.
  packed = io.BytesIO(path.read_bytes())
  try:
    with np.load(packed, allow_pickle=False) as content:
      return {name: content[name] for name in content.files}
  # Damaged archives raise errors of zipfile, zlib and NumPy.
  except Exception as error:
    raise ValueError(
      f"Expected {path} to be arrays of an evaluation, but it is damaged: "
      f"{str(error).rstrip('.')}. Remove the file."
    ) from error


def _to_bytes(values: np.ndarray) -> np.ndarray:
  """Values in [0, 1] as bytes."""
  scaled = np.clip(values.astype(np.float32), 0.0, 1.0) * 255.0
  return np.round(scaled).astype(np.uint8)
