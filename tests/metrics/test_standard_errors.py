"""Standard errors against NumPy, hand-worked numbers and resampling."""

import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.metrics import standard_errors


def test_mean_and_error_of_hand_worked_cases():
  # Mean 3; squares 4, 1, 1, 4 over 4 * 3.
  value, error = standard_errors.mean_and_standard_error(
    np.array([1.0, 2.0, 4.0, 5.0])
  )
  assert (value, error) == (3.0, pytest.approx((10 / 12) ** 0.5, rel=1e-12))
  assert type(value) is type(error) is float


def test_invalid_rows_do_not_count():
  values = np.random.default_rng(0).normal(3.0, 2.0, 50)
  expected = values.mean(), values.std(ddof=1) / 50**0.5
  filled = np.concatenate([[np.nan], values, [np.inf]])
  for flag in (bool, np.int32, np.float32):
    valid = np.pad(np.ones(50), 1).astype(flag)
    actual = standard_errors.mean_and_standard_error(filled, valid)
    assert actual == pytest.approx(expected, rel=1e-12)
  assert standard_errors.mean_and_standard_error(
    jnp.asarray(filled), jnp.asarray(valid)
  ) == pytest.approx(expected, rel=1e-5)


def test_sums_are_in_float64():
  # 1 + 2^-12 and 1 in turns; float32 has no place for squares of the sum.
  values = (1 + np.tile([0.0, 2.0**-12], 200_000)).astype(np.float32)
  value, error = standard_errors.mean_and_standard_error(values)
  assert value == pytest.approx(1 + 2.0**-13, rel=1e-12)
  assert error == pytest.approx(2.0**-13 / 399_999**0.5, rel=1e-9)


def test_the_error_of_a_mean_is_the_spread_of_means():
  rng = np.random.default_rng(1)
  samples = rng.gamma(2.0, size=(4000, 30))
  errors = [standard_errors.mean_and_standard_error(x)[1] for x in samples]
  actual = np.sqrt(np.mean(np.square(errors)))
  assert actual == pytest.approx(samples.mean(axis=1).std(), rel=0.05)


def test_the_error_of_a_ratio_is_the_spread_of_ratios():
  rng = np.random.default_rng(2)
  # Images with more objects have more of them wrong.
  below = rng.integers(3, 11, (4000, 60))
  above = rng.binomial(below, 1 - 0.05 * below)
  pairs = [
    standard_errors.ratio_and_standard_error(*pair)
    for pair in zip(above, below, strict=True)
  ]
  ratios, errors = np.array(pairs).T
  np.testing.assert_allclose(ratios, above.sum(axis=1) / below.sum(axis=1))
  actual = np.sqrt(np.mean(np.square(errors)))
  assert actual == pytest.approx(ratios.std(), rel=0.05)
  # As if objects were independent of each other it would be another number.
  p = ratios.mean()
  assert abs(actual / np.sqrt(p * (1 - p) / below.sum(axis=1).mean()) - 1) > 0.1


def test_one_image_has_no_error_and_none_is_an_error():
  single = standard_errors.mean_and_standard_error(np.array([2.5, 7.0]), [1, 0])
  assert single == (2.5, None)
  both = standard_errors.ratio_and_standard_error
  for below, valid in (([1, 1], [0, 0]), ([0, 0], None), ([0, 1], [1, 0])):
    with pytest.raises(ValueError, match="at least one valid image"):
      both(np.ones(2), np.array(below), valid)
  with pytest.raises(ValueError, match="0 images"):
    standard_errors.mean_and_standard_error(np.zeros(0))


def test_a_nan_makes_the_mean_nan():
  value, error = standard_errors.mean_and_standard_error(
    np.array([1.0, np.nan, 2.0])
  )
  assert np.isnan([value, error]).all()


def test_shapes_are_checked():
  for shape, valid in (((2, 3), None), ((), None), ((3,), np.ones(2, bool))):
    with pytest.raises(ValueError, match=r"one shape \[N\]"):
      standard_errors.mean_and_standard_error(np.ones(shape), valid)
  with pytest.raises(ValueError, match=r"got \(3,\), \(2,\)"):
    standard_errors.ratio_and_standard_error(np.ones(3), np.ones(2))
