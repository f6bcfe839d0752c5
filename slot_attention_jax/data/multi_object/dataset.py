"""The sets with masks as `data.prepare` leaves them: splits and batches.

They are DeepMind's multi_object_datasets: CLEVR with masks, Multi-dSprites,
Tetrominoes and Objects Room.
"""

import io
import os
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np

from slot_attention_jax.data import (
  cache,
  cached_dataset,
  prefetch,
  transforms,
  types,
)
from slot_attention_jax.data.images import clevr_records, tfds_files
from slot_attention_jax.data.multi_object import layouts, splits

VERSION = "1.0.0"
NAMES = tuple(layouts.LAYOUTS)
# Part of the fingerprint: raise it when `_decode` gives other values.
_PREPROCESSING = 1
_BATCH = 256


def background_rule(name: str) -> str:
  """What counts as background in a set, in words."""
  if layouts.layout_of(name).background_parts > 1:
    return "sky, floor and walls together, the first four masks"
  return "the first mask"


def find_multi_object(
  name: str,
  variant: str,
  data_dir: str | os.PathLike[str] | None,
  *,
  required: bool = False,
) -> Any | None:
  """Finds a set that was prepared.

  Args:
    name: one of `NAMES`.
    variant: of the set; "" for the default one.
    data_dir: as of `prepared.find_builder`.
    required: whether it is an error if there is none in the default place.

  Returns:
    The TFDS builder of the prepared data; None if `data_dir` is None, there is
    none in the default place and none is required.

  Raises:
    FileNotFoundError: if the data are not there, and `data_dir` was named or
      they are required.
    ValueError: on an unknown variant.
  """
  variant = layouts.variant_of(name, variant)
  builder = tfds_files.find_builder(name, VERSION, data_dir, variant=variant)
  if builder is not None or (data_dir is None and not required):
    return builder
  root = tfds_files.root_directory(data_dir)
  full_name = "/".join(filter(None, [name, variant])) + f":{VERSION}"
  choice = f" --variant={variant}" if variant else ""
  raise FileNotFoundError(
    f"Expected a prepared {full_name} in {root}, found none. To download and "
    "prepare it:\n  python -m slot_attention_jax.data.prepare "
    f"--name={name}{choice} --data_dir={root}\nor, from a file that you have, "
    "with --source=FILE."
  )


def create_multi_object(
  builder: Any,
  split: str,
  *,
  name: str,
  variant: str,
  resolution: tuple[int, int],
  crop: transforms.Crop,
  max_objects: int | None,
  batch_size: int,
  sharding: jax.sharding.NamedSharding,
  seed: int,
  train: bool,
  cache_dir: str | os.PathLike[str] | None = None,
  on_device: bool | Literal["auto"] = "auto",
) -> cached_dataset.CachedDataset:
  """Batches of a set with masks.

  Args:
    builder: TFDS builder of the prepared data, from `find_multi_object`.
    split: as `multi_object_splits.find_split` knows them.
    name: one of `NAMES`.
    variant: of the set; "" for the default one.
    resolution: (h, w) of images and segmentations.
    crop: see `transforms.preprocess_image`.
    max_objects: keep scenes of at most so many objects, counted over the whole
      scene and not within the crop; None keeps all. CLEVR only; the filter in
      the name of a split is stronger.
    batch_size: B, over all devices.
    sharding: how batches lie on the devices.
    seed: decides the order in training.
    train: endless and shuffled, or one pass in order.
    cache_dir: the directory of all caches; None for
      `cache.default_directory()`.
    on_device: whether to hold the split in device memory, see
      `cached_dataset.CachedDataset`.

  Returns:
    The dataset. Batches hold `"image"`, `"segmentation"` (0 background, i =
    object i, of the whole scene, so an object may have no pixel) and, for
    CLEVR, `"target"` [B, 10, 19].

  Raises:
    ValueError: on an unknown split, one that lies beyond the last record of
      the prepared data, or one of which no scene passes the filter.
  """
  variant = layouts.variant_of(name, variant)
  cut = splits.find_split(name, split, variant=variant, max_objects=max_objects)
  (stored,) = builder.info.splits  # One each.
  available = builder.info.splits[stored].num_examples
  stop = available if cut.stop is None else cut.stop
  if not cut.first < stop <= available:
    raise ValueError(
      f"Expected records {cut.first} to {stop} for the split {cut.name!r} of "
      f"{builder.info.full_name}, but only {available} were prepared. Prepare "
      "the whole set, or name records that there are: "
      f"data.tfds.train_split='records[0:{max(1, available - 4)}]' and "
      f"eval.split='records[{max(1, available - 4)}:{available}]'."
    )
  cached = _load(
    builder, stored, name, (cut.first, stop), resolution, crop, cache_dir
  )
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
  clevr = name == "clevr_with_masks"
  layout = layouts.layout_of(name, variant)
  info = types.DatasetInfo(
    name=_data_name(builder, name, variant),
    split=cut.name,
    image_shape=(*resolution, 3),
    num_examples=len(rows),
    layout=types.CLEVR_LAYOUT if clevr else None,
    max_objects=layout.num_entities - layout.background_parts,
    has_segmentation=True,
  )
  names = ("image", "segmentation", "target")
  return cached_dataset.CachedDataset(
    {n: cached.arrays[n] for n in names if n in cached.arrays},
    rows,
    info,
    batch_size=batch_size,
    sharding=sharding,
    seed=seed,
    shuffle=train,
    on_device=on_device,
  )


def _data_name(builder: Any, name: str, variant: str) -> str:
  """The name in metrics, which tells a part or an imitation from the set."""
  full_name = "/".join(filter(None, [name, variant])) + f":{VERSION}"
  known = builder.info.metadata or {}
  if known.get("complete"):
    return full_name
  count, source = known.get("num_records", "?"), known.get("source", "?")
  return f"{full_name}[{count}_of_{source}]"


def _load(builder, stored, name, records, resolution, crop, cache_dir):
  """The cache of a range of records, in their order."""
  first, stop = records
  files = tfds_files.find_files(builder, stored)
  height, width = resolution
  clevr = name == "clevr_with_masks"
  arrays: dict[str, tuple[tuple[int, ...], Any]] = {
    "image": ((height, width, 3), np.uint8),
    "segmentation": ((height, width), np.uint8),
    "num_objects": ((), np.int32),
  }
  if clevr:
    size = types.CLEVR_LAYOUT.size
    arrays["target"] = ((clevr_records.MAX_OBJECTS, size), np.float32)
  parts = layouts.layout_of(name).background_parts

  def decode(item: tuple[int, bytes]) -> dict[str, Any]:
    number, record = item
    return _decode(number, record, resolution, crop, parts, clevr)

  return cache.build_or_load(
    cache_dir,
    fingerprint={
      **tfds_files.fingerprint(builder, files),
      "records": [first, stop],
      "resolution": [height, width],
      "crop": crop,
      "preprocessing": _PREPROCESSING,
    },
    num_examples=stop - first,
    arrays=arrays,
    examples=lambda: prefetch.parallel_map(
      decode, _records(builder, stored, first, stop)
    ),
    label=f"{name}-{first}-{stop}-{height}x{width}-{crop or 'full'}",
  )


def _records(builder, stored, first, stop) -> Iterator[tuple[int, bytes]]:
  """Numbers and serialised examples, in the order of the original file."""
  import tensorflow_datasets as tfds

  source = builder.as_data_source(
    stored, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  for start in range(first, stop, _BATCH):
    numbers = range(start, min(start + _BATCH, stop))
    yield from zip(numbers, source.__getitems__(list(numbers)), strict=True)


def _decode(
  number: int,
  record: bytes,
  resolution: tuple[int, int],
  crop: transforms.Crop,
  parts: int,
  clevr: bool,
) -> dict[str, Any]:
  """Decodes one serialised example into the cache's arrays."""
  from PIL import Image
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example.FromString(record)  # pyright: ignore
  feature = example.features.feature
  index = feature["index"].int64_list.value[0]
  if index != number:
    raise ValueError(
      f"Expected record {number} of the original file, got {index}: the "
      "prepared data are not in its order. Prepare them again."
    )

  def image_of(key):
    with Image.open(io.BytesIO(feature[key].bytes_list.value[0])) as image:
      return np.asarray(image)

  image = transforms.preprocess_image(image_of("image"), resolution, crop)
  ids = transforms.preprocess_segmentation(
    image_of("segmentation"), resolution, crop
  )
  out = {
    "image": np.round((image + 1.0) * 127.5).astype(np.uint8),
    # The parts of the background become 0, the next entity object 1.
    "segmentation": np.maximum(ids - (parts - 1), 0).astype(np.uint8),
    "num_objects": feature["num_objects"].int64_list.value[0],
  }
  if clevr:
    out["target"], _ = clevr_records.encode_objects(feature, f"record {number}")
  return out
