"""A run before its first step: data, model, optimizer, state, records."""

import dataclasses
from typing import Any

import jax
import optax
from absl import logging

from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.data import types
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.runtime import processes, storage
from slot_attention_jax.training import (
  checkpoints,
  checks,
  config_changes,
  initial_weights,
  loggers,
  metadata,
  optimizers,
  resume,
  sound_checkpoints,
  steps,
)
from slot_attention_jax.training import state as state_lib


@dataclasses.dataclass(frozen=True)
class Run:
  """What a config asks for: everything but the state.

  Attributes:
    path: its directory.
    mesh: of all devices.
    dataset: training batches.
    eval_dataset: batches of the evaluation split.
    task: model, loss and metrics.
    optimizer: the optimizer.
    schedule: its learning rate by step.
  """

  path: storage.Path
  mesh: jax.sharding.Mesh
  dataset: types.Dataset
  eval_dataset: types.Dataset
  task: tasks.Task
  optimizer: optax.GradientTransformation
  schedule: optax.Schedule


def check(config: Any, path: storage.Path) -> None:
  """Raises what `checks.check` does, or if its loggers cannot write there."""
  checks.check(config, mesh_lib.create_mesh().size)
  loggers.check_place(loggers.enabled(config.logging), path)


def prepare(config: Any, path: storage.Path) -> Run:
  """Opens the data and builds the task and the optimizer.

  Args:
    config: the resolved config, of values that `check` allows.
    path: directory of the run.

  Returns:
    The run; nothing is compiled yet.

  Raises:
    FileNotFoundError: if there are no data where they should be.
    ValueError: on data or an optimizer that cannot be.
  """
  mesh = mesh_lib.create_mesh()
  sharding = mesh_lib.batch_sharding(mesh)
  dataset = data_lib.create_dataset(
    config, "train", batch_size=config.train.batch_size, sharding=sharding
  )
  eval_dataset = data_lib.create_dataset(
    config,
    config.eval.split,
    batch_size=config.eval.batch_size,
    sharding=sharding,
    warn=False,
  )
  task = tasks.create_task(config, dataset.info)
  optimizer, schedule = optimizers.create_optimizer(config.optim)
  return Run(
    path=path,
    mesh=mesh,
    dataset=dataset,
    eval_dataset=eval_dataset,
    task=task,
    optimizer=optimizer,
    schedule=schedule,
  )


def open_checkpointer(config: Any, run: Run) -> checkpoints.Checkpointer:
  """Opens the checkpoints of a run, and keeps those that its config says."""
  return checkpoints.Checkpointer(
    run.path / "checkpoints",
    keep=config.checkpoint.keep,
    best_metric=config.checkpoint.best_metric or None,
    best_mode=config.checkpoint.best_mode,
    keep_best=config.checkpoint.keep_best,
  )


def create_or_restore(
  config: Any,
  run: Run,
  checkpointer: checkpoints.Checkpointer,
  initial: initial_weights.InitialWeights | None = None,
) -> state_lib.TrainState:
  """The state of the last checkpoint, or a new one where there is none.

  Damaged checkpoints are moved aside. All processes must call this.

  Args:
    config: the resolved config.
    run: what was prepared.
    checkpointer: of the run.
    initial: where a new state starts; None: at random parameters.

  Returns:
    The state, replicated over the mesh.

  Raises:
    ValueError: if the processes find different checkpoints, or none where the
      initial weights were left out because there were some.
  """
  sound_checkpoints.set_damaged_aside(checkpointer)
  latest = checkpointer.latest_step()
  processes.assert_equal_across_processes(
    f"last checkpoint in {run.path}",
    latest,
    "Put the workdir on storage that all processes share.",
  )
  if latest is None:
    if initial is None and config.train.initial_weights:
      raise ValueError(
        f"Expected the checkpoints in {run.path}, which were there as this "
        "training began, found none. Start it again."
      )
    state = steps.create_state(run.task, run.optimizer, config.seed, run.mesh)
    if initial is None:
      return state
    logging.info("Starting from %s, step %d.", initial.source, initial.step)
    replicated = mesh_lib.replicated(run.mesh)
    params = jax.device_put(initial.params, replicated)
    initialize = jax.jit(run.optimizer.init, out_shardings=replicated)
    return state.replace(params=params, opt_state=initialize(params))
  return checkpointer.restore(
    steps.abstract_state(run.task, run.optimizer, run.mesh)
  )


def describe(
  config: Any,
  run: Run,
  state: state_lib.TrainState,
  command: str,
  changes: config_changes.Changes | None = None,
  initial: initial_weights.InitialWeights | None = None,
) -> None:
  """Logs what is trained, and writes it beside the run.

  Args:
    config: the resolved config.
    run: what was prepared.
    state: at which the training begins or goes on.
    command: the flags that make the config.
    changes: what has changed since the run was begun.
    initial: what the state was begun from, of a new run.
  """
  step = int(state.step)
  if jax.process_index() == 0:
    if not step:
      resume.set_aside(run.path, config.to_dict())
    metadata.write_metadata(
      run.path,
      config.to_dict(),
      run.dataset.info,
      command,
      changes=changes,
      initial=initial and initial.record(),
      step=step,
      finished=step >= config.train.num_steps,
    )
    try:
      from clu import parameter_overview

      params: Any = state.params  # clu takes fewer types than it can.
      parameter_overview.log_parameter_overview(
        params, include_stats=False, msg="Parameters:"
      )
    except ImportError:
      logging.info("No table of the parameters: clu is not installed.")
  logging.info(
    "Training steps %d to %d on %s, %d parameters, %d %s device(s).",
    step,
    config.train.num_steps,
    run.dataset.info.name,
    sum(x.size for x in jax.tree.leaves(state.params)),
    run.mesh.size,
    jax.default_backend(),
  )
