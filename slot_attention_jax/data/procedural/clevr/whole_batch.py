"""Functions of whole batches that take single examples, and work under `vmap`.

As `jax.custom_batching.custom_vmap`, which also traces the function on a single
example every time: with the renderer that is half of all tracing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.extend
import jax.numpy as jnp
from jax.interpreters import batching, mlir


def of_single(function: Callable[..., Any]) -> Callable[..., Any]:
  """Makes a function on batches work on single examples and under `vmap`.

  Args:
    function: takes pytrees of arrays [B, ...], returns one. It must not close
      over traced arrays.

  Returns:
    A function of the same pytrees without the batch axis. `vmap` of it calls
    `function` once, on the whole batch. It has no derivatives.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.data.procedural.clevr import whole_batch
    >>> center = whole_batch.of_single(lambda x: x - x.mean())
    >>> center(jnp.float32(3)).item()
    0.0
    >>> jax.vmap(center)(jnp.array([1.0, 3.0])).tolist()
    [-1.0, 1.0]
  """

  def single(*args):
    leaves, structure = jax.tree.flatten(args)
    call = _Call(function, structure)
    out = _primitive.bind(*leaves, call=call)
    return jax.tree.unflatten(call.out_structure, out)

  return single


class _Call:
  """One call of a function: takes and returns the leaves of its pytrees."""

  def __init__(self, function, structure):
    self._function, self._structure = function, structure
    self.out_structure: Any = None  # Known once it has been called.

  def batch(self, *leaves):
    out = self._function(*jax.tree.unflatten(self._structure, leaves))
    leaves, self.out_structure = jax.tree.flatten(out)
    return leaves

  def single(self, *leaves):
    return [x[0] for x in self.batch(*[jnp.asarray(x)[None] for x in leaves])]


def _abstract(*avals, call):
  shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in avals]
  out = jax.eval_shape(call.single, *shapes)
  return [jax.core.ShapedArray(x.shape, x.dtype) for x in out]


def _vmap(leaves, dims, *, call):
  size = next(
    x.shape[d] for x, d in zip(leaves, dims, strict=True) if d is not None
  )
  leaves = [
    jnp.broadcast_to(x, (size, *jnp.shape(x)))
    if d is None
    else jnp.moveaxis(x, d, 0)
    for x, d in zip(leaves, dims, strict=True)
  ]
  out = call.batch(*leaves)
  return out, [0] * len(out)


_primitive = jax.extend.core.Primitive("whole_batch")
_primitive.multiple_results = True
_primitive.def_impl(lambda *leaves, call: call.single(*leaves))
_primitive.def_abstract_eval(_abstract)
batching.primitive_batchers[_primitive] = _vmap
mlir.register_lowering(
  _primitive,
  mlir.lower_fun(
    lambda *leaves, call: call.single(*leaves), multiple_results=True
  ),
)
