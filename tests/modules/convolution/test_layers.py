import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules import convolution


@pytest.mark.parametrize(
  ("module", "kernel", "out"),
  [
    (convolution.Conv(5, 3, stride=2), (3, 3, 4, 5), (2, 3, 4, 5)),
    (convolution.ConvTranspose(5, 3, stride=2), (3, 3, 5, 4), (2, 10, 14, 5)),
  ],
)
def test_layers(module, kernel, out):
  x = np.random.default_rng(0).normal(size=(2, 5, 7, 4)).astype(np.float32)
  y, variables = jax.jit(module.init_with_output)(jax.random.key(1), x)
  params = variables["params"]
  assert jax.tree.map(jnp.shape, params) == {"kernel": kernel, "bias": (5,)}
  assert y.shape == out
  # Glorot over both layouts; biases start at zero.
  limit = np.sqrt(6 / (9 * (4 + 5)))
  assert 0.9 * limit < np.abs(params["kernel"]).max() <= limit
  np.testing.assert_array_equal(params["bias"], 0)
  shifted = {"params": params | {"bias": jnp.arange(5.0)}}
  np.testing.assert_allclose(
    jax.jit(module.apply)(shifted, x) - y,
    np.broadcast_to(np.arange(5.0), out),
    atol=1e-6,
  )


@pytest.mark.parametrize("cls", [convolution.Conv, convolution.ConvTranspose])
def test_layers_in_bfloat16_keep_float32_parameters(cls):
  module = cls(5, 3, dtype=jnp.bfloat16)
  x = jnp.ones((1, 4, 4, 3))
  y, params = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
  assert y.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_constant_is_added_to_the_inputs():
  layer = convolution.ConvTranspose(5, 4, stride=2)
  rng = np.random.default_rng(0)
  shared = rng.normal(size=(1, 3, 6, 4)).astype(np.float32)
  vectors = rng.normal(size=(2, 4)).astype(np.float32)
  params = jax.jit(layer.init)(jax.random.key(0), shared)
  run = jax.jit(layer.apply)
  np.testing.assert_allclose(
    run(params, shared, vectors),
    run(params, shared + vectors[:, None, None]),
    atol=5e-6,
  )
