"""TFRecord files: framing, checksums, and what is said of damaged files."""

import gzip
import io
import struct

import pytest

from slot_attention_jax.data import tfrecord


def read(data, name="file"):
  return list(tfrecord.read_records(io.BytesIO(data), name))


def test_records_are_those_that_were_written_compressed_or_not():
  records = [b"", b"a", bytes(range(256)) * 100]
  plain = b"".join(map(tfrecord.frame, records))
  assert read(plain) == records
  assert read(gzip.compress(plain)) == records


# CRC-32C of 32 bytes, from RFC 3720, appendix B.4.
@pytest.mark.parametrize(
  ("data", "crc"),
  [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
  ],
  ids=["zeros", "ones", "range"],
)
def test_frames_hold_the_length_and_both_checksums(data, crc):
  masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
  framed = tfrecord.frame(data)
  assert framed[:8] == struct.pack("<Q", 32)
  assert framed[8:12] == tfrecord.masked_crc(framed[:8])
  assert framed[12:-4] == data
  assert framed[-4:] == struct.pack("<I", masked)


WHOLE = gzip.compress(
  b"".join(tfrecord.frame(bytes([i]) * 500) for i in range(5)),
  compresslevel=0,
)


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", "found none"),
    (gzip.compress(b""), "found none"),
    (b"<!DOCTYPE html><html><body>404", r"begins with b'<!DOCTYPE ht'.*page"),
    (b"PK", "begins with b'PK'"),
    (gzip.compress(b"something else"), "begins with b'something el'"),
    (WHOLE[:-4], "ends within its compressed data, after record 5"),
    (WHOLE[:1200], "ends within its compressed data, after record 2"),
    (WHOLE[:5], "ends within its compressed data, after record 0"),
    (WHOLE[:-6] + b"\0\0" + WHOLE[-4:], "damaged after record 5"),
    (WHOLE[:600] + b"!" + WHOLE[601:], r"Record 1 of file has the wrong check"),
    (tfrecord.frame(b"a" * 99)[:50], "ends within record 0"),
    (tfrecord.frame(b"a") + b"12345678", "ends within record 1"),
    (tfrecord.frame(b"a") + b"1234567890AB", "damaged after record 1"),
  ],
  # Compressed bytes hold the time: as names they would differ by process.
  ids=range(13),
)
def test_damaged_files_are_errors(data, message):
  with pytest.raises(ValueError, match=message) as error:
    read(data)
  assert "again." in str(error.value)


def test_a_damaged_length_is_not_believed():
  # A length whose checksum is right, too, is no reason to take 2^60 bytes.
  length = (1 << 60).to_bytes(8, "little")
  header = length + tfrecord.masked_crc(length)
  with pytest.raises(ValueError, match="begins with"):
    read(header + b"a" * 100)
