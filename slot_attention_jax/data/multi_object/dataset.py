"""Multi-object datasets as `data.prepare` leaves them: splits and batches.

They are DeepMind's multi_object_datasets: CLEVR with masks, Multi-dSprites,
Tetrominoes and Objects Room.
"""

import dataclasses
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from slot_attention_jax.data import (
  cache,
  cached_dataset,
  prefetch,
  transforms,
  types,
)
from slot_attention_jax.data.images import clevr_records, pixels, tfds_files
from slot_attention_jax.data.multi_object import layouts, splits

VERSION = "1.0.0"
NAMES = tuple(layouts.LAYOUTS)
# Part of the fingerprint: raise it when `_decode` gives other values.
_PREPROCESSING = 1
_BATCH = 256
_CLEVR = "clevr_with_masks"


def background_rule(name: str) -> str:
  """What counts as background in a dataset, in words."""
  if layouts.get_layout(name).background_parts > 1:
    return "sky, floor and walls together, the first four masks"
  return "the first mask"


def is_prepared(
  name: str, variant: str, data_dir: str | os.PathLike[str] | None = None
) -> bool:
  """Whether a dataset was prepared; arguments as in `find_builder`."""
  variant = layouts.resolve_variant(name, variant)
  path = tfds_files.find_directory(name, VERSION, data_dir, variant=variant)
  return path is not None


def find_builder(
  name: str, variant: str, data_dir: str | os.PathLike[str] | None = None
) -> Any:
  """Finds a dataset that `data.prepare` prepared.

  Args:
    name: one of `NAMES`.
    variant: of the dataset; "" for the default one.
    data_dir: see `tfds_files.find_directory`.

  Returns:
    The TFDS builder of the prepared data.

  Raises:
    FileNotFoundError: if there is none; it says how to prepare the data.
    ValueError: on an unknown variant.
  """
  variant = layouts.resolve_variant(name, variant)
  builder = tfds_files.find_builder(name, VERSION, data_dir, variant=variant)
  if builder is not None:
    return builder
  root = tfds_files.root_directory(data_dir)
  choice = f" --variant={variant}" if variant else ""
  raise FileNotFoundError(
    f"Expected a prepared {_full_name(name, variant)} in {root}, found none. "
    "To download and prepare it:\n  python -m slot_attention_jax.data.prepare "
    f"--name={name}{choice} --data_dir={root}\nor, from a file that you have, "
    "with --source=FILE."
  )


def open(
  data_dir: str | os.PathLike[str] | None,
  split: str,
  images: transforms.ImageSpec,
  batching: cached_dataset.Batching,
  *,
  name: str,
  variant: str = "",
  max_objects: int | None = None,
) -> cached_dataset.CachedDataset:
  """Opens a multi-object dataset: finds it, decodes it once, makes batches.

  Args:
    data_dir: see `find_builder`.
    split: as `splits.find_split` knows them.
    images: how images and segmentations are cropped, resized and cached.
    batching: how examples become batches.
    name: one of `NAMES`.
    variant: of the dataset; "" for the default one.
    max_objects: keep scenes of up to this many objects, counted over the whole
      scene and not within the crop; None keeps all. CLEVR only; the filter in
      the name of a split has precedence.

  Returns:
    The dataset. Batches hold `"image"`, `"segmentation"` (0 background, i =
    object i, of the whole scene, so an object may have no pixel) and, for
    CLEVR, `"target"` [B, 10, 19].

  Raises:
    FileNotFoundError: if the data were not prepared.
    ValueError: on an unknown split or variant, a split that lies beyond the
      last record of the prepared data, or one of which no scene passes the
      filter.
  """
  builder, cut, stop = find_records(
    data_dir, split, name=name, variant=variant, max_objects=max_objects
  )
  variant = layouts.resolve_variant(name, variant)
  (stored,) = builder.info.splits  # One each.
  cached = _load(builder, stored, name, range(cut.first, stop), images)
  rows = np.arange(stop - cut.first)
  if cut.max_objects is not None:
    counts = np.asarray(cached.arrays["num_objects"])
    rows = rows[counts <= cut.max_objects]
    if not len(rows):
      raise ValueError(
        f"No scene of {cut.name!r} has {cut.max_objects} or fewer objects; the "
        f"fewest are {counts.min()}. Raise data.max_objects."
      )
  rows = rows[: cut.limit]
  info = dataclasses.replace(
    describe(name, variant, cut.name, images.resolution),
    name=_data_name(builder, name, variant),
    num_examples=len(rows),
  )
  return cached_dataset.from_cache(cached, rows, info, batching)


def describe(
  name: str, variant: str, split: str, resolution: tuple[int, int]
) -> types.DatasetInfo:
  """What is known of a dataset before it is opened."""
  layout = layouts.get_layout(name, layouts.resolve_variant(name, variant))
  return types.DatasetInfo(
    name=name,
    split=split,
    image_shape=(*resolution, 3),
    num_examples=None,
    layout=types.CLEVR_LAYOUT if name == _CLEVR else None,
    max_objects=layout.num_entities - layout.background_parts,
    has_segmentation=True,
  )


def find_records(
  data_dir: str | os.PathLike[str] | None,
  split: str,
  *,
  name: str,
  variant: str,
  max_objects: int | None,
) -> tuple[Any, splits.Split, int]:
  """Finds the records of a split; arguments and errors as of `open`.

  Returns:
    A triple (TFDS builder, what was asked for, one past the last record).
  """
  builder = find_builder(name, variant, data_dir)
  variant = layouts.resolve_variant(name, variant)
  cut = splits.find_split(name, split, variant=variant, max_objects=max_objects)
  (stored,) = builder.info.splits  # One each.
  available = builder.info.splits[stored].num_examples
  stop = available if cut.stop is None else cut.stop
  if not cut.first < stop <= available:
    raise ValueError(
      f"Expected records {cut.first} to {stop} for the split {cut.name!r} of "
      f"{builder.info.full_name}, but only {available} were prepared. Prepare "
      "the whole dataset, or name records that there are: "
      f"data.tfds.train_split='records[0:{max(1, available - 4)}]' and "
      f"eval.split='records[{max(1, available - 4)}:{available}]'."
    )
  return builder, cut, stop


def _full_name(name: str, variant: str) -> str:
  return "/".join(filter(None, [name, variant])) + f":{VERSION}"


def _data_name(builder: Any, name: str, variant: str) -> str:
  """The name in metrics; a part or an imitation has another."""
  full_name = _full_name(name, variant)
  known = builder.info.metadata or {}
  if known.get("complete"):
    return full_name
  count, source = known.get("num_records", "?"), known.get("source", "?")
  return f"{full_name}[{count}_of_{source}]"


def _load(
  builder: Any,
  stored: str,
  name: str,
  records: range,
  images: transforms.ImageSpec,
) -> cache.Cache:
  """The cache of a range of records, in their order."""
  files = tfds_files.find_files(builder, stored)
  height, width = images.resolution
  arrays: dict[str, tuple[tuple[int, ...], Any]] = {
    "image": ((height, width, 3), np.uint8),
    "segmentation": ((height, width), np.uint8),
    "num_objects": ((), np.int32),
  }
  if name == _CLEVR:
    size = types.CLEVR_LAYOUT.size
    arrays["target"] = ((clevr_records.MAX_OBJECTS, size), np.float32)

  def decode(item: tuple[int, bytes]) -> dict[str, Any]:
    return _decode(*item, name, images)

  return cache.build_or_load(
    images.cache_dir,
    fingerprint={
      **tfds_files.fingerprint(builder, files),
      "records": [records.start, records.stop],
      "resolution": [height, width],
      "crop": images.crop,
      "preprocessing": _PREPROCESSING,
    },
    num_examples=len(records),
    arrays=arrays,
    examples=lambda: prefetch.parallel_map(
      decode, _records(builder, stored, records)
    ),
    label=(
      f"{name}-{records.start}-{records.stop}-{height}x{width}-"
      f"{images.crop or 'full'}"
    ),
  )


def _records(
  builder: Any, stored: str, records: range
) -> Iterator[tuple[int, bytes]]:
  """Numbers and serialized examples, in the order of the original file."""
  import tensorflow_datasets as tfds

  source = builder.as_data_source(
    stored, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  for start in range(0, len(records), _BATCH):
    numbers = records[start : start + _BATCH]
    yield from zip(numbers, source.__getitems__(list(numbers)), strict=True)


def _decode(
  number: int, record: bytes, name: str, images: transforms.ImageSpec
) -> dict[str, Any]:
  """Decodes one serialized example into the cache's arrays."""
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example.FromString(record)  # pyright: ignore
  feature = example.features.feature
  index = feature["index"].int64_list.value[0]
  if index != number:
    raise ValueError(
      f"Expected record {number} of the original file, got {index}: the "
      "prepared data are not in its order. Prepare them again."
    )

  def read_png(key: str) -> np.ndarray:
    encoded = io.BytesIO(feature[key].bytes_list.value[0])
    name = f"{key} of record {number}"
    with pixels.open_image(encoded, name, ("PNG",)) as image:
      return np.asarray(image)

  image = transforms.preprocess_image(
    read_png("image"), images.resolution, images.crop
  )
  ids = transforms.preprocess_segmentation(
    read_png("segmentation"), images.resolution, images.crop
  )
  parts = layouts.get_layout(name).background_parts
  out = {
    "image": transforms.to_uint8(image),
    # The parts of the background become 0, the next entity object 1.
    "segmentation": np.maximum(ids - (parts - 1), 0).astype(np.uint8),
    "num_objects": feature["num_objects"].int64_list.value[0],
  }
  if name == _CLEVR:
    out["target"], _ = clevr_records.encode_objects(feature, f"record {number}")
  return out
