"""Pixels of objects in rows."""

import jax
import numpy as np
import pytest

from slot_attention_jax.data.procedural.clevr import rows


@pytest.mark.thorough
def test_flagged_pixels_in_rows():
  first = np.random.default_rng(1).random((3, 192)) < 0.2
  all_ = first | (np.random.default_rng(2).random((3, 192)) < 0.3)
  all_[1] = first[1] = False
  pixels, num_first, num = jax.jit(rows.gather)(first, all_)
  for i in range(3):
    before = np.flatnonzero(first[i])
    after = np.flatnonzero(all_[i] & ~first[i])
    assert (num_first[i], num[i]) == (len(before), len(before) + len(after))
    np.testing.assert_array_equal(pixels[i, : num_first[i]], before)
    np.testing.assert_array_equal(pixels[i, num_first[i] : num[i]], after)
    np.testing.assert_array_equal(pixels[i, num[i] :], 192)


@pytest.mark.parametrize("num", [10, 64, 200, 5000])
def test_counts_up(num):
  """Of one part, several, and more parts than a part is long."""
  flags = np.random.default_rng(num).random((2, num)) < 0.5
  got = jax.jit(rows.count_up)(flags)
  assert got.dtype == np.int32
  np.testing.assert_array_equal(got, np.cumsum(flags, axis=1))
