"""The training loop: `--mode=train`."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from typing import Any

import jax
import optax
from absl import logging

from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.data import prefetch, types
from slot_attention_jax.evaluation import examples
from slot_attention_jax.runtime import files, processes, progress
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import (
  checkpoints,
  checks,
  metadata,
  multi_step,
  optimizers,
  resume,
  run_lock,
  step_metrics,
  steps,
  time_limit,
  writers,
)
from slot_attention_jax.training import state as state_lib


@dataclasses.dataclass(frozen=True)
class _Run:
  """What a config asks for: everything but the state."""

  path: pathlib.Path
  mesh: jax.sharding.Mesh
  dataset: types.Dataset
  eval_dataset: types.Dataset
  task: tasks.Task
  optimizer: optax.GradientTransformation
  schedule: optax.Schedule


def train(
  config: Any,
  workdir: str,
  *,
  command: str = "",
  resume_changed: bool = False,
) -> dict[str, float]:
  """Trains a model, resuming from the last checkpoint in `workdir` if any.

  The result is a function of the config alone: a run that is killed, or stopped
  by `train.max_minutes`, and started again ends with the parameters of the
  uninterrupted one.

  Args:
    config: a config of `configs/`.
    workdir: directory of the run; checkpoints, metrics, images go there.
    command: the flags that make the config, for `metadata.json`.
    resume_changed: whether keys that may (`resume.WITH_FLAG`) have other values
      than in the run that is resumed.

  Returns:
    The metrics of the last evaluation, under their full names; none if the run
    stopped before its first.

  Raises:
    ValueError: on a config that cannot be run, or is not that of the run in
      `workdir`.
    FloatingPointError: if the loss stops being finite.
  """
  began = time.monotonic()
  path = pathlib.Path(workdir).expanduser().absolute()
  with contextlib.ExitStack() as stack:
    # A config that cannot be run makes no directory.
    exists = processes.broadcast_from_process_0(path.exists())
    claim = functools.partial(_claim, stack, path, config, resume_changed)
    changes = claim() if exists else {}
    run = _prepare(config, path)
    changes |= {} if exists else claim()
    config = checks.with_best_metric(config, run.task)
    checkpointer = stack.enter_context(_open_checkpointer(config, run))
    state = _create_or_restore(config, run, checkpointer)
    start, total = int(state.step), config.train.num_steps
    if start:
      changes |= resume.check_same_data(
        path, start, run.dataset.info, resume_changed
      )
    _describe(config, run, state, command, changes)
    per_call, train_step = _make_step(config, run, start)
    evaluate = _make_evaluation(config, run)
    writer = stack.enter_context(_open_writer(config, run, start, began))
    batches = stack.enter_context(_open_batches(run.dataset, start, per_call))
    bar = stack.enter_context(
      progress.Progress(total, "Training", "steps", initial=start)
    )
    limit = time_limit.TimeLimit(
      config.train.max_minutes, began, config.logging.every_steps
    )
    rows = step_metrics.StepMetrics(
      f"{run.dataset.info.name}/train", config.logging.every_steps
    )
    metrics: dict[str, float] = {}
    for step in range(start + per_call, total + 1, per_call):
      _, batch = next(batches)
      state, values = train_step(state, batch)
      evaluating = step == total or step % config.eval.every_steps == 0
      stopping = step < total and limit.reached(step)
      due = step % config.checkpoint.every_steps == 0
      saving = due or evaluating or stopping
      for row in rows.add(step, values, flush=saving):
        writer.write_scalars(*row)
      bar.update(step, loss=rows.loss)
      if evaluating:
        metrics = evaluate(state.params)
        writer.write_scalars(step, metrics)
        _write_image(config, run, state.params, step, writer)
      if saving:
        writer.flush()
        checkpointer.save(
          state,
          files.jsonable(config.to_dict()),
          metrics=_strip_prefix(metrics) if evaluating else None,
        )
      if stopping:
        logging.warning(
          "Stopped at step %d/%d: train.max_minutes=%g reached. Rerun the same "
          "command to resume.",
          *(step, total, config.train.max_minutes),
        )
        break
    if start >= total:
      logging.info("All %d steps of this run are done already.", total)
      metrics = evaluate(state.params)
    checkpointer.wait()
    writer.flush()
  return metrics


def _claim(stack, path, config, resume_changed) -> resume.Changes:
  """Keeps others out of the directory and checks what is in it."""
  stack.enter_context(run_lock.hold(path))
  return resume.check_directory(path, config, resume_changed)


def _prepare(config: Any, path: pathlib.Path) -> _Run:
  """Opens the data, builds the task and the optimizer; computes nothing."""
  mesh = mesh_lib.create_mesh()
  checks.check(config, mesh.size)
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
  return _Run(
    path=path,
    mesh=mesh,
    dataset=dataset,
    eval_dataset=eval_dataset,
    task=task,
    optimizer=optimizer,
    schedule=schedule,
  )


def _open_checkpointer(config, run):
  return checkpoints.Checkpointer(
    run.path / "checkpoints",
    keep=config.checkpoint.keep,
    best_metric=config.checkpoint.best_metric or None,
    best_mode=config.checkpoint.best_mode,
    keep_best=config.checkpoint.keep_best,
  )


def _create_or_restore(config, run, checkpointer) -> state_lib.TrainState:
  """The state of the last checkpoint, or a new one where there is none."""
  latest = checkpointer.latest_step()
  processes.assert_equal_across_processes(
    f"last checkpoint in {run.path}",
    latest,
    "Put the workdir on storage that all processes share.",
  )
  if latest is None:
    return steps.create_state(run.task, run.optimizer, config.seed, run.mesh)
  return checkpointer.restore(
    steps.abstract_state(run.task, run.optimizer, run.mesh)
  )


def _describe(config, run, state, command, changes):
  """Logs what is trained, and writes it beside the run."""
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
      step=step,
      finished=step >= config.train.num_steps,
    )
    try:
      from clu import parameter_overview

      parameter_overview.log_parameter_overview(
        state.params, include_stats=False, msg="Parameters:"
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


def _make_step(config, run, start):
  """Steps per call of the compiled step, and this step."""
  per_call = multi_step.choose_steps_per_call(
    config.train.steps_per_call,
    run.dataset,
    # Where other work is due.
    config.train.num_steps,
    config.eval.every_steps,
    config.checkpoint.every_steps,
    start,
  )
  return per_call, multi_step.make_step(
    run.task, run.optimizer, run.schedule, run.mesh, run.dataset, per_call
  )


def _make_evaluation(config, run):
  """The function from parameters to the metrics of the evaluation split."""
  eval_step = examples.make_eval_step(run.task, run.mesh)
  return lambda params: examples.evaluate(
    run.task, eval_step, params, run.eval_dataset, config.eval.seed
  )


def _open_writer(config, run, start, began):
  return contextlib.closing(
    writers.create_writer(
      run.path,
      total_steps=config.train.num_steps,
      process_index=jax.process_index(),
      tensorboard=config.logging.tensorboard,
      resume_step=start,
      began=began,
    )
  )


def _open_batches(dataset, start, per_call):
  """Pairs (number of the call, what it needs), loaded ahead."""
  # A thread would make the order of the devices' programs differ between
  # processes; they run ahead of the host anyway.
  depth = 2 if jax.process_count() == 1 else 0
  load = multi_step.make_loader(dataset, start, per_call)
  return contextlib.closing(prefetch.prefetch(load, 0, depth))


def _write_image(config, run, params, step, writer):
  """Shows the first examples of the evaluation split, if the config asks."""
  image = examples.draw(
    run.task,
    params,
    run.eval_dataset,
    config.logging.num_images,
    config.eval.seed,
  )
  if image is None:
    return
  writer.write_images(step, {run.eval_dataset.info.split: image})
  if jax.process_index() == 0:
    files.save_png(run.path / "images" / f"{step:08d}.png", image)


def _strip_prefix(metrics: dict[str, float]) -> dict[str, float]:
  """Metrics under short names: a checkpoint serves evaluation on any data."""
  return {name.rsplit("/", 1)[-1]: value for name, value in metrics.items()}
