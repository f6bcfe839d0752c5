"""Shapes of what a function would compute, from the least tracing."""

from collections.abc import Callable
from typing import Any

import jax

from slot_attention_jax.runtime import platform

_PLATFORM = "none"


def only() -> bool:
  """Whether what is traced is traced for its shapes, by `of`, alone."""
  return platform.traced_for() == _PLATFORM


def of(function: Callable[..., Any], *args: Any) -> Any:
  """`jax.eval_shape`, without what says nothing about shapes.

  Initial values (`initializers.if_missing`) are zeros, and of a computation
  that has a form for each platform (`platform.dependent`) the default is
  traced. No program gets these.

  Args:
    function: of `args`, pure.
    *args: arrays, or what has a shape and a dtype, or pytrees of them.

  Returns:
    What the function returns, each array as its shape and dtype.

  Example:
    >>> import jax
    >>> import slot_attention_jax as sa
    >>> from slot_attention_jax.runtime import shapes
    >>> module = sa.SlotAttention(num_slots=5, slot_size=8)
    >>> rngs = {"params": jax.random.key(1), "slots": jax.random.key(2)}
    >>> inputs = jax.ShapeDtypeStruct((2, 100, 64), "float32")
    >>> tree = shapes.of(module.init, rngs, inputs)
    >>> tree["params"]["project_k"]["kernel"].shape
    (64, 8)
  """
  with platform.only(_PLATFORM):
    tree = jax.eval_shape(function, *args)
  # Without a sharding, which a mesh in the context may give them.
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
