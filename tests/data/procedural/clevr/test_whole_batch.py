"""Functions of whole batches: on single examples, under vmap, traced once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data.procedural.clevr import whole_batch


@pytest.fixture
def shift():
  """Moves rows so that their mean is that of their keys' noise."""
  shapes = []

  def function(rows, key):
    shapes.append(rows["x"].shape)
    noise = jax.vmap(jax.random.normal)(key)
    noise = noise.reshape(-1, *(1,) * (rows["x"].ndim - 1))
    return {"y": rows["x"] - rows["x"].mean() + noise}

  return whole_batch.of_single(function), shapes


def test_vmap_calls_it_once_on_the_batch(shift):
  single, shapes = shift
  x, key = jnp.array([1.0, 2.0, 6.0]), jax.random.key(0)
  jitted = jax.jit(jax.vmap(lambda x, k: single({"x": x}, k)["y"], (0, None)))
  noise = jax.random.normal(key)
  np.testing.assert_allclose(
    jitted(x, key) - noise, [-2.0, -1.0, 3.0], atol=1e-6
  )
  assert shapes == [(3,)]  # Not on a single example, too.


def test_a_mapped_axis_may_be_any(shift):
  single, shapes = shift
  keys = jax.random.split(jax.random.key(0), 2)
  x = jnp.array([[1.0, 3.0]] * 4)
  out = jax.vmap(single, ({"x": 1}, 0))({"x": x}, keys)["y"]
  assert shapes == [(2, 4)]
  noise = jax.vmap(jax.random.normal)(keys)[:, None]
  np.testing.assert_allclose(out - noise, [[-1.0] * 4, [1.0] * 4], atol=1e-6)


def test_a_single_example_is_a_batch_of_one(shift):
  single, _ = shift
  key = jax.random.key(1)
  noise = jax.random.normal(key)
  for function in (single, jax.jit(single)):
    out = function({"x": jnp.float32(5)}, key)
    assert out["y"].shape == ()
    np.testing.assert_allclose(out["y"], noise, atol=1e-6)
