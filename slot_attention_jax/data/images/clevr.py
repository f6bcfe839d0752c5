"""CLEVR as TensorFlow Datasets prepares it: where it is, splits and batches.

The order of the examples is that of their file names, whatever the format and
the shards, so the splits are the same wherever the data was prepared.
"""

import os
from typing import Any, Literal

import jax
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


def find_clevr(
  data_dir: str | os.PathLike[str] | None, *, required: bool = False
) -> Any | None:
  """Finds a prepared `clevr:3.1.0`.

  Args:
    data_dir: TFDS's data directory, or the directory `.../clevr/3.1.0` in it.
      None looks in `$TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.
    required: whether it is an error if there is none in the default place.

  Returns:
    The TFDS builder of the prepared data; None if `data_dir` is None, there is
    none in the default place and none is required.

  Raises:
    FileNotFoundError: if the data are not there, and `data_dir` was named or
      they are required.
  """
  version = clevr_records.VERSION
  builder = tfds_files.find_builder("clevr", version, data_dir)
  if builder is not None or (data_dir is None and not required):
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
    "installed. Leave data.data_dir empty to look in TFDS's default place and, "
    "if there is nothing and data.fallback is True, to use the package's own "
    "scenes."
  )


def _select(
  cached: cache.Cache,
  split: str,
  num_train_eval: int,
  max_objects: int | None,
  limit: int | None,
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
        "and train and train_eval both need some. Change it."
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
  return rows[:limit]


def create_clevr(
  builder: Any,
  split: str,
  *,
  task: Literal["discovery", "set_prediction"],
  resolution: tuple[int, int],
  crop: transforms.Crop,
  max_objects: int | None,
  batch_size: int,
  sharding: jax.sharding.NamedSharding,
  seed: int,
  train: bool,
  cache_dir: str | os.PathLike[str] | None = None,
  on_device: bool | Literal["auto"] = "auto",
  num_train_eval: int = 512,
  limit: int | None = None,
) -> cached_dataset.CachedDataset:
  """CLEVR's batches.

  Args:
    builder: TFDS builder of the prepared data, from `find_clevr`.
    split: `"train"`, `"train_eval"`, `"validation"` or `"test"`. By the order
      of the file names `train_eval` is the first `num_train_eval` examples of
      TFDS's train and `train` is the others.
    task: `"set_prediction"` needs the annotations, which `test` lacks.
    resolution: (h, w) of the images.
    crop: see `transforms.preprocess_image`.
    max_objects: keep scenes with at most so many objects, counted over the
      whole scene and not within the crop; None keeps all.
    batch_size: B, over all devices.
    sharding: how batches lie on the devices.
    seed: decides the order in training.
    train: endless and shuffled, or one pass in order.
    cache_dir: the directory of all caches; None for
      `cache.default_directory()`.
    on_device: whether to hold the split in device memory, see
      `cached_dataset.CachedDataset`.
    num_train_eval: how many of TFDS's train examples are held out.
    limit: keep only the first so many examples; None keeps all.

  Returns:
    The dataset. Batches hold `"image"`, and `"target"` [B, 10, 19] unless the
    split is `test`.

  Raises:
    ValueError: if an argument is not one of those above, no example is left,
      or the task or the filter needs annotations that the split lacks.
    FileNotFoundError: if a file of the split is missing.
  """
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
  if limit is not None and limit < 1:
    raise ValueError(f"Expected a limit of at least 1 or None, got {limit}.")
  cached = clevr_records.load_split(
    builder,
    _SPLITS[split],
    resolution=resolution,
    crop=crop,
    cache_dir=cache_dir,
  )
  rows = _select(cached, split, num_train_eval, max_objects, limit)
  names = ("image", "target") if annotated else ("image",)
  info = types.DatasetInfo(
    name=f"clevr:{builder.info.version}",
    split=split,
    image_shape=(*resolution, 3),
    num_examples=len(rows),
    layout=types.CLEVR_LAYOUT if annotated else None,
    max_objects=clevr_records.MAX_OBJECTS if annotated else 0,
  )
  return cached_dataset.CachedDataset(
    {name: cached.arrays[name] for name in names},
    rows,
    info,
    batch_size=batch_size,
    sharding=sharding,
    seed=seed,
    shuffle=train,
    on_device=on_device,
  )
