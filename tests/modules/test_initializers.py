"""Tests of initial values, which are computed where there are none yet."""

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from slot_attention_jax.modules import initializers
from slot_attention_jax.runtime import shapes

calls = []


def threes(key, shape, dtype=jnp.float32):
  del key
  calls.append(shape)
  return jnp.full(shape, 3.0, dtype)


class Scale(nn.Module):
  @nn.compact
  def __call__(self, x):
    initializer = initializers.if_missing(self, threes)
    scale = self.param("scale", initializer, (x.shape[-1],))
    return x * scale[None]


def test_the_initializer_runs_where_there_is_no_parameter():
  calls.clear()
  params = Scale().init(jax.random.key(0), np.ones((2, 4), np.float32))
  assert calls == [(4,)]
  np.testing.assert_array_equal(params["params"]["scale"], 3.0)


def test_it_does_not_run_for_a_parameter_that_exists():
  x = np.ones((2, 4), np.float32)
  params = {"params": {"scale": np.arange(4.0, dtype=np.float32)}}
  calls.clear()
  result = Scale().apply(params, x)
  assert calls == []
  np.testing.assert_array_equal(result, x * np.arange(4.0))


def test_shapes_are_still_compared():
  params = {"params": {"scale": np.ones(3, np.float32)}}
  with pytest.raises(flax.errors.ScopeParamShapeError):
    Scale().apply(params, np.ones((2, 4), np.float32))


def test_it_does_not_run_for_shapes():
  calls.clear()
  x = jax.ShapeDtypeStruct((2, 4), jnp.float32)
  found = shapes.of(Scale().init, jax.random.key(0), x)
  assert calls == []
  assert found["params"]["scale"] == jax.ShapeDtypeStruct((4,), jnp.float32)
