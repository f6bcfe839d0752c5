"""CLEVR as TensorFlow Datasets prepares it: where it is, splits and batches.

The order of the examples is that of their file names, whatever the format and
the shards, so the splits are the same wherever the data were prepared.
"""

import os
from typing import Any, Literal

import numpy as np

from slot_attention_jax.data import cache, cached_dataset, transforms, types
from slot_attention_jax.data.images import clevr_records, tfds_files

# Splits of this module, and the TFDS split that each one is taken from.
_SPLITS = {
  "train": "train",
  "train_eval": "train",
  "validation": "validation",
  "test": "test",
}


def is_prepared(data_dir: str | os.PathLike[str] | None = None) -> bool:
  """Whether there is a prepared CLEVR; arguments as in `find_builder`."""
  version = clevr_records.VERSION
  return tfds_files.find_directory("clevr", version, data_dir) is not None


def find_builder(data_dir: str | os.PathLike[str] | None = None) -> Any:
  """Finds a prepared `clevr:3.1.0`.

  Args:
    data_dir: TFDS's data directory, or the directory `.../clevr/3.1.0` in it.
      None looks in `$TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.

  Returns:
    The TFDS builder of the prepared data.

  Raises:
    FileNotFoundError: if there is none; it says how to prepare the data.
  """
  version = clevr_records.VERSION
  builder = tfds_files.find_builder("clevr", version, data_dir)
  if builder is not None:
    return builder
  root = tfds_files.root_directory(data_dir)
  raise FileNotFoundError(
    f"Expected a prepared clevr:{version} in {root}, but there is no "
    f"clevr/{version}/dataset_info.json in it. To download (18 GB) and prepare "
    "the data:\n"
    "  pip install 'slot_attention_jax[tf]'\n"
    '  python -c "import tensorflow_datasets as tfds; '
    f"tfds.builder('clevr', data_dir={root!r}).download_and_prepare()\"\n"
    "or, for array_record instead of tfrecord (both are read without "
    f"TensorFlow), tfds.builder('clevr', data_dir={root!r}, "
    "file_format='array_record'). `tfds build clevr --data_dir=... "
    "[--file_format=array_record]` does the same where apache-beam is "
    "installed. To use synthetic scenes instead, set data.name=clevr_scenes."
  )


def open(
  data_dir: str | os.PathLike[str] | None,
  split: str,
  images: transforms.ImageSpec,
  batching: cached_dataset.Batching,
  *,
  task: Literal["discovery", "set_prediction"],
  max_objects: int | None = None,
  num_train_eval: int = 512,
) -> cached_dataset.CachedDataset:
  """Opens CLEVR: finds it, decodes it on the first use, and makes batches.

  Args:
    data_dir: see `find_builder`.
    split: `"train"`, `"train_eval"`, `"validation"` or `"test"`. By the order
      of the file names `train_eval` is the first `num_train_eval` examples of
      TFDS's train and `train` is the others.
    images: how the images are cropped, resized and cached.
    batching: how examples become batches.
    task: `"set_prediction"` needs the annotations, which `test` lacks.
    max_objects: keep scenes with at most this many objects, counted over the
      whole scene and not within the crop; None keeps all.
    num_train_eval: how many of TFDS's train examples are held out.

  Returns:
    The dataset. Batches hold `"image"`, and `"target"` [B, 10, 19] unless the
    split is `test`.

  Raises:
    FileNotFoundError: if there is no prepared CLEVR, or a file of it is
      missing.
    ValueError: if an argument is not one of those above, no example is left,
      or the task or the filter needs annotations that the split lacks.
  """
  builder = find_builder(data_dir)
  annotated = check_split(split, task, max_objects)
  cached = clevr_records.load_split(builder, _SPLITS[split], images)
  rows = _select(cached, split, num_train_eval, max_objects)
  info = types.DatasetInfo(
    name=f"clevr:{builder.info.version}",
    split=split,
    image_shape=(*images.resolution, 3),
    num_examples=len(rows),
    layout=types.CLEVR_LAYOUT if annotated else None,
    max_objects=clevr_records.MAX_OBJECTS if annotated else 0,
  )
  return cached_dataset.from_cache(cached, rows, info, batching)


def check_split(split: str, task: str, max_objects: int | None) -> bool:
  """Whether a split has annotations; arguments and errors as of `open`."""
  if split not in _SPLITS:
    raise ValueError(f"Expected a split of {list(_SPLITS)}, got {split!r}.")
  if task not in ("discovery", "set_prediction"):
    raise ValueError(
      f"Expected task 'discovery' or 'set_prediction', got {task!r}."
    )
  annotated = split != "test"
  if not annotated and task == "set_prediction":
    raise ValueError(
      "CLEVR's test split has no annotations, so there is nothing to predict "
      "or to score. Use the validation split for set prediction."
    )
  if not annotated and max_objects is not None:
    raise ValueError(
      "CLEVR's test split has no annotations, so its objects cannot be counted "
      f"for data.max_objects={max_objects}. Use the validation split, or None."
    )
  return annotated


def _select(
  cached: cache.Cache,
  split: str,
  num_train_eval: int,
  max_objects: int | None,
) -> np.ndarray:
  """Rows [n] of a split, in the order of the file names."""
  names = np.asarray(cached.arrays["file_name"])
  rows = np.argsort(names, kind="stable").astype(np.int64)
  if len(np.unique(names)) != len(names):
    raise ValueError(f"File names repeat in {cached.directory}.")
  if _SPLITS[split] == "train":
    if not 0 < num_train_eval < len(rows):
      raise ValueError(
        f"Expected data.tfds.num_train_eval in [1, {len(rows) - 1}], got "
        f"{num_train_eval}: the prepared train split has {len(rows)} examples, "
        "and train and train_eval both need some."
      )
    # The split comes before the filter, so that it is the same for any filter.
    held_out, others = rows[:num_train_eval], rows[num_train_eval:]
    rows = others if split == "train" else held_out
  if max_objects is not None:
    counts = np.asarray(cached.arrays["num_objects"])[rows]
    rows = rows[counts <= max_objects]
    if not len(rows):
      raise ValueError(
        f"No scene of CLEVR's {split} has {max_objects} or fewer objects; the "
        f"fewest are {counts.min()}. Raise data.max_objects."
      )
  return rows
