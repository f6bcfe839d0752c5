"""Shapes of what a function would compute, from the least tracing."""

import functools
from collections.abc import Callable
from typing import Any

import jax

_PLATFORM = "none"


@functools.cache
def _nowhere() -> jax.sharding.AbstractMesh:
  """A mesh of a device that computes nothing."""
  return jax.sharding.AbstractMesh(
    (1,),
    ("shapes",),
    axis_types=(jax.sharding.AxisType.Auto,),
    abstract_device=jax.sharding.AbstractDevice(
      device_kind=_PLATFORM, num_cores=None, platform=_PLATFORM
    ),
  )


def only() -> bool:
  """Whether what is traced is traced for its shapes, by `of`, alone."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  return device is not None and device.platform == _PLATFORM


def of(function: Callable[..., Any], *args: Any) -> Any:
  """`jax.eval_shape`, without what says nothing about shapes.

  Initial values (`initializers.if_missing`) are zeros, and of a computation
  that has a form for each platform (`platform.dependent`) the default is
  traced. JAX keeps what it traced under one mesh apart from what it traces
  under another, so that no program gets these.

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
  with jax.sharding.use_abstract_mesh(_nowhere()):
    tree = jax.eval_shape(function, *args)
  # Without the sharding, which is of that mesh.
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
