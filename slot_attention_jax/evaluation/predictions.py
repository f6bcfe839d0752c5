"""Predictions of other programs, scored as those of the package's models."""

import dataclasses
import pathlib
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import types
from slot_attention_jax.evaluation import visualize
from slot_attention_jax.tasks import object_discovery, scores

_MOST_SEGMENTS = 256  # Each is a column of a table with a row per pixel.
_KEYS = ("segments", "masks", "reconstruction", "predictions")


def load_predictions(path: str) -> dict[str, np.ndarray]:
  """Reads an `.npz` of predictions.

  Args:
    path: the file. Its arrays have a row for each example of the split, in
      their order. For object discovery `segments` [N, H, W], integer slots
      from 0, or `masks` [N, K, H, W] or [N, K, H, W, 1], of which the largest
      counts; and, if reconstructions are to be scored too, `reconstruction`
      [N, H, W, 3] in [-1, 1]. For set prediction `predictions` [N, K, P].

  Returns:
    The arrays; `masks` are made `segments`, and `num_slots` tells K.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is no such file.
  """
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    raise FileNotFoundError(f"Expected a file of predictions, found no {file}.")
  try:
    with file.open("rb") as stream:
      content = np.load(stream)
      if not isinstance(content, np.lib.npyio.NpzFile):
        raise ValueError("it holds a single array")
      arrays = {k: content[k] for k in content.files if k in _KEYS}
  except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
    raise ValueError(
      f"Expected {file} to be an .npz of arrays, which numpy.savez writes, but "
      f"it cannot be read: {error}."
    ) from error
  if not {"segments", "masks", "predictions"} & set(arrays):
    raise ValueError(
      f"Expected 'segments', 'masks' or 'predictions' in {file}, got "
      f"{sorted(arrays)}."
    )
  if "masks" in arrays:
    masks = arrays.pop("masks")
    masks = masks[..., 0] if masks.ndim == 5 else masks
    if masks.ndim != 4:
      raise ValueError(
        f"Expected masks [N, K, H, W] in {file}, got {masks.shape}."
      )
    arrays["num_slots"] = np.array(masks.shape[1])
    arrays["segments"] = masks.argmax(axis=1)
  elif "segments" in arrays:
    segments = arrays["segments"]
    if segments.dtype.kind not in "iu" or segments.min() < 0:
      raise ValueError(
        f"Expected segments in {file} to be integers from 0, got "
        f"{segments.dtype} from {segments.min()}."
      )
    if segments.max() >= _MOST_SEGMENTS:
      raise ValueError(
        f"Expected segments in {file} below {_MOST_SEGMENTS}, got "
        f"{segments.max()}. Number those of each image from 0."
      )
    arrays["num_slots"] = np.array(int(segments.max()) + 1)
  return arrays


def score(
  task: Any, path: str, dataset: types.Dataset
) -> tuple[Any, dict[str, np.ndarray]]:
  """Scores predictions against a split.

  Args:
    task: what says how, in full.
    path: as of `load_predictions`.
    dataset: the split.

  Returns:
    A pair (the task, with the K of the predictions; results of each example
    [N, ...], for `task.summarize`).

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the predictions do not fit the data.
  """
  _check_one_process()
  arrays = load_predictions(path)
  info = dataset.info
  height, width = info.image_shape[:2]
  discovery = isinstance(task, object_discovery.ObjectDiscovery)
  task_name = "discovery" if discovery else "set_prediction"
  expected: dict[str, tuple[int | None, ...]] = (
    {"segments": (info.num_examples, height, width)}
    if discovery
    else {"predictions": (info.num_examples, None, task.layout.size)}
  )
  if "reconstruction" in arrays:
    expected["reconstruction"] = (info.num_examples, height, width, 3)
  for name, shape in expected.items():
    if name not in arrays:
      raise ValueError(
        f"Expected {name!r} in {path} for task={task_name!r}, got "
        f"{sorted(arrays)}."
      )
    got = arrays[name].shape
    if len(got) != len(shape) or any(
      a not in (None, b) for a, b in zip(shape, got, strict=True)
    ):
      raise ValueError(
        f"Expected {name} {list(shape)} for {info.name}/{info.split} (None: "
        f"any), got {list(got)} in {path}. --mode=export writes the images "
        "that they must be of."
      )
  if discovery and not task.max_objects:
    raise ValueError(
      f"Expected data with masks, got {info.name}/{info.split}, which has none."
    )
  slots = arrays["num_slots" if discovery else "predictions"]
  num_slots = int(slots) if discovery else slots.shape[1]
  task = dataclasses.replace(task, num_slots=num_slots)
  step = jax.jit(lambda batch, rows: _score(task, batch, rows))
  collected: dict[str, list[np.ndarray]] = {}
  for i in range(dataset.num_batches or 0):
    batch = dataset.batch(i)
    valid = np.asarray(batch.pop("valid"))
    rows = i * dataset.batch_size + np.arange(dataset.batch_size)
    rows = np.where(valid, rows, 0)
    parts = {k: arrays[k][rows] for k in expected}
    for name, values in jax.device_get(step(batch, parts)).items():
      collected.setdefault(name, []).append(np.asarray(values)[valid])
  return task, {k: np.concatenate(v) for k, v in collected.items()}


def _score(task, batch, rows):
  """Scores a batch; pure."""
  if not isinstance(task, object_discovery.ObjectDiscovery):
    return task.score(jnp.asarray(rows["predictions"]), batch["target"])
  results = {}
  if "reconstruction" in rows:
    results |= scores.reconstruction_scores(
      rows["reconstruction"], batch["image"]
    )
  return results | scores.segmentation_scores(
    batch["segmentation"],
    rows["segments"],
    max_objects=task.max_objects,
    num_slots=task.num_slots,
  )


def export_examples(dataset: types.Dataset, path: pathlib.Path) -> int:
  """Writes the examples of a split, for other programs to predict on.

  Args:
    dataset: the split.
    path: of the `.npz`: `image` [N, H, W, 3] uint8 and, where there are any,
      `segmentation` [N, H, W] uint8 and `target` [N, O, P] float32.

  Returns:
    N.

  Raises:
    ValueError: if several processes run.
  """
  _check_one_process()
  collected: dict[str, list[np.ndarray]] = {}
  for i in range(dataset.num_batches or 0):
    batch = jax.device_get(dataset.batch(i))
    valid = batch.pop("valid")
    for name, values in batch.items():
      if name == "image":
        values = visualize.to_uint8(values)
      elif name == "segmentation":
        values = values.astype(np.uint8)
      collected.setdefault(name, []).append(values[valid])
  arrays = {k: np.concatenate(v) for k, v in collected.items()}
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.tmp")
  with temporary.open("wb") as file:
    np.savez_compressed(file, **arrays)  # pyright: ignore
  temporary.replace(path)
  return len(arrays["image"])


def _check_one_process() -> None:
  if jax.process_count() > 1:
    raise ValueError(
      f"Expected one process, got {jax.process_count()}. Run it without "
      "--distributed."
    )
