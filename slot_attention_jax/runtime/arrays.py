"""Comparing trees of arrays by name, type and shape."""

from typing import Any

import jax
import jax.numpy as jnp


def check_arrays(expected: Any, got: Any, *, where: str) -> None:
  """Raises if two trees differ in their arrays' names, types or shapes.

  Args:
    expected: a pytree of arrays or `jax.ShapeDtypeStruct`.
    got: a pytree of anything with a shape and a dtype; a list may stand for a
      tuple and a dict for an object with the same fields, as in checkpoints.
    where: what `got` is, to begin the message with.

  Raises:
    ValueError: naming the first arrays that differ, expected and got.

  Example:
    >>> import jax
    >>> from slot_attention_jax.runtime import arrays
    >>> a, b = (jax.ShapeDtypeStruct((n,), "float32") for n in (3, 4))
    >>> arrays.check_arrays({"w": a}, {"w": b}, where="saved params")
    Traceback (most recent call last):
      ...
    ValueError: saved params: other arrays than expected:
      w: expected float32[3], got float32[4]
    Build the model and the optimizer from the config these were made with.
  """
  want, have = _describe(expected), _describe(got)
  lines = [
    f"{name}: expected {want.get(name, 'none')}, got {have.get(name, 'none')}"
    for name in sorted(want.keys() | have.keys())
    if want.get(name) != have.get(name)
  ]
  if lines:
    more = [f"and {len(lines) - 8} more"] if len(lines) > 8 else []
    raise ValueError(
      "\n  ".join([f"{where}: other arrays than expected:", *lines[:8], *more])
      + "\nBuild the model and the optimizer from the config these were made "
      "with."
    )


def _describe(tree: Any) -> dict[str, str]:
  """The names of the arrays in a tree, and their types and shapes in words."""
  arrays = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      # Files hold the numbers that make a key.
      leaf = jax.eval_shape(jax.random.key_data, leaf)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    arrays[name] = f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}"
  return arrays
