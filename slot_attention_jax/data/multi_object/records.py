"""Parses the records of multi_object_datasets, without TensorFlow.

A record is a `tf.train.Example` with bytes features in which every pixel is a
string of its own: a million strings for a CLEVR scene. Their payload is read as
one array.
"""

import functools
from typing import Any

import numpy as np

from slot_attention_jax.data.multi_object import layouts


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
  """Reads a scene from a serialized `tf.train.Example`.

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
      raise ValueError(_describe_mismatch(features, layout, name, where))
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


def _describe_mismatch(
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
    else "It fits no known dataset. Download or copy the file again."
  )
  return (
    f"Expected the feature {name!r} of {where} to have {int(np.prod(shape))} "
    f"values, {list(shape)}, got {size_of(name)}; features: "
    f"{sorted(features)}. {what}"
  )
