"""TFRecord files, read and written without TensorFlow; checksums are verified.

A record is its length (uint64), a checksum of the length (uint32), the data and
a checksum of the data (uint32), all little-endian.
"""

import gzip
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any

from slot_attention_jax.runtime import checksums

# Ten times the largest record of CLEVR with masks: a damaged length must not
# allocate more.
_MAX_LENGTH = 32 << 20
_ADVICE = "Download, copy or prepare the file again."


def masked_crc(data: bytes) -> bytes:
  """The checksum of a record, 4 bytes: CRC-32C, rotated and with an offset."""
  return struct.pack("<I", checksums.masked_crc32c(data))


def frame(record: bytes) -> bytes:
  """A record as files hold it, between its length and its checksums.

  Args:
    record: the data.

  Returns:
    The framed record, to be appended to a file.

  Example:
    >>> from slot_attention_jax.data import tfrecord
    >>> tfrecord.frame(b"")[-4:].hex()
    'd8ea82a2'
  """
  length = struct.pack("<Q", len(record))
  return length + masked_crc(length) + record + masked_crc(record)


def read_records(file: IO[bytes], name: str) -> Iterator[bytes]:
  """Yields the records of a file, compressed with GZIP or not.

  One record is in memory at a time.

  Args:
    file: the file, at its beginning.
    name: of the file, for messages.

  Yields:
    The data of each record.

  Raises:
    ValueError: if it is not a TFRecord file, ends too soon, or is damaged.
  """
  beginning = file.read(2)
  stream: Any = _PrefixedStream(beginning, file)
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
      if masked_crc(data) != body[length:]:
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


class _PrefixedStream:
  """A stream whose first bytes have been read already."""

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
  if len(header) < 12 and count:
    raise ValueError(f"{name} ends within record {count}. {_ADVICE}")
  if len(header) == 12 and masked_crc(header[:8]) == header[8:]:
    length = struct.unpack("<Q", header[:8])[0]
    if length <= _MAX_LENGTH:
      return length
  if count == 0:
    raise ValueError(
      f"Expected {name} to be a TFRecord file, but it begins with {header!r}. "
      f"Is it what its name says, or an error page? {_ADVICE}"
    )
  raise ValueError(f"{name} is damaged after record {count}. {_ADVICE}")
