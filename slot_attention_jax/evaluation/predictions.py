"""Predictions of other codebases, scored like those of the package's models."""

import dataclasses
import math
import os
import pathlib

import jax
import numpy as np

from slot_attention_jax import tasks
from slot_attention_jax.data import types
from slot_attention_jax.evaluation import visualize
from slot_attention_jax.runtime import files, storage

# Each is a column of the contingency tables.
_MAX_SEGMENTS = 256
# Models need not clip their output to [-1, 1].
_MAX_RECONSTRUCTION = 4.0
_KEYS = ("segments", "masks", "reconstruction", "predictions")


def load_predictions(
  path: str, most_values: int | None = None
) -> dict[str, np.ndarray]:
  """Reads an `.npz` of predictions.

  Args:
    path: the file. Its arrays have a row for each example of the split, in
      their order. For object discovery `segments` [N, H, W], integer slots
      from 0, or `masks` [N, K, H, W] or [N, K, H, W, 1], of which the largest
      counts; and, if reconstructions are to be scored too, `reconstruction`
      [N, H, W, 3] in [-1, 1]. For set prediction `predictions` [N, K, P].
    most_values: that an array may have, in any case no more than half of the
      machine's memory holds: a small file can claim, and hold, any number.

  Returns:
    The arrays; `masks` become `segments`, and `num_slots` is K.

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
      names = [k for k in content.files if k in _KEYS]
      for name in names:
        _check_size(content, name, most_values)
      arrays = {name: content[name] for name in names}
  # zipfile, zlib and numpy raise many kinds on damaged files.
  except Exception as error:
    if isinstance(error, MemoryError | PermissionError):
      raise
    raise ValueError(
      f"Expected {file} to be an .npz of arrays, which numpy.savez writes, but "
      f"it cannot be read: {error}."
    ) from error
  if not {"segments", "masks", "predictions"} & set(arrays):
    raise ValueError(
      f"Expected 'segments', 'masks' or 'predictions' in {file}, got "
      f"{sorted(arrays)}."
    )
  for name, values in arrays.items():
    _check_values(name, values, file)
  if "masks" in arrays:
    masks = arrays.pop("masks")
    masks = masks[..., 0] if masks.ndim == 5 else masks
    if masks.ndim != 4:
      raise ValueError(
        f"Expected masks [N, K, H, W] in {file}, got {masks.shape}."
      )
    arrays["segments"] = masks.argmax(axis=1)
    arrays["num_slots"] = np.array(masks.shape[1])
  elif "segments" in arrays:
    arrays["num_slots"] = np.array(int(arrays["segments"].max()) + 1)
  elif arrays["predictions"].ndim == 3:
    arrays["num_slots"] = np.array(arrays["predictions"].shape[1])
  return arrays


def _memory() -> int:
  """Bytes of memory that the machine has."""
  if hasattr(os, "sysconf"):  # Windows has none.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return 16 * 2**30


def _check_size(
  content: np.lib.npyio.NpzFile, name: str, most_values: int | None
) -> None:
  """Raises ValueError on an array that is too large, before it is read."""
  if content.zip is None:
    raise ValueError("it is closed")
  members = content.zip.namelist()
  member = f"{name}.npy" if f"{name}.npy" in members else name
  with content.zip.open(member) as stream:
    version = np.lib.format.read_magic(stream)
    read = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
      raise ValueError(f"{name} has the unknown format {version}")
    shape, _, dtype = read[version](stream)
  if dtype.hasobject:
    raise ValueError(f"{name} has Python objects, which are not read")
  count = math.prod(shape)
  claimed = content.zip.getinfo(member).file_size
  most = _memory() // 2 // max(1, dtype.itemsize)
  most_values = most if most_values is None else min(most, most_values)
  if count > most_values or count * dtype.itemsize > claimed:
    raise ValueError(
      f"{name} claims the shape {list(shape)} in {claimed:,} bytes, where at "
      f"most {most_values:,} values can be meant"
    )


def _check_values(name: str, values: np.ndarray, file: pathlib.Path) -> None:
  """Raises ValueError on values that cannot be what the name says."""
  where = f"{name} in {file}"
  if not values.size:
    raise ValueError(f"Expected {where} to have values, got {values.shape}.")
  if name == "segments":
    if values.dtype.kind not in "iu" or values.min() < 0:
      raise ValueError(
        f"Expected {where} to be integers from 0, got {values.dtype} from "
        f"{values.min()}."
      )
    if values.max() >= _MAX_SEGMENTS:
      raise ValueError(
        f"Expected {where} below {_MAX_SEGMENTS}, got {values.max()}. Number "
        "those of each image from 0."
      )
    return
  kinds = "fiub" if name == "masks" else "f"
  if values.dtype.kind not in kinds:
    remedy = ""
    if name == "reconstruction":
      remedy = " Convert uint8 images by x / 127.5 - 1."
    raise ValueError(
      f"Expected {where} to be {'numbers' if name == 'masks' else 'floats'}, "
      f"got {values.dtype}.{remedy}"
    )
  if not np.isfinite(values).all():
    raise ValueError(
      f"Expected {where} to be finite, got NaN or infinity in "
      f"{np.count_nonzero(~np.isfinite(values))} of {values.size} values."
    )
  if name == "reconstruction" and np.abs(values).max() > _MAX_RECONSTRUCTION:
    raise ValueError(
      f"Expected {where} to be in [-1, 1], as the images are, got values from "
      f"{values.min():g} to {values.max():g}. Convert values of 0 to 255 by "
      "x / 127.5 - 1."
    )


def score(
  task: tasks.Task, path: str, dataset: types.Dataset
) -> tuple[tasks.Task, dict[str, np.ndarray]]:
  """Scores predictions against a split.

  Args:
    task: how they are scored.
    path: see `load_predictions`.
    dataset: the split.

  Returns:
    A pair (the task, with the K of the predictions; results of each example
    [N, ...], for `task.summarize`).

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the predictions do not fit the data.
  """
  _check_one_process()
  height, width, _ = dataset.info.image_shape
  per_example = max(height * width, 256) * _MAX_SEGMENTS
  arrays = load_predictions(
    path, (dataset.info.num_examples or 1) * per_example
  )
  arrays = _select(arrays, task.prediction_shapes, dataset.info, path)
  task = dataclasses.replace(task, num_slots=int(arrays.pop("num_slots")))
  step = jax.jit(task.score)
  collected: dict[str, list[np.ndarray]] = {}
  for i in range(dataset.num_batches or 0):
    batch = dataset.batch(i)
    valid = np.asarray(batch.pop("valid"))
    rows = i * dataset.batch_size + np.arange(dataset.batch_size)
    rows = np.where(valid, rows, 0)
    if i == 0 and "reconstruction" in arrays:
      _check_range(arrays["reconstruction"], batch["image"], path)
    predicted = {k: values[rows] for k, values in arrays.items()}
    for name, values in jax.device_get(step(predicted, batch)).items():
      collected.setdefault(name, []).append(np.asarray(values)[valid])
  return task, {k: np.concatenate(v) for k, v in collected.items()}


def _select(
  arrays: dict[str, np.ndarray],
  shapes: dict[str, tuple[int | None, ...]],
  info: types.DatasetInfo,
  path: str,
) -> dict[str, np.ndarray]:
  """The arrays that a task scores, and `num_slots`; checks their shapes."""
  required = next(iter(shapes))
  if required not in arrays:
    raise ValueError(
      f"Expected {required!r} in {path}, which the task of the config scores, "
      f"got {sorted(arrays.keys() - {'num_slots'})}."
    )
  selected = {}
  for name, example_shape in shapes.items():
    if name not in arrays:
      continue
    shape, got = (info.num_examples, *example_shape), arrays[name].shape
    if len(got) != len(shape) or any(
      a not in (None, b) for a, b in zip(shape, got, strict=True)
    ):
      raise ValueError(
        f"Expected {name} {list(shape)} for {info.name}/{info.split} (None: "
        f"any), got {list(got)} in {path}. --mode=export writes the images "
        "that they must be of."
      )
    selected[name] = arrays[name]
  return selected | {"num_slots": arrays["num_slots"]}


def _check_range(
  reconstruction: np.ndarray, images: jax.Array, path: str
) -> None:
  """Raises ValueError if reconstructions of dark pixels are in [0, 1]."""
  low, darkest = float(reconstruction.min()), float(np.min(images))
  if low >= 0 and darkest < -0.5:
    raise ValueError(
      f"Expected reconstruction in {path} to be in [-1, 1], as the images are, "
      f"got values from {low:g} on, where the images have {darkest:g}. Convert "
      "values of 0 to 1 by 2 * x - 1."
    )


def export_examples(dataset: types.Dataset, path: storage.Path) -> int:
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
  with files.atomic_write(path) as temporary, temporary.open("wb") as file:
    np.savez_compressed(file, **arrays)  # pyright: ignore
  return len(arrays["image"])


def _check_one_process() -> None:
  if jax.process_count() > 1:
    raise ValueError(
      f"Expected one process, got {jax.process_count()}. Run it without "
      "--distributed."
    )
