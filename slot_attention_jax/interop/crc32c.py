"""CRC-32C (Castagnoli) of bytes, and the mask TensorFlow stores it under.

A table-driven CRC walks the bytes one by one, which takes Python seconds for a
checkpoint. A CRC is linear over GF(2), though, so the bytes are cut into equal
rows, all rows are walked at once with NumPy, and neighbours are joined with the
matrix that stands for "followed by that many zero bytes".

References:
  Castagnoli et al., "Optimization of cyclic redundancy-check codes with 24 and
  32 parity bits", 1993; `crc32_combine` of zlib; `tensorflow/core/lib/hash/
  crc32c.h` for the mask.
"""

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Bits reversed, as the register shifts right.
_MASK_DELTA = 0xA282EAD8
_ALL_ONES = 0xFFFFFFFF


@functools.cache
def _byte_table() -> np.ndarray:
  """The register after each byte value, from a register of 0: [256] uint32."""
  table = np.arange(256, dtype=np.uint32)
  for _ in range(8):
    table = np.where(table & 1, (table >> 1) ^ _POLYNOMIAL, table >> 1)
  return table


def _apply(matrix: np.ndarray, states: np.ndarray) -> np.ndarray:
  """Multiplies registers [N] by a GF(2) matrix [32], one column a bit."""
  out = np.zeros_like(states)
  for bit in range(32):
    out ^= ((states >> bit) & 1) * matrix[bit]
  return out


@functools.cache
def _zero_bytes_matrix(log2_count: int) -> np.ndarray:
  """What 2**log2_count zero bytes do to each bit of a register: [32] uint32."""
  if log2_count:
    half = _zero_bytes_matrix(log2_count - 1)
    return _apply(half, half)
  basis = np.uint32(1) << np.arange(32, dtype=np.uint32)
  return _byte_table()[basis & 0xFF] ^ (basis >> 8)


def crc32c(data: bytes | memoryview) -> int:
  """Computes the CRC-32C of `data`.

  Args:
    data: the bytes.

  Returns:
    The checksum, an int in [0, 2**32).

  Example:
    >>> from slot_attention_jax.interop import crc32c
    >>> hex(crc32c.crc32c(b"123456789"))
    '0xe3069283'
  """
  table = _byte_table()
  size = len(data)
  if size < 16:
    state = _ALL_ONES
    for byte in bytes(data):
      state = int(table[(state ^ byte) & 0xFF]) ^ (state >> 8)
    return state ^ _ALL_ONES
  # Rows about half as long as there are rows: few, wide NumPy operations.
  level = max(size.bit_length() // 2 - 1, 2)
  length = 1 << level
  rows = -(-size // length)
  # Zeros in front leave a register of 0 alone, and a register that starts with
  # ones is one that starts with zeros where the first 4 bytes are inverted.
  padded = np.zeros(rows * length, np.uint8)
  padded[-size:] = np.frombuffer(data, np.uint8)
  padded[rows * length - size :][:4] ^= 0xFF
  states = np.zeros(rows, np.uint32)
  for column in np.ascontiguousarray(padded.reshape(rows, length).T):
    states = table[(states ^ column) & 0xFF] ^ (states >> 8)
  while len(states) > 1:
    if len(states) % 2:
      states = np.concatenate([np.zeros(1, np.uint32), states])
    states = _apply(_zero_bytes_matrix(level), states[0::2]) ^ states[1::2]
    level += 1
  return int(states[0]) ^ _ALL_ONES


def masked_crc32c(data: bytes | memoryview) -> int:
  """Computes the CRC-32C of `data` as LevelDB and TensorFlow store it.

  The mask rotates by 15 bits and adds a constant, so that a checksum of bytes
  that hold checksums does not degenerate.

  Args:
    data: the bytes.

  Returns:
    The masked checksum, an int in [0, 2**32).

  Example:
    >>> from slot_attention_jax.interop import crc32c
    >>> hex(crc32c.masked_crc32c(b""))
    '0xa282ead8'
  """
  crc = crc32c(data)
  rotated = (crc >> 15) | (crc << 17)
  return (rotated + _MASK_DELTA) & _ALL_ONES
