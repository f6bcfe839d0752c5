"""The compiled training step."""

from collections.abc import Callable

import jax
import optax
from jax import flatten_util

from slot_attention_jax import tasks
from slot_attention_jax.data import types
from slot_attention_jax.runtime import compilation, kept_programs, shapes
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import state as state_lib

Metrics = dict[str, jax.Array]


def create_state(
  task: tasks.Task,
  optimizer: optax.GradientTransformation,
  seed: int,
  mesh: jax.sharding.Mesh,
) -> state_lib.TrainState:
  """Initializes a state under jit, replicated over the mesh.

  Args:
    task: what is trained.
    optimizer: the optimizer.
    seed: seed of the parameters and of all later randomness.
    mesh: the mesh.

  Returns:
    A `TrainState` at step 0.
  """
  # The key is an argument: other seeds run the same compiled program.
  initialize = _make_initializer(task, optimizer, mesh)
  return mesh_lib.under_mesh(initialize, mesh)(jax.random.key(seed))


def _make_initializer(task, optimizer, mesh):
  """Compiles the function from a key to an initial state."""
  return kept_programs.jit(
    lambda key: _initial_state(task, optimizer, key),
    out_shardings=mesh_lib.replicated(mesh),
    # It runs once.
    compiler_options=compilation.quick_options(),
  )


def abstract_state(
  task: tasks.Task,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
) -> state_lib.TrainState:
  """Shapes, dtypes and shardings of a state, to restore a checkpoint into."""
  key = jax.random.key(0)
  state = shapes.of(lambda: _initial_state(task, optimizer, key))
  sharding = mesh_lib.replicated(mesh)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state
  )


def _initial_state(task, optimizer, key):
  init_key, step_key = jax.random.split(key)
  return state_lib.create(task.init(init_key), optimizer, step_key)


def make_train_step(
  task: tasks.Task,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule,
  mesh: jax.sharding.Mesh,
  quick: bool = False,
) -> Callable[
  [state_lib.TrainState, types.Batch], tuple[state_lib.TrainState, Metrics]
]:
  """Compiles one training step on a mesh.

  The step is a pure function of (state, batch): its randomness is
  `fold_in(state.key, state.step)`. The state is donated; do not use it after
  the call.

  Every device computes the loss and the gradients of its own examples; their
  means over the devices are the step's only communication, one all-reduce.

  Args:
    task: what is trained.
    optimizer: the optimizer.
    schedule: its learning rate, for the metrics.
    mesh: the mesh; gradients and metrics are of the whole batch.
    quick: compiled for a few steps, see `compilation.quick_options`.

  Returns:
    A function (state, batch) -> (state, metrics); the metrics are float32
    scalars: loss, learning_rate, grad_norm, param_norm.
  """
  replicated = mesh_lib.replicated(mesh)
  compiled = kept_programs.jit(
    update_function(task, optimizer, schedule, mesh),
    in_shardings=(replicated, mesh_lib.batch_sharding(mesh)),
    out_shardings=(replicated, replicated),
    donate_argnums=0,
    compiler_options=compilation.quick_options(quick, task.pixels),
  )
  return mesh_lib.under_mesh(compiled, mesh)


def update_function(
  task: tasks.Task,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule,
  mesh: jax.sharding.Mesh,
) -> Callable[
  [state_lib.TrainState, types.Batch], tuple[state_lib.TrainState, Metrics]
]:
  """The step of `make_train_step`, not compiled."""
  loss_and_grads = _on_each_device(jax.value_and_grad(task.loss), mesh)

  def step(state, batch):
    key = jax.random.fold_in(state.key, state.step)
    # For the whole batch: the same noise on any number of devices.
    batch_size = jax.tree.leaves(batch)[0].shape[0]
    noise = task.draw_noise(state.params, batch_size, key, state.step)
    loss, grads = loss_and_grads(state.params, batch, noise)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
      "loss": loss,
      "learning_rate": schedule(state.step),
      "grad_norm": optax.tree.norm(grads),
      "param_norm": optax.tree.norm(params),
    }
    state = state.replace(
      step=state.step + 1, params=params, opt_state=opt_state
    )
    return state, metrics

  return step


def _on_each_device(loss_and_grads, mesh):
  """Runs a function on each device's examples and averages the results.

  Left to itself, the partitioner reduces gradients where they arise: those of
  the weights that the iterations of Slot Attention share, once per iteration.

  Args:
    loss_and_grads: function of (params, batch, noise) whose results are means
      over examples.
    mesh: the mesh that batch and noise are split over; it is in the context
      when the result is traced.

  Returns:
    The same function for a batch split over the mesh.
  """
  if mesh.size == 1:
    return loss_and_grads

  def local(params, batch, noise):
    results = loss_and_grads(params, batch, noise)
    # As one vector, because not all backends combine several all-reduces.
    vector, unravel = flatten_util.ravel_pytree(results)
    return unravel(jax.lax.pmean(vector, mesh_lib.AXIS))

  def on_all(params, batch, noise):
    everywhere, split = jax.P(), jax.P(mesh_lib.AXIS)
    # check_vma would make gradients of replicated parameters sums over the
    # devices at once.
    return jax.shard_map(
      local,
      in_specs=(everywhere, split, split),
      out_specs=everywhere,
      check_vma=False,
    )(params, batch, noise)

  return on_all
