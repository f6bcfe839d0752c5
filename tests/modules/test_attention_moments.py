import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules import attention_moments


def moments(attention):
  """Of attention [K, h, w]."""
  attention = jnp.asarray(attention, jnp.float32)
  k, *grid = attention.shape
  function = jax.jit(attention_moments.attention_moments, static_argnums=1)
  return np.asarray(function(attention.reshape(k, -1), tuple(grid)))


def test_center_spread_and_area_of_a_rectangle():
  attention = np.zeros((1, 5, 11))
  attention[0, 1:4, 6:8] = 1  # y from -0.5 to 0.5, x 0.2 and 0.4.
  expected = [0, 0.3, np.std([-0.5, 0, 0.5]), 0.1, np.sqrt(6 / 55)]
  np.testing.assert_allclose(moments(attention)[0], expected, atol=1e-5)


def test_a_little_attention_elsewhere_hardly_moves_the_center():
  attention = np.full((1, 9, 9), 0.1)
  attention[0, 2, 6] = 1.0
  center = moments(attention)[0, :2]
  np.testing.assert_allclose(center, [-0.5, 0.5], atol=0.005)
  first_power = attention[0] / attention.sum()
  rows = np.linspace(-1, 1, 9)
  assert -0.06 < first_power.sum(1) @ rows < -0.05


def test_half_the_attention_has_the_same_center_and_half_the_area():
  attention = np.random.default_rng(0).uniform(size=(3, 6, 7))
  whole, half = moments(attention), moments(attention / 2)
  np.testing.assert_allclose(half[:, :4], whole[:, :4], atol=1e-5)
  np.testing.assert_allclose(2 * half[:, 4] ** 2, whole[:, 4] ** 2, rtol=1e-4)


def test_a_mirrored_image_has_mirrored_centers():
  attention = np.random.default_rng(0).uniform(size=(3, 6, 7))
  expected = moments(attention) * [1, -1, 1, 1, 1]
  np.testing.assert_allclose(
    moments(attention[:, :, ::-1]), expected, atol=1e-6
  )


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e-5, 1e-3])
def test_a_slot_with_hardly_any_attention_has_finite_gradients(value):
  attention = jnp.full((1, 12), value, jnp.float32)

  def total(x):
    return attention_moments.attention_moments(x, (3, 4)).sum()

  found, gradient = jax.jit(jax.value_and_grad(total))(attention)
  assert np.isfinite(found)
  assert np.isfinite(gradient).all()
  np.testing.assert_allclose(
    moments(attention.reshape(1, 3, 4))[0, :2], 0, atol=1e-6
  )


def test_another_grid():
  with pytest.raises(ValueError, match=r"\[\.\.\., 12\].*3 x 4.*got \(2, 11\)"):
    attention_moments.attention_moments(jnp.zeros((2, 11)), (3, 4))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
  attention = jnp.full((1, 12), 0.01, dtype)
  found = attention_moments.attention_moments(attention, (3, 4))
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found[0, :2], 0, atol=1e-6)
  np.testing.assert_allclose(found[0, 4], 0.1, rtol=0.01)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_attention_that_is_not_floats(dtype):
  with pytest.raises(ValueError, match=rf"floats in \[0, 1\], got {dtype}"):
    attention_moments.attention_moments(jnp.ones((2, 12), dtype), (3, 4))


def test_no_matrix_product_rounds_them():
  """On accelerators, these are in TF32 or bfloat16 unless told otherwise."""
  jaxpr = jax.make_jaxpr(
    lambda x: attention_moments.attention_moments(x, (3, 4))
  )(jnp.ones((2, 12)))
  assert "reduce_sum" in str(jaxpr)
  assert "dot_general" not in str(jaxpr)
