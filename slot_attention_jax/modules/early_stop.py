"""Iterations that stop after a number of their own for each example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# (module, slots [B, K, D], constants) to (slots, attention [B, K, N]).
_Iteration = Callable[[Any, jax.Array, Any], tuple[jax.Array, jax.Array]]


def stop_early(
  iterate: _Iteration, gradient: str
) -> Callable[[Any, Any, Any], tuple[Any, jax.Array]]:
  """Makes an iteration keep the slots of examples that are done.

  Args:
    iterate: one iteration.
    gradient: see `SlotAttention.gradient`.

  Returns:
    An iteration on a pair (slots [B, K, D], remaining iterations [B]) in place
    of slots. The attention is computed for all examples.

  Raises:
    ValueError: if gradients do not flow through all iterations: the last
      iteration of the loop would not be the last one of each example.
  """
  if gradient != "unrolled":
    raise ValueError(
      "Expected gradient='unrolled' together with stop_after, which "
      f"model.train_iterations sets, got {gradient!r}."
    )

  def iterate_until(module, carry, constants):
    slots, remaining = carry
    updated, attention = iterate(module, slots, constants)
    slots = jnp.where((remaining > 0)[:, None, None], updated, slots)
    return (slots, remaining - 1), attention

  return iterate_until
