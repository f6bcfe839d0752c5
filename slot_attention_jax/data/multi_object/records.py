"""Reads the files of multi_object_datasets, without TensorFlow.

A file is a GZIP stream of framed `tf.train.Example` messages, each with one
bytes feature in which every pixel is a string of its own: a million strings for
a CLEVR scene. Their payload is read as one array.
"""

import functools
import gzip
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from slot_attention_jax.data.export import scene_tfrecord
from slot_attention_jax.data.multi_object import layouts

# Ten times the largest record, CLEVR's; a damaged length is no allocation.
_LONGEST = 32 << 20
_ADVICE = "Download or copy the file again."


def read_records(file: IO[bytes], name: str) -> Iterator[bytes]:
  """Yields the records of a TFRecord file, compressed with GZIP or not.

  A record is its length (uint64), a checksum of the length (uint32), the data
  and a checksum of the data (uint32), all little-endian. Both are checked. One
  record is in memory at a time.

  Args:
    file: the file, at its beginning.
    name: of the file, for messages.

  Yields:
    The data of each record.

  Raises:
    ValueError: if it is no such file, ends too soon, or is damaged.
  """
  beginning = file.read(2)
  stream: Any = _Rejoined(beginning, file)
  if beginning == b"\x1f\x8b":
    stream = gzip.GzipFile(fileobj=stream, mode="rb")
  count = 0
  try:
    while header := _read(stream, 12):
      length = _length(header, name, count)
      body = _read(stream, length + 4)
      if len(body) != length + 4:
        raise ValueError(f"{name} ends within record {count}. {_ADVICE}")
      data = body[:length]
      if scene_tfrecord.masked_crc(data) != body[length:]:
        raise ValueError(
          f"Record {count} of {name} has the wrong checksum: the file is "
          f"damaged. {_ADVICE}"
        )
      yield data
      count += 1
  except EOFError as error:
    raise ValueError(
      f"{name} ends within its compressed data, after record {count}: the "
      f"download was cut off. {_ADVICE}"
    ) from error
  except (gzip.BadGzipFile, zlib.error) as error:
    raise ValueError(
      f"The compressed data of {name} are damaged after record {count} "
      f"({error}). {_ADVICE}"
    ) from error
  if not count:
    raise ValueError(f"Expected records in {name}, found none. {_ADVICE}")


class _Rejoined:
  """A stream of which the first bytes were read already."""

  def __init__(self, beginning: bytes, rest: IO[bytes]):
    self._beginning, self._rest = beginning, rest

  def read(self, size: int = -1) -> bytes:
    """Reads up to `size` bytes."""
    if not self._beginning:
      return self._rest.read(size)
    first = self._beginning if size < 0 else self._beginning[:size]
    self._beginning = self._beginning[len(first) :]
    return first


def _read(stream: Any, size: int) -> bytes:
  """Reads `size` bytes, fewer only at the end."""
  parts = []
  while size and (part := stream.read(size)):
    parts.append(part)
    size -= len(part)
  return b"".join(parts)


def _length(header: bytes, name: str, count: int) -> int:
  """The length of a record from its 12 bytes of header."""
  if len(header) == 12 and scene_tfrecord.masked_crc(header[:8]) == header[8:]:
    length = struct.unpack("<Q", header[:8])[0]
    if length <= _LONGEST:
      return length
  if count == 0:
    raise ValueError(
      f"Expected {name} to be a TFRecord file of multi_object_datasets, but it "
      f"begins with {header!r}. Is it what its name says, or the page of an "
      f"error? {_ADVICE}"
    )
  raise ValueError(f"{name} is damaged after record {count}. {_ADVICE}")


@functools.cache
def _message() -> Any:
  """`tf.train.Example` with the payload of a `BytesList` as plain bytes.

  The wire format of a message and of bytes is the same, so the strings of a
  feature arrive unparsed, in one piece.
  """
  from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

  field = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(
    name="slot_attention_jax/raw_example.proto",
    package="slot_attention_jax",
    syntax="proto3",
  )

  def add(parent: Any, name: str, **fields: tuple[int, int, str | None, bool]):
    message = parent.add(name=name)
    for key, (number, kind, reference, repeated) in fields.items():
      message.field.add(
        name=key,
        number=number,
        type=kind,  # pyright: ignore
        type_name=reference and f".slot_attention_jax.{reference}",
        label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
      )
    return message

  messages = file.message_type
  add(messages, "FloatList", value=(1, field.TYPE_FLOAT, None, True))
  add(
    messages,
    "Feature",
    bytes_list=(1, field.TYPE_BYTES, None, False),
    float_list=(2, field.TYPE_MESSAGE, "FloatList", False),
  )
  features = add(
    messages,
    "Features",
    feature=(1, field.TYPE_MESSAGE, "Features.FeatureEntry", True),
  )
  entry = add(
    features.nested_type,
    "FeatureEntry",
    key=(1, field.TYPE_STRING, None, False),
    value=(2, field.TYPE_MESSAGE, "Feature", False),
  )
  entry.options.map_entry = True
  add(messages, "Example", features=(1, field.TYPE_MESSAGE, "Features", False))
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(
    pool.FindMessageTypeByName("slot_attention_jax.Example")
  )


def parse_record(
  record: bytes, layout: layouts.RecordLayout, where: str
) -> dict[str, Any]:
  """Reads a scene from a serialised `tf.train.Example`.

  Args:
    record: the message.
    layout: the layout that it should have.
    where: which record of which file, for messages.

  Returns:
    `image` [H, W, 3] uint8; `segmentation` [H, W] uint8, the first entity whose
    mask is largest at a pixel, 0 where there is none; `visibility` [E] bool;
    `objects`, arrays [E, ...] by the names of the layout, class ids from 1 for
    the labels of the layout; `unmasked` and `overlapping`, how many pixels are
    in no mask and in several.

  Raises:
    ValueError: if it is no such message, or of another layout.
  """
  from google.protobuf import message

  try:
    example = _message().FromString(record)
  except message.DecodeError as error:
    raise ValueError(f"Expected a tf.train.Example in {where}.") from error
  features = example.features.feature
  arrays = {}
  for name, shape in layout.shapes(layout.resolution).items():
    values = _values(features[name]) if name in features else np.zeros(0)
    expected = np.uint8 if name in ("image", "mask", *layout.ids) else "f4"
    if values.size != np.prod(shape) or values.dtype != expected:
      raise ValueError(_misfit(features, layout, name, where))
    arrays[name] = values.reshape(shape)
  masks = arrays.pop("mask")[..., 0]
  if not layout.entities_first:
    masks = np.moveaxis(masks, -1, 0)  # [E, H, W]
  image = arrays.pop("image")
  inside = np.count_nonzero(masks, axis=0)  # [H, W]
  if layout.has_visibility:
    visibility = arrays.pop("visibility") > 0
  else:
    visibility = masks.any(axis=(1, 2))
  for name, labels in layout.ids.items():
    ids = arrays[name][1:][visibility[1:]]
    if ids.size and not 1 <= ids.min() <= ids.max() <= len(labels):
      raise ValueError(
        f"Expected {name} from 1 to {len(labels)} in {where}, got "
        f"{ids.tolist()}."
      )
  return {
    "image": np.broadcast_to(image, (*image.shape[:2], 3)),
    "segmentation": masks.argmax(axis=0).astype(np.uint8),
    "visibility": visibility,
    "objects": arrays,
    "unmasked": int((inside == 0).sum()),
    "overlapping": int((inside > 1).sum()),
  }


def _values(feature: Any) -> np.ndarray:
  """The values of a feature; of bytes, uint8 if all strings are of one byte."""
  if not feature.bytes_list:
    return np.array(feature.float_list.value, np.float32)
  raw = np.frombuffer(feature.bytes_list, np.uint8)
  # Each string is a tag (field 1, length-delimited), its length and itself.
  if raw.size % 3:
    return np.zeros(0)
  strings = raw.reshape(-1, 3)
  if (strings[:, 0] != 0x0A).any() or (strings[:, 1] != 1).any():
    return np.zeros(0)
  return strings[:, 2]


def _misfit(
  features: Any, layout: layouts.RecordLayout, name: str, where: str
) -> str:
  """Why a record is not of a layout, and of which one it is."""

  def size_of(key):
    return _values(features[key]).size if key in features else None

  fitting = [
    f"--name={other}" + (f" --variant={variant}" if variant else "")
    for other, variants in layouts.LAYOUTS.items()
    for variant, candidate in variants.items()
    if all(
      size_of(key) == np.prod(shape)
      for key, shape in candidate.shapes(candidate.resolution).items()
    )
  ]
  shape = layout.shapes(layout.resolution)[name]
  what = (
    f"It fits {' or '.join(fitting)}."
    if fitting
    else f"It fits no set that is known. {_ADVICE}"
  )
  return (
    f"Expected the feature {name!r} of {where} to have {int(np.prod(shape))} "
    f"values, {list(shape)}, got {size_of(name)}; features: "
    f"{sorted(features)}. {what}"
  )
