"""Checksums: of TensorFlow's files, and of the files of a cache."""

import functools
import pathlib
import zlib
from collections.abc import Callable, Mapping

_CHUNK = 1 << 24  # Bytes read at a time.


def masked_crc32c(data: bytes) -> int:
  """Computes the CRC-32C of `data` as LevelDB and TensorFlow store it.

  It is rotated by 15 bits and gets an offset, so that a checksum of bytes that
  hold checksums does not degenerate.

  Args:
    data: the bytes.

  Returns:
    The masked checksum, an int in [0, 2**32).

  Example:
    >>> from slot_attention_jax.runtime import checksums
    >>> hex(checksums.masked_crc32c(b""))
    '0xa282ead8'

  References:
    `tensorflow/core/lib/hash/crc32c.h`.
  """
  # The library and training on synthetic scenes run without it.
  try:
    import google_crc32c
  except ImportError:
    crc = crc32c_in_python(data)
  else:
    crc = google_crc32c.value(data)
  rotated = (crc >> 15) | (crc << 17)
  return (rotated + 0xA282EAD8) & 0xFFFFFFFF


def crc32c_in_python(data: bytes) -> int:
  """Computes the CRC-32C of `data`, a megabyte in some tenths of a second.

  Args:
    data: the bytes.

  Returns:
    The checksum, an int in [0, 2**32).

  Example:
    >>> from slot_attention_jax.runtime import checksums
    >>> hex(checksums.crc32c_in_python(b"123456789"))
    '0xe3069283'
  """
  table, crc = _crc32c_table(), 0xFFFFFFFF
  for byte in data:
    crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
  return crc ^ 0xFFFFFFFF


@functools.cache
def _crc32c_table() -> tuple[int, ...]:
  """What each value of a byte changes, by the reversed polynomial."""

  def entry(value):
    for _ in range(8):
      value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value

  return tuple(map(entry, range(256)))


def incremental() -> dict[str, Callable[[int, bytes], int]]:
  """Functions (checksum so far, more bytes) -> checksum, the fastest first.

  CRC-32C is there where google_crc32c is installed with its C extension, CRC-32
  always.
  """
  functions = {"crc32": lambda value, data: zlib.crc32(data, value)}
  try:
    import google_crc32c
  except ImportError:
    return functions
  if google_crc32c.implementation != "c":  # Far slower than zlib.
    return functions
  return {"crc32c": google_crc32c.extend, **functions}


def matches(path: pathlib.Path, record: Mapping[str, int]) -> bool:
  """Whether a file has the recorded checksum.

  Args:
    path: of the file.
    record: its checksums by name, see `incremental`; the fastest is checked.

  Returns:
    Whether it is the same.

  Raises:
    KeyError: if no checksum was recorded.
  """
  functions = incremental()
  name = next((name for name in functions if name in record), "crc32")
  value = 0
  with path.open("rb") as file:
    while chunk := file.read(_CHUNK):
      value = functions[name](value, chunk)
  return value == record[name]
