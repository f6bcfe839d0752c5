import numpy as np
import pytest

from slot_attention_jax.interop import crc32c


# Vectors of RFC 3720, B.4.
@pytest.mark.parametrize(
  ("data", "expected"),
  [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
  ],
)
def test_crc32c_vectors(data, expected):
  assert crc32c.crc32c(data) == expected


def test_crc32c_equals_the_bitwise_definition():
  def bitwise(data):
    state = 0xFFFFFFFF
    for byte in data:
      state ^= byte
      for _ in range(8):
        state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF

  data = np.random.default_rng(0).bytes(5000)
  for size in (*range(1, 70), 127, 128, 129, 1000, 4095, 5000):
    assert crc32c.crc32c(data[:size]) == bitwise(data[:size]), size
