"""Several training steps in one compiled call, for data on the devices."""

import math
from collections.abc import Callable
from typing import Any

import jax
import optax

from slot_attention_jax import tasks
from slot_attention_jax.data import types
from slot_attention_jax.runtime import compilation, kept_programs
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import state as state_lib
from slot_attention_jax.training import steps

# On accelerators, if train.steps_per_call is 0.
_DEFAULT_STEPS_PER_CALL = 10


def choose_steps_per_call(
  requested: int, dataset: types.Dataset, *boundaries: int
) -> int:
  """How many steps a call makes, so that calls end where other work is due.

  Args:
    requested: `train.steps_per_call`; 0: 1 on CPU, 10 on accelerators.
    dataset: what is trained on; more than 1 needs data on the devices.
    *boundaries: multiples of them are ends of calls.

  Returns:
    The largest number up to `requested` that divides the boundaries.

  Raises:
    ValueError: if more than 1 is requested for data on the host.
  """
  if dataset.make_batch is None:
    if requested > 1:
      raise ValueError(
        "Expected train.steps_per_call 0 or 1 for data on the host, got "
        f"{requested}. Hold the data on the devices with data.on_device=yes."
      )
    return 1
  if not requested:
    on_cpu = jax.default_backend() == "cpu"
    requested = 1 if on_cpu else _DEFAULT_STEPS_PER_CALL
  divisor = math.gcd(*boundaries)
  return max(n for n in range(1, requested + 1) if divisor % n == 0)


def make_step(
  task: tasks.Task,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule,
  mesh: jax.sharding.Mesh,
  dataset: types.Dataset,
  steps_per_call: int,
  quick: bool = False,
) -> Callable[
  [state_lib.TrainState, Any], tuple[state_lib.TrainState, steps.Metrics]
]:
  """Compiles a call of one step or of several.

  Args:
    task: what is trained.
    optimizer: the optimizer.
    schedule: its learning rate, for the metrics.
    mesh: the mesh.
    dataset: what is trained on.
    steps_per_call: as of `choose_steps_per_call`.
    quick: compiled for a few steps, see `compilation.quick_options`.

  Returns:
    A function (state, what `make_loader` loads) -> (state, metrics, scalars or
    [steps_per_call]); the state is donated.
  """
  if steps_per_call == 1:
    return steps.make_train_step(task, optimizer, schedule, mesh, quick)
  assert dataset.make_batch is not None  # By `choose_steps_per_call`.
  multi_step = make_train_steps(
    task, optimizer, schedule, mesh, dataset.make_batch, quick
  )
  return lambda state, inputs: multi_step(state, dataset.device_arrays, inputs)


def make_loader(
  dataset: types.Dataset, start: int, steps_per_call: int
) -> Callable[[int], Any]:
  """Makes the function that loads what a call of the step needs.

  Args:
    dataset: what is trained on.
    start: steps done before the first call.
    steps_per_call: as of `choose_steps_per_call`.

  Returns:
    A function of the number of the call, from 0.
  """
  if steps_per_call == 1:
    return lambda call: dataset.batch(start + call)
  return lambda call: dataset.step_inputs(
    start + call * steps_per_call, steps_per_call
  )


def make_train_steps(
  task: tasks.Task,
  optimizer: optax.GradientTransformation,
  schedule: optax.Schedule,
  mesh: jax.sharding.Mesh,
  make_batch: Callable[[Any, Any], types.Batch],
  quick: bool = False,
) -> Callable[
  [state_lib.TrainState, Any, Any], tuple[state_lib.TrainState, steps.Metrics]
]:
  """Compiles several training steps into one call.

  A call costs the host the same whatever it holds, and small models are done
  before the host has made the next one. The steps are those of
  `steps.make_train_step`. XLA:CPU compiles loops over convolutions to naive
  code, so there they are unrolled.

  Args:
    task: what is trained.
    optimizer: the optimizer.
    schedule: its learning rate, for the metrics.
    mesh: the mesh.
    make_batch: function of (device_arrays, inputs of one step) that makes its
      batch on the devices; see `types.Dataset.make_batch`.
    quick: compiled for a few steps, see `compilation.quick_options`.

  Returns:
    A function (state, device_arrays, inputs [n, ...]) -> (state, metrics [n])
    that makes n steps; the state is donated.
  """
  replicated = mesh_lib.replicated(mesh)
  batch_sharding = mesh_lib.batch_sharding(mesh)
  update = steps.update_function(task, optimizer, schedule, mesh)
  unroll = mesh.devices.flat[0].platform == "cpu"

  def train_steps(state, device_arrays, inputs):
    def body(state, inputs):
      batch = jax.lax.with_sharding_constraint(
        make_batch(device_arrays, inputs), batch_sharding
      )
      return update(state, batch)

    return jax.lax.scan(body, state, inputs, unroll=unroll)

  compiled = kept_programs.jit(
    train_steps,
    in_shardings=(replicated, replicated, replicated),
    out_shardings=(replicated, replicated),
    donate_argnums=0,
    compiler_options=compilation.quick_options(quick, task.pixels),
  )
  return mesh_lib.under_mesh(compiled, mesh)
