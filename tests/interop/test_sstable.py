import struct

import pytest

from slot_attention_jax.interop import sstable
from slot_attention_jax.runtime import checksums
from tests.interop import checkpoint_writer


def test_a_table_with_shared_key_parts_and_two_blocks():
  def block(entries):
    out = bytearray(b"".join(entries) + struct.pack("<II", 0, 1) + b"\0")
    return bytes(out) + struct.pack("<I", checksums.masked_crc32c(bytes(out)))

  first = block([b"\0\4\1keys1", b"\3\2\1ab2"])  # keys, keyab
  second = block([b"\0\1\1z3"])
  handles = [bytes([0, len(first) - 5]), bytes([len(first), len(second) - 5])]
  index = block([b"\0\4\2keyz" + handles[0], b"\0\1\2z" + handles[1]])
  footer = b"\0\0" + bytes([len(first + second), len(index) - 5])
  footer = footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
  table = sstable.read_table(first + second + index + footer)
  assert table == {b"keys": b"1", b"keyab": b"2", b"z": b"3"}


def test_compressed_blocks_are_errors():
  table = bytearray(checkpoint_writer.table({b"a": b"b"}))
  # 5 bytes of entry, 8 of restarts, the compression byte, then the checksum.
  table[13] = 1
  table[14:18] = struct.pack("<I", checksums.masked_crc32c(bytes(table[:14])))
  with pytest.raises(ValueError, match="snappy"):
    sstable.read_table(bytes(table))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**64 - 1])
def test_varints(value):
  data = b"x" + checkpoint_writer.varint(value)
  assert sstable.decode_varint(data + b"y", 1) == (value, len(data))
  with pytest.raises(ValueError, match="end of the data"):
    sstable.decode_varint(data, len(data))


def test_keys_are_sorted_by_their_bytes():
  entries = {bytes([i * 37 % 256]) * (i % 5 + 1): bytes(i) for i in range(256)}
  table = sstable.read_table(checkpoint_writer.table(entries))
  assert table == entries
  assert list(table) == sorted(entries)
  assert sstable.read_table(checkpoint_writer.table({})) == {}
