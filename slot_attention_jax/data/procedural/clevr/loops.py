"""Loops over the objects of scenes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def fold(
  step: Callable[[Any, Any], Any],
  start: Any,
  inputs: Any,
  count: jax.Array | int,
) -> Any:
  """Loops over the first objects: as `jax.lax.scan`, with a length at run time.

  Args:
    step: maps the state and (index, inputs of one object) to the next state.
    start: the first state.
    inputs: a pytree [O, ...].
    count: [] int32, number of objects.

  Returns:
    The last state.
  """

  def body(i, state):
    one = jax.tree.map(
      lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), inputs
    )
    return step(state, (i, one))

  return jax.lax.fori_loop(jnp.int32(0), jnp.int32(count), body, start)


def count_present(present: jax.Array) -> jax.Array:
  """[] int32: no object of this index or a larger one is present [O, ...]."""
  present = present.reshape(present.shape[0], -1).any(axis=1)
  number = jnp.arange(1, present.shape[0] + 1, dtype=jnp.int32)
  return jnp.max(jnp.where(present, number, 0))
