"""Sorted string tables, the LevelDB file format of a checkpoint's index.

A table is a sequence of blocks and a footer. A block holds sorted (key, value)
entries, each key stored as the part that differs from the key before it, then
"restart" offsets for binary search, a byte that names the compression and a
masked CRC-32C. The index block maps the last key of each data block to where
that block lies, and the footer says where the index block lies.

References:
  LevelDB, `doc/table_format.md`; TensorFlow, `core/lib/io/table*.cc`.
"""

import struct
from collections.abc import Iterator

from slot_attention_jax.runtime import checksums

_MAGIC = 0xDB4775248B80FB57
_FOOTER_SIZE = 48  # Two block handles in 40 bytes, then the magic number.
_TRAILER_SIZE = 5  # Compression byte and checksum after each block.
_COMPRESSION = {1: "snappy", 2: "zstd"}


def decode_varint(data: bytes, position: int) -> tuple[int, int]:
  """Decodes the varint that starts at `position`.

  Args:
    data: the bytes.
    position: where the varint starts.

  Returns:
    The number, and the position after it.

  Raises:
    ValueError: if the bytes end inside the varint or it exceeds 64 bits.

  Example:
    >>> from slot_attention_jax.interop import sstable
    >>> sstable.decode_varint(bytes([172, 2]), 0)
    (300, 2)
  """
  value = 0
  for i, byte in enumerate(data[position : position + 10]):
    value |= (byte & 0x7F) << (7 * i)
    if byte < 0x80:
      return value & (2**64 - 1), position + i + 1
  raise ValueError(
    f"Expected a varint of at most 10 bytes at byte {position}, got "
    f"{data[position : position + 10].hex() or 'the end of the data'}."
  )


def _read_block(data: bytes, handle: bytes, position: int) -> bytes:
  """The checked contents of the block whose (offset, size) is in `handle`."""
  offset, position = decode_varint(handle, position)
  size, _ = decode_varint(handle, position)
  end = offset + size
  if end + _TRAILER_SIZE > len(data) - _FOOTER_SIZE:
    raise ValueError(
      f"Expected a block in bytes {offset} to {end}, got a table of "
      f"{len(data)} bytes: it is truncated or damaged; copy it again."
    )
  (stored,) = struct.unpack_from("<I", data, end + 1)
  computed = checksums.masked_crc32c(data[offset : end + 1])
  if stored != computed:
    raise ValueError(
      f"Checksum mismatch in the block at byte {offset}: expected "
      f"{stored:#010x}, got {computed:#010x}. The file is damaged; copy it "
      "again."
    )
  if data[end]:
    kind = _COMPRESSION.get(data[end], f"type {data[end]}")
    raise ValueError(
      f"Expected uncompressed blocks, as TensorFlow writes them, got {kind} "
      "compression. Save the checkpoint again with tf.train.Checkpoint."
    )
  return data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
  """The (key, value) pairs of a block, in order."""
  end = -1
  if len(block) >= 4:
    (num_restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    end = len(block) - 4 * (1 + num_restarts)
  if end < 0:
    raise ValueError(f"Expected restart offsets in a block, got {block[:8]!r}.")
  key, position = b"", 0
  while position < end:
    shared, position = decode_varint(block, position)
    unshared, position = decode_varint(block, position)
    value_size, position = decode_varint(block, position)
    value_start = position + unshared
    if shared > len(key) or value_start + value_size > end:
      raise ValueError(
        f"Expected an entry within {end} bytes, got one that reaches byte "
        f"{value_start + value_size} and shares {shared} of {len(key)} bytes."
      )
    key = key[:shared] + block[position:value_start]
    position = value_start + value_size
    yield key, block[value_start:position]


def read_table(data: bytes) -> dict[bytes, bytes]:
  """Reads all entries of a table.

  Args:
    data: the whole file.

  Returns:
    The values by key, in the order of the file.

  Raises:
    ValueError: if `data` is no table, truncated, damaged or compressed.
  """
  magic = data[-8:]
  if len(data) < _FOOTER_SIZE or magic != struct.pack("<Q", _MAGIC):
    raise ValueError(
      "Expected a table that ends in the LevelDB magic number, got "
      f"{len(data)} bytes that end in {magic.hex()}: this is no checkpoint "
      "index, or it is truncated."
    )
  footer = data[-_FOOTER_SIZE:]
  position = 0
  for _ in range(2):  # Skip the handle of the metaindex block.
    _, position = decode_varint(footer, position)
  table = {}
  for _, handle in _entries(_read_block(data, footer, position)):
    table.update(_entries(_read_block(data, handle, 0)))
  return table
