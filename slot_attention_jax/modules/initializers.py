"""Initial values of parameters, computed only where there are none yet."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from slot_attention_jax.runtime import shapes

_glorot_uniform = nn.initializers.glorot_uniform()


def if_missing(
  module: nn.Module, initializer: Callable[..., Any]
) -> Callable[..., Any]:
  """An initializer for a parameter of a module, or of a part of it.

  Flax evaluates the initializer of a parameter that exists, too, to compare
  their shapes. Tracing a random initializer for that, for each parameter, took
  half of the time of tracing a model.

  Args:
    module: a bound module.
    initializer: function of (key, shape, dtype).

  Returns:
    The initializer; where parameters cannot be created, or their shapes alone
    are asked for, one of the same shapes that is traced in no time.

  Example:
    >>> import jax
    >>> from flax import linen as nn
    >>> from slot_attention_jax.modules import initializers
    >>> class Scale(nn.Module):
    ...   @nn.compact
    ...   def __call__(self, x):
    ...     init = initializers.if_missing(self, nn.initializers.normal(1.0))
    ...     return x * self.param("scale", init, x.shape)
    >>> params = Scale().init(jax.random.key(0), jax.numpy.ones((2, 3)))
    >>> Scale().apply(params, jax.numpy.ones((2, 3))).shape
    (2, 3)
  """
  if module.is_mutable_collection("params") and not shapes.only():
    return initializer
  return _zeros


def glorot_uniform(module: nn.Module) -> Callable[..., Any]:
  """`if_missing` of Glorot's uniform initializer, that of most kernels."""
  return if_missing(module, _glorot_uniform)


def _zeros(key, shape, dtype=jnp.float32):
  del key
  return jnp.zeros(shape, dtype)
