"""Records of TFDS's CLEVR, read and decoded without TensorFlow.

TFDS itself reads tfrecord only through TensorFlow. Its files are plain, though:
framed `tf.train.Example` messages, for which it brings its own parser.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from slot_attention_jax.data import cache, prefetch, tfrecord, transforms, types
from slot_attention_jax.data.images import pixels, tfds_files

VERSION = "3.1.0"
MAX_OBJECTS = 10
# Part of the fingerprint: raise it when `_example` gives other values.
_PREPROCESSING = 1
_NAME_BYTES = 64
# TFDS's names of a categorical property's ids are checked against the layout's.
_CATEGORICAL = ("size", "material", "shape", "color")


def load_split(
  builder: Any, split: str, images: transforms.ImageSpec
) -> cache.Cache:
  """Loads a whole TFDS split from the cache, decoding it on the first use.

  Args:
    builder: TFDS builder of the prepared data, from `clevr.find_builder`.
    split: TFDS split: `"train"`, `"validation"` or `"test"`.
    images: how the images are cropped, resized and cached.

  Returns:
    A cache with the arrays, in the order of the files (not of the names):
    `image` [N, h, w, 3] uint8, `target` [N, 10, 19] (rows of zeros in `test`),
    `num_objects` [N] int32 over the whole scene, `file_name` [N] bytes.

  Raises:
    ValueError: if the split does not exist or the data is not CLEVR as TFDS
      3.1.0 describes it.
    FileNotFoundError: if a file of the split is missing.
  """
  if split not in builder.info.splits:
    raise ValueError(
      f"Expected a TFDS split of {sorted(builder.info.splits)}, got {split!r}."
    )
  _check_labels(builder)
  info = builder.info.splits[split]
  files = tfds_files.find_files(builder, split)
  height, width = images.resolution

  def decode(record: bytes) -> dict[str, Any]:
    return _example(record, images)

  return cache.build_or_load(
    images.cache_dir,
    fingerprint={
      **tfds_files.fingerprint(builder, files),
      "split": split,
      "resolution": [height, width],
      "crop": images.crop,
      "preprocessing": _PREPROCESSING,
    },
    num_examples=info.num_examples,
    arrays={
      "image": ((height, width, 3), np.uint8),
      "target": ((MAX_OBJECTS, types.CLEVR_LAYOUT.size), np.float32),
      "num_objects": ((), np.int32),
      "file_name": ((), f"S{_NAME_BYTES}"),
    },
    examples=lambda: prefetch.parallel_map(
      decode, _records(builder, split, files)
    ),
    label=f"clevr-{split}-{height}x{width}-{images.crop or 'full'}",
  )


def _check_labels(builder: Any) -> None:
  """Raises ValueError if class ids do not mean what the layout says."""
  try:
    features = builder.info.features["objects"].feature
    names = {name: tuple(features[name].names) for name in _CATEGORICAL}
  except (KeyError, AttributeError) as error:
    raise ValueError(
      f"Expected the features of clevr:{VERSION}, got {builder.info.features}."
    ) from error
  for name, labels in names.items():
    if labels != types.CLEVR_LAYOUT[name].labels:
      raise ValueError(
        f"Expected the labels {types.CLEVR_LAYOUT[name].labels} of {name}, got "
        f"{labels}."
      )


def _records(builder: Any, split: str, files: list[Any]) -> Iterator[bytes]:
  """The serialized examples of a split, in the order of the files."""
  file_format = builder.info.file_format.value
  if file_format == "tfrecord":
    for path in files:
      with path.open("rb") as file:
        yield from tfrecord.read_records(file, str(path))
  elif file_format == "array_record":
    import tensorflow_datasets as tfds

    yield from builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
  else:
    raise ValueError(
      "Expected CLEVR prepared as tfrecord or array_record, got "
      f"{file_format}. Prepare it with tfds.builder('clevr', "
      "file_format='array_record').download_and_prepare()."
    )


def _example(record: bytes, images: transforms.ImageSpec) -> dict[str, Any]:
  """Decodes one serialized `tf.train.Example` into the cache's arrays."""
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example.FromString(record)  # pyright: ignore
  feature = example.features.feature
  name = feature["file_name"].bytes_list.value[0]
  if len(name) > _NAME_BYTES:
    raise ValueError(
      f"Expected file names of up to {_NAME_BYTES} bytes, got {name!r}."
    )
  # The archive's images are RGBA; as in TensorFlow, alpha is dropped.
  encoded = io.BytesIO(feature["image"].bytes_list.value[0])
  with pixels.open_image(encoded, f"the image of {name!r}", ("PNG",)) as image:
    raw = np.asarray(image.convert("RGB"))
  image = transforms.preprocess_image(raw, images.resolution, images.crop)
  target, count = encode_objects(feature, name)
  return {
    "image": transforms.to_uint8(image),
    "target": target,
    "num_objects": count,
    "file_name": name,
  }


def encode_objects(feature: Any, name: Any) -> tuple[np.ndarray, int]:
  """Reads the objects of an example with TFDS's features of CLEVR.

  Args:
    feature: the features of a `tf.train.Example` by name.
    name: of the example, for messages.

  Returns:
    A tuple (target [10, 19] of `CLEVR_LAYOUT`, how many objects there are).

  Raises:
    ValueError: if there are more than ten objects.
  """
  coords = np.array(feature["objects/3d_coords"].float_list.value, np.float32)
  coords = coords.reshape(-1, 3)
  count = len(coords)
  if count > MAX_OBJECTS:
    raise ValueError(
      f"Expected scenes of up to {MAX_OBJECTS} objects, got {count} in "
      f"{name!r}."
    )
  values: dict[str, np.ndarray] = {
    "coords": np.zeros((MAX_OBJECTS, 3), np.float32)
  }
  values["coords"][:count] = coords
  for key in _CATEGORICAL:
    values[key] = np.zeros(MAX_OBJECTS, np.int64)
    values[key][:count] = feature[f"objects/{key}"].int64_list.value
  real = np.arange(MAX_OBJECTS) < count
  return np.asarray(types.CLEVR_LAYOUT.encode(values, real=real)), count
