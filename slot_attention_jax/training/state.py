"""The state of a training run: what changes from step to step, data only."""

import flax.struct
import jax
import jax.numpy as jnp
import optax


class TrainState(flax.struct.PyTreeNode):
  """Everything that a training step reads and replaces.

  It holds no functions: the model and the optimizer are made from the config,
  so that a checkpoint is data and the same state serves another model of the
  same parameters. The state is a pytree; `state.replace(step=...)` returns a
  changed copy.

  Attributes:
    step: [] int32, steps done so far.
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
  """Creates the state before the first step.

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
    >>> from slot_attention_jax.training import state as state_lib
    >>> params = {"w": jnp.ones((2, 3))}
    >>> state = state_lib.create(params, optax.adam(1e-3), jax.random.key(0))
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
