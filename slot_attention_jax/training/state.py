"""The state of a training run: what changes from step to step, data only."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


class TrainState(flax.struct.PyTreeNode):
  """Everything that a training step reads and replaces.

  There are no functions in it: the model and the optimizer are made from the
  config, so that a checkpoint is data and the same state serves another model
  of the same parameters. The state is a pytree; `state.replace(step=...)`
  makes a changed copy.

  Attributes:
    step: [] int32, updates done so far.
    params: parameters of the model, a nested dict of arrays.
    opt_state: state of the optimizer.
    key: [] typed key (`jax.random.key`). It never changes: the randomness of a
      step is `jax.random.fold_in(key, step)`, so a resumed run repeats the
      uninterrupted one.
  """

  step: jax.Array
  params: optax.Params
  opt_state: optax.OptState
  key: jax.Array


def create(
  params: optax.Params,
  optimizer: optax.GradientTransformation,
  key: jax.Array,
) -> TrainState:
  """Makes the state before the first update.

  A pure function, for use under `jax.jit` (parameters are then made where
  they belong) and under `jax.eval_shape` (the shapes a checkpoint is restored
  into).

  Args:
    params: parameters of the model, a nested dict of arrays.
    optimizer: the optimizer whose `init` makes the optimizer's state.
    key: [] typed key that all randomness of the training derives from.

  Returns:
    The state with `step` 0.

  Raises:
    ValueError: if `key` is not a single typed key.

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from slot_attention_jax import train_state
    >>> params = {"w": jnp.ones((2, 3))}
    >>> state = train_state.create(params, optax.adam(1e-3), jax.random.key(0))
    >>> int(state.step)
    0
    >>> state.replace(step=state.step + 1).step.dtype
    dtype('int32')
  """
  typed = jnp.issubdtype(jnp.result_type(key), jax.dtypes.prng_key)
  if not typed or jnp.shape(key) != ():
    raise ValueError(
      "Expected one typed key, made by jax.random.key(seed), got an array of "
      f"shape {jnp.shape(key)} and type {jnp.result_type(key)}. A raw key of "
      "two uint32 becomes one by jax.random.wrap_key_data."
    )
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=optimizer.init(params),
    key=key,
  )


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
    >>> from slot_attention_jax import train_state
    >>> a, b = (jax.ShapeDtypeStruct((n,), "float32") for n in (3, 4))
    >>> train_state.check_arrays({"w": a}, {"w": b}, where="saved params")
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
