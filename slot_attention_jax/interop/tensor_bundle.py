"""Messages in the index of a TensorFlow checkpoint, decoded from bytes.

Three small protobuf messages (header, entry, tensor shape) need no protobuf
library: a message is a sequence of (field number, wire type, value).

References:
  TensorFlow, `core/protobuf/tensor_bundle.proto`, `tensor_shape.proto`,
  `core/util/tensor_bundle/tensor_bundle.cc`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from slot_attention_jax.interop import sstable
from slot_attention_jax.runtime import checksums

# Numbers of `DataType` in types.proto.
_DTYPES = {
  number: np.dtype(dtype)
  for number, dtype in {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    8: "<c8",
    9: "<i8",
    10: "?",
    14: ml_dtypes.bfloat16,
    17: "<u2",
    18: "<c16",
    19: "<f2",
    22: "<u4",
    23: "<u8",
  }.items()
}
_NOT_NUMERIC = (7, 20, 21)  # Strings, resources and variants.
_VARINT, _BYTES = 0, 2
_FIXED_SIZE = {1: 8, 5: 4}


def _fields(message: bytes, wire_types: Mapping[int, int]) -> Iterator:
  """The (field number, value) pairs of a protobuf message.

  Args:
    message: the encoded message.
    wire_types: wire type of each field of interest; others are skipped.

  Yields:
    Field number and an int or bytes, in the order of the message.
  """
  position = 0
  while position < len(message):
    tag, position = sstable.decode_varint(message, position)
    number, wire_type = tag >> 3, tag & 7
    value: Any = None
    if wire_type == _VARINT:
      value, position = sstable.decode_varint(message, position)
    else:
      size = _FIXED_SIZE.get(wire_type, len(message))
      if wire_type == _BYTES:
        size, position = sstable.decode_varint(message, position)
      value = message[position : position + size]
      position += size
      if wire_type in _FIXED_SIZE:
        value = int.from_bytes(value, "little")
    known = wire_types.get(number, wire_type)
    if wire_type not in (_VARINT, _BYTES, *_FIXED_SIZE) or wire_type != known:
      raise ValueError(
        f"Expected wire type {known} in protobuf field {number}, got "
        f"{wire_type}: this is no checkpoint index."
      )
    if position > len(message):
      raise ValueError(
        f"Expected protobuf field {number} within {len(message)} bytes, got "
        f"one that reaches byte {position}: the index is damaged."
      )
    if number in wire_types:
      yield number, value


def decode_header(header: bytes | None) -> int:
  """Checks the header of a bundle, the value of the empty key.

  Args:
    header: the encoded BundleHeaderProto, None if there is none.

  Returns:
    How many data files the bundle has.

  Raises:
    ValueError: if there is no header, or the data are big-endian.

  Example:
    >>> from slot_attention_jax.interop import tensor_bundle
    >>> tensor_bundle.decode_header(bytes([0x08, 1]))
    1
  """
  if header is None:
    raise ValueError("Expected a tensor bundle, got a table without a header.")
  fields = dict(_fields(header, {1: _VARINT, 2: _VARINT}))
  if fields.get(2, 0):
    raise ValueError(
      "Expected a little-endian checkpoint, got a big-endian one. Save it "
      "again on a little-endian machine."
    )
  return fields.get(1, 0)


def _shape(message: bytes) -> tuple[int, ...]:
  """The sizes in a TensorShapeProto; a size of 0 is not stored."""
  return tuple(
    dict(_fields(dim, {1: _VARINT})).get(1, 0)
    for _, dim in _fields(message, {2: _BYTES})
  )


def decode_entry(
  entry: bytes, shard: Callable[[int], bytes]
) -> np.ndarray | None:
  """Reads the tensor that an entry describes, and verifies its checksum.

  Args:
    entry: the encoded BundleEntryProto.
    shard: gives the bytes of a data file by its number.

  Returns:
    The tensor in a fresh array; None if it is a string, resource or variant.

  Raises:
    ValueError: if the data are truncated or damaged, or the tensor is
      partitioned or of a dtype that NumPy does not know.
  """
  types = {1: 0, 2: _BYTES, 3: 0, 4: 0, 5: 0, 6: 5, 7: _BYTES}
  fields = dict(_fields(entry, types))
  if 7 in fields:
    raise ValueError(
      "Expected a whole tensor, got one stored in slices by a partitioned "
      "variable. Restore it in TensorFlow and save it unpartitioned."
    )
  dtype = _DTYPES.get(fields.get(1, 0))
  numeric = fields.get(1, 0) not in _NOT_NUMERIC
  if numeric and dtype is None:
    raise ValueError(
      f"Expected a number of a TensorFlow dtype in {sorted(_DTYPES)}, got "
      f"{fields.get(1, 0)}. Cast the variable and save it again."
    )
  offset, size = fields.get(4, 0), fields.get(5, 0)
  data = shard(fields.get(3, 0))
  if offset + size > len(data):
    raise ValueError(
      f"Expected bytes {offset} to {offset + size}, got a data file of "
      f"{len(data)} bytes: it is truncated; copy it again."
    )
  if not numeric or dtype is None:
    return None
  shape = _shape(fields.get(2, b""))
  if math.prod(shape) * dtype.itemsize != size:
    raise ValueError(
      f"Expected {dtype} of shape {list(shape)}, got {size} bytes: the index "
      "is damaged; copy it again."
    )
  content = data[offset : offset + size]
  stored, computed = fields.get(6, 0), checksums.masked_crc32c(content)
  if stored != computed:
    raise ValueError(
      f"Checksum mismatch: expected {stored:#010x}, got {computed:#010x}. The "
      "data file is damaged; copy it again."
    )
  # A copy: what `frombuffer` gives is read-only and holds the whole shard.
  return np.frombuffer(content, dtype).reshape(shape).copy()
