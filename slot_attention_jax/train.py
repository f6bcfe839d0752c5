"""The training loop."""

import collections
import contextlib
import math
import pathlib
import time
from typing import Any

import jax
import numpy as np
from absl import logging

from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.data import prefetch, types
from slot_attention_jax.evaluation import examples as examples_lib
from slot_attention_jax.runtime import files, processes, progress
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import (
  checkpoints,
  checks,
  metadata,
  optimizers,
  steps,
  time_limit,
  writers,
)

# Where train.steps_per_call leaves it open and the devices are no CPUs.
_STEPS_PER_CALL = 10


def train(config: Any, workdir: str, *, recipe: str = "") -> dict[str, float]:
  """Trains a model, resuming from the last checkpoint in `workdir` if any.

  The result is a function of the config alone: a run that is killed, or stopped
  by `train.max_minutes`, and started again ends with the parameters of the
  uninterrupted one.

  Args:
    config: a config of `configs/`.
    workdir: directory of the run; checkpoints, metrics, pictures go there.
    recipe: how the config was made, in words, for `metadata.json`.

  Returns:
    The metrics of the last evaluation, under their full names; none if the run
    stopped before its first.

  Raises:
    ValueError: on a config that cannot be run.
    FloatingPointError: if the loss stops being finite.
  """
  began = time.monotonic()
  path = pathlib.Path(workdir).expanduser().absolute()
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
  best_metric = config.checkpoint.best_metric or None
  if best_metric not in (None, *task.metric_names):
    raise ValueError(
      f"Expected checkpoint.best_metric out of {task.metric_names}, which "
      f"{eval_dataset.info.name!r} allows, or '', got {best_metric!r}."
    )
  with contextlib.ExitStack() as stack:
    checkpointer = stack.enter_context(
      checkpoints.Checkpointer(
        path / "checkpoints",
        keep=config.checkpoint.keep,
        best_metric=best_metric,
        best_mode=config.checkpoint.best_mode,
        keep_best=config.checkpoint.keep_best,
      )
    )
    latest = checkpointer.latest_step()
    processes.assert_equal_across_processes(
      f"last checkpoint in {path}",
      latest,
      "Put the workdir on storage that all processes share.",
    )
    if latest is None:
      state = steps.create_state(task, optimizer, config.seed, mesh)
    else:
      checks.check_same_run(config, checkpointer.restore_config())
      state = checkpointer.restore(steps.abstract_state(task, optimizer, mesh))
    start, total = int(state.step), config.train.num_steps
    logging.info(
      "Training steps %d to %d on %s, %d parameters, %d %s device(s).",
      start,
      total,
      dataset.info.name,
      sum(x.size for x in jax.tree.leaves(state.params)),
      mesh.size,
      jax.default_backend(),
    )
    if jax.process_index() == 0:
      metadata.write_metadata(path, config, dataset.info, recipe)
    per_call = _steps_per_call(config, dataset, start)
    train_step = _make_train_step(
      task, optimizer, schedule, mesh, dataset, per_call
    )
    eval_step = examples_lib.make_eval_step(task, mesh)
    writer = writers.create_writer(
      path,
      total_steps=total,
      process_index=jax.process_index(),
      tensorboard=config.logging.tensorboard,
      resume_step=start,
      began=began,
    )
    stack.callback(writer.close)
    bar = stack.enter_context(
      progress.Progress(total, "Training", "steps", initial=start)
    )
    limit = time_limit.TimeLimit(
      config.train.max_minutes, began, config.logging.every_steps
    )
    window = _Window(dataset.info, config.logging.every_steps)
    # A thread would make the order of the devices' programs differ between
    # processes; they run ahead of the host anyway.
    ahead = 2 if jax.process_count() == 1 else 0
    batches = stack.enter_context(
      contextlib.closing(
        prefetch.prefetch(_loader(dataset, start, per_call), 0, ahead)
      )
    )
    metrics: dict[str, float] = {}
    for step in range(start + per_call, total + 1, per_call):
      _, batch = next(batches)
      state, step_metrics = train_step(state, batch)
      evaluating = step == total or step % config.eval.every_steps == 0
      stopping = step < total and limit.reached(step)
      due = evaluating or step % config.checkpoint.every_steps == 0
      saving = due or stopping
      # Fetched one step late, so that the device never waits for the host;
      # before a save all rows up to it are written, so that none is lost.
      for line in window.add(step, step_metrics, flush=saving):
        writer.write_scalars(*line)
      bar.update(step, loss=window.loss)
      if evaluating:
        metrics = examples_lib.evaluate(
          task, eval_step, state.params, eval_dataset, config.eval.seed
        )
        writer.write_scalars(step, metrics)
        picture = examples_lib.draw(task, state.params, eval_dataset, config)
        if picture is not None:
          writer.write_images(step, {eval_dataset.info.split: picture})
          if jax.process_index() == 0:
            files.save_png(path / "images" / f"{step:08d}.png", picture)
      if saving:
        writer.flush()
        checkpointer.save(
          state,
          files.jsonable(config.to_dict()),
          metrics=_short(metrics) if evaluating else None,
        )
      if stopping:
        logging.warning(
          "Stopped early, at step %d of %d: the %g minutes of "
          "train.max_minutes are over. Repeat the command to go on from here.",
          step,
          total,
          config.train.max_minutes,
        )
        break
    if start >= total:
      logging.info("The run has already done its %d steps.", total)
      metrics = examples_lib.evaluate(
        task, eval_step, state.params, eval_dataset, config.eval.seed
      )
    checkpointer.wait()
    writer.flush()
  return metrics


def _steps_per_call(config, dataset, start):
  """Updates in a call of the compiled step; calls end where work is due."""
  asked = config.train.steps_per_call
  if dataset.make_batch is None:
    if asked > 1:
      raise ValueError(
        "Expected train.steps_per_call of 0 or 1 for data on the host, got "
        f"{asked}. Hold the data on the devices with data.on_device=yes."
      )
    return 1
  if not asked:
    asked = 1 if jax.default_backend() == "cpu" else _STEPS_PER_CALL
  due = math.gcd(
    config.train.num_steps,
    config.eval.every_steps,
    config.checkpoint.every_steps,
    start,
  )
  return max(n for n in range(1, asked + 1) if due % n == 0)


def _make_train_step(task, optimizer, schedule, mesh, dataset, per_call):
  """A function (state, what `_loader` loads) -> (state, metrics)."""
  if per_call == 1:
    return steps.make_train_step(task, optimizer, schedule, mesh)
  several = steps.make_train_steps(
    task, optimizer, schedule, mesh, dataset.make_batch
  )
  return lambda state, inputs: several(state, dataset.device_arrays, inputs)


def _loader(dataset, start, per_call):
  """Makes what the call number `call` needs."""

  def load(call):
    first = start + call * per_call
    if per_call == 1:
      return dataset.batch(first)
    return dataset.step_inputs(first, per_call)

  return load


class _Window:
  """Metrics of the steps since the last log line, fetched one call late."""

  def __init__(self, info: types.DatasetInfo, every_steps: int):
    self.loss = math.nan
    self._info = info
    self._every = every_steps
    self._pending: tuple[int, steps.Metrics] | None = None
    self._losses: collections.deque[tuple[int, float]] = collections.deque(
      maxlen=max(2, every_steps)
    )

  def add(self, step: int, metrics: steps.Metrics, *, flush: bool):
    """Takes metrics of a call that ends at `step`; yields those that are due.

    Args:
      step: the last step of the call.
      metrics: scalars, or [n] of the last n steps.
      flush: whether to wait for them.

    Yields:
      Pairs (step, scalars by name).
    """
    yield from self._settle()
    self._pending = (step, metrics)
    if flush:
      yield from self._settle()

  def _settle(self):
    if self._pending is None:
      return
    last, metrics = self._pending
    self._pending = None
    rows = {k: np.atleast_1d(v) for k, v in jax.device_get(metrics).items()}
    count = len(rows["loss"])
    for i, step in enumerate(range(last - count + 1, last + 1)):
      yield from self._row(step, {k: float(v[i]) for k, v in rows.items()})

  def _row(self, step, scalars):
    self.loss = scalars["loss"]
    self._losses.append((step, self.loss))
    # All of them: a finite loss may have an infinite gradient.
    bad = [k for k, v in scalars.items() if not math.isfinite(v)]
    if bad:
      recent = ", ".join(f"{s}: {x:.4g}" for s, x in list(self._losses)[-5:])
      raise FloatingPointError(
        f"The {bad[0]} is {scalars[bad[0]]} at step {step}; losses "
        f"(last steps {recent}). The last checkpoint is intact. Try "
        "optim.clip_norm=1.0, a lower optim.learning_rate or "
        "model.precision=float32."
      )
    if step % self._every == 0 or step == 1:
      name = f"{self._info.name}/train"
      yield step, {f"{name}/{k}": v for k, v in scalars.items()}


def _short(metrics: dict[str, float]) -> dict[str, float]:
  """Metrics under short names: a checkpoint serves evaluation on any data."""
  return {name.rsplit("/", 1)[-1]: value for name, value in metrics.items()}
