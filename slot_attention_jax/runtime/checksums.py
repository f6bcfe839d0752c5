"""The checksum of TensorFlow's files."""


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
  import google_crc32c

  crc = google_crc32c.value(data)
  rotated = (crc >> 15) | (crc << 17)
  return (rotated + 0xA282EAD8) & 0xFFFFFFFF
