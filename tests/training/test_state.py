"""Tests of the training state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slot_attention_jax.training import state as state_lib


def make(seed=0):
  params = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}
  return state_lib.create(params, optax.adam(1e-3), jax.random.key(seed))


def test_create_starts_at_step_0_and_keeps_its_arguments():
  state = make(7)
  assert state.step.dtype == jnp.int32
  assert state.step.shape == ()
  assert int(state.step) == 0
  np.testing.assert_array_equal(
    jax.random.key_data(state.key), jax.random.key_data(jax.random.key(7))
  )
  assert optax.tree.get(state.opt_state, "mu")["dense"]["kernel"].shape == (
    2,
    3,
  )


def test_state_holds_only_arrays():
  # Static fields (functions, modules) would be part of the tree's structure
  # and end up in the compile cache's key.
  leaves, structure = jax.tree.flatten(make())
  assert all(isinstance(leaf, jax.Array) for leaf in leaves)
  assert jax.tree.structure(make(1)) == structure


def test_create_can_be_traced():
  abstract = jax.eval_shape(make)
  concrete = jax.jit(make)()
  assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract) == jax.tree.map(
    lambda x: (x.shape, x.dtype), concrete
  )


@pytest.mark.parametrize(
  "key",
  [
    lambda: jnp.zeros(2, jnp.uint32),
    lambda: jax.random.split(jax.random.key(0), 2),
  ],
  ids=["raw", "several"],
)
def test_create_rejects_untyped_keys(key):
  with pytest.raises(ValueError, match=r"one typed key.*got .*shape \(2,\)"):
    state_lib.create({}, optax.sgd(0.1), key())
