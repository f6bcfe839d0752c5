"""Writes small TensorFlow checkpoints, for tests of what reads them.

One data file, one data block, no object graph.
"""

import pathlib
import struct

from slot_attention_jax.interop import tensor_bundle
from slot_attention_jax.runtime import checksums

HEADER = b"\x08\x01"  # One data file.
_NUMBERS = {dtype: n for n, dtype in tensor_bundle._DTYPES.items()}


def varint(value):
  """Groups of 7 bits, lowest first; all but the last have their high bit."""
  out = bytearray()
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*out, value])


def block(entries):
  """A block of (key, value) with its trailer; every entry is a restart."""
  out, restarts = bytearray(), []
  for key, value in entries:
    restarts.append(len(out))
    out += varint(0) + varint(len(key)) + varint(len(value)) + key + value
  restarts = restarts or [0]
  out += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
  out.append(0)  # No compression.
  return bytes(out) + struct.pack("<I", checksums.masked_crc32c(bytes(out)))


def table(entries):
  """A whole table of byte strings."""
  ordered, out = sorted(entries.items()), bytearray()

  def append(content):
    handle = varint(len(out)) + varint(len(content) - 5)
    out.extend(content)
    return handle

  index = [(ordered[-1][0], append(block(ordered)))] if ordered else []
  handles = append(block([])) + append(block(index))
  footer = handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
  return bytes(out) + footer


def entry(array, offset=0):
  """The entry of an array at an offset of the data file, and its bytes."""
  content = array.tobytes()
  sizes = (b"\x08" + varint(size) for size in array.shape)
  shape = b"".join(b"\x12" + varint(len(size)) + size for size in sizes)
  message = b"\x08" + varint(_NUMBERS[array.dtype])
  message += b"\x12" + varint(len(shape)) + shape
  message += b"\x20" + varint(offset) + b"\x28" + varint(len(content))
  message += b"\x35" + struct.pack("<I", checksums.masked_crc32c(content))
  return message, content


def write(directory, tensors, name="ckpt-1"):
  """Writes arrays by name and makes them the directory's latest checkpoint."""
  data, entries = bytearray(), {b"": HEADER}
  for key, value in tensors.items():
    entries[key.encode()], content = entry(value, len(data))
    data += content
  directory = pathlib.Path(directory)
  (directory / f"{name}.data-00000-of-00001").write_bytes(data)
  (directory / f"{name}.index").write_bytes(table(entries))
  text = f'model_checkpoint_path: "{name}"\n'
  (directory / "checkpoint").write_text(text)
