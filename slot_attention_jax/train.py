"""The training loop: `--mode=train`."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
from absl import logging

from slot_attention_jax.config import preset
from slot_attention_jax.evaluation import in_training
from slot_attention_jax.predict import trained_model
from slot_attention_jax.runtime import (
  files,
  progress,
  signals,
  storage,
)
from slot_attention_jax.training import (
  checkpoints,
  checks,
  claimed_run,
  goodput,
  loop_parts,
  next_steps,
  prepared_run,
  resume,
  step_metrics,
  stop_request,
  time_limit,
  writers,
)

_WHICH = "It is train.initial_weights."


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
    workdir: directory of the run, local or in a bucket; checkpoints, metrics,
      images go there.
    command: the flags that make the config, for `metadata.json`.
    resume_changed: whether keys that may (`config_changes.WITH_FLAG`) have
      other values than in the run that is resumed.

  Returns:
    The metrics of the last evaluation, under their full names; none if the run
    stopped before its first.

  Raises:
    ValueError: on a config that cannot be run, or is not that of the run in
      `workdir`.
    FloatingPointError: if the loss stops being finite.
    OSError: if the directory cannot be read or written.
    signals.Stopped: after a checkpoint, if a signal came within
      `signals.handled`.
  """
  began = time.monotonic()
  config = preset.resolve(config)
  path = storage.open_path(workdir)
  with contextlib.ExitStack() as stack:
    run, initial, changes = claimed_run.claim_and_prepare(
      stack, config, path, _load, resume_changed=resume_changed
    )
    config = checks.with_best_metric(config, run.task)
    checkpointer = stack.enter_context(
      prepared_run.open_checkpointer(config, run)
    )
    state = prepared_run.create_or_restore(config, run, checkpointer, initial)
    start = int(state.step)
    if start:
      changes |= resume.check_same_data(
        path, start, run.dataset.info, resume_changed
      )
    prepared_run.describe(config, run, state, command, changes, initial)
    loop = _open_loop(stack, config, run, checkpointer, start, began)
    metrics = _do_steps(loop, state)
    last, best = checkpointer.latest_step(), checkpointer.best_step()
  if jax.process_index() == 0:
    next_steps.log(path, config, command, last, best)
  return metrics


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Loop:
  """What the steps of a run work with.

  Attributes:
    config: the resolved config.
    per_call: steps that a call of `train_step` does.
    train_step: (state, what the call needs) -> (state, values by name).
    batches: pairs (number of the call, what it needs).
    checkpointer: of the run.
    evaluations: between steps.
    rows: metrics of steps, until they are written.
    writer: writes metrics and images.
    bar: the progress bar.
    spent: what the time goes into.
    limit: `train.max_minutes`.
    stop: whether a signal came.
  """

  config: Any
  per_call: int
  train_step: Callable[..., Any]
  batches: Iterator[tuple[int, Any]]
  checkpointer: checkpoints.Checkpointer
  evaluations: in_training.Evaluations
  rows: step_metrics.StepMetrics
  writer: writers.MetricWriter
  bar: progress.Progress
  spent: goodput.Goodput
  limit: time_limit.TimeLimit
  stop: stop_request.StopRequest


def _open_loop(stack, config, run, checkpointer, start, began) -> _Loop:
  """Opens what the steps work with; the stack closes it."""
  total = config.train.num_steps
  per_call, train_step = loop_parts.make_step(config, run, start)
  spent = stack.enter_context(loop_parts.open_goodput(run.path, start, began))
  writer = stack.enter_context(
    loop_parts.open_writer(config, run, start, began)
  )
  batches = stack.enter_context(
    loop_parts.open_batches(run.dataset, start, per_call, total)
  )
  bar = stack.enter_context(loop_parts.open_bar(total, start))
  stop = stop_request.StopRequest()
  loop = _Loop(
    config=config,
    per_call=per_call,
    train_step=next_steps.announce_compilation(train_step, bar, start),
    batches=batches,
    checkpointer=checkpointer,
    evaluations=in_training.Evaluations(
      config, run.path, run.task, run.mesh, run.eval_dataset, writer, stop
    ),
    rows=step_metrics.StepMetrics(
      f"{run.dataset.info.name}/train", config.logging.every_steps
    ),
    writer=writer,
    bar=bar,
    spent=spent,
    limit=time_limit.TimeLimit(
      config.train.max_minutes, began, config.logging.every_steps
    ),
    stop=stop,
  )
  stack.enter_context(signals.deferred())
  return loop


def _do_steps(loop: _Loop, state: Any) -> dict[str, float]:
  """Trains to the end, or until it is to stop; returns the last metrics."""
  config, checkpointer, spent = loop.config, loop.checkpointer, loop.spent
  start, total = int(state.step), config.train.num_steps
  spent.on("evaluation")
  metrics = _evaluate_before_steps(loop.evaluations, state, total, checkpointer)
  for step in range(start + loop.per_call, total + 1, loop.per_call):
    spent.on("data")
    _, batch = next(loop.batches)
    spent.on("steps")
    state, values = loop.train_step(state, batch)
    signal = loop.stop.at_step(step)
    evaluating = step == total or step % config.eval.every_steps == 0
    stopping = step < total and loop.limit.reached(step)
    due = step % config.checkpoint.every_steps == 0
    saving = due or evaluating or stopping or signal
    for row in loop.rows.add(step, values, flush=bool(saving)):
      loop.writer.write_scalars(*row)
    loop.bar.update(step, loss=loop.rows.loss)
    if evaluating and not signal:
      spent.on("evaluation")
      metrics, signal = loop.evaluations.evaluate(step, state.params)
    if saving:
      spent.on("saves")
      loop.writer.flush()
      measured = metrics if evaluating and not signal else {}
      _save(checkpointer, state, config, measured)
    if signal:
      checkpointer.wait()
      _end(signal, f"at step {step}/{total}, saved")
    if stopping:
      _warn_of_time_limit(config, step)
      break
  spent.on("saves")
  checkpointer.wait()
  loop.writer.flush()
  return metrics


def _load(name: str) -> trained_model.TrainedModel:
  """Loads the model of `train.initial_weights`."""
  try:
    return trained_model.load(name, checkpoint="last")
  except FileNotFoundError as error:
    if error.errno:  # Of the system; it names the file.
      raise
    raise FileNotFoundError(f"{error} {_WHICH}") from error
  except ValueError as error:  # Its subclasses take other arguments.
    raise ValueError(f"{error} {_WHICH}") from error


def _evaluate_before_steps(evaluations, state, total, checkpointer):
  """Evaluates what a signal prevented or, if no step is left, the end."""
  start = int(state.step)
  if evaluations.is_missing(start):
    return _complete_evaluation(evaluations, state, checkpointer)
  if start < total:
    return {}
  logging.info("All %d steps of this run are done already.", total)
  metrics, signal = evaluations.evaluate(start, state.params, write=False)
  if signal:
    _end(signal, "after the last step")
  return metrics


def _complete_evaluation(evaluations, state, checkpointer) -> dict[str, float]:
  """Evaluates what was restored, as the stopped run would have done."""
  step = int(state.step)
  metrics, signal = evaluations.evaluate(step, state.params)
  if signal:
    _end(signal, f"at step {step}, which is saved")
  checkpointer.add_metrics(step, _strip_prefix(metrics))
  return metrics


def _save(checkpointer, state, config, metrics: dict[str, float]) -> None:
  """Begins a checkpoint."""
  checkpointer.save(
    state,
    files.jsonable(config.to_dict()),
    metrics=_strip_prefix(metrics) or None,
  )


def _warn_of_time_limit(config, step: int) -> None:
  logging.warning(
    "Stopped at step %d/%d: train.max_minutes=%g reached. Rerun the same "
    "command to resume.",
    *(step, config.train.num_steps, config.train.max_minutes),
  )


def _end(signal: int, when: str) -> NoReturn:
  """Ends the program, in all processes of the run."""
  logging.warning(
    "Received %s %s. Rerun the same command to resume.",
    *(signals.name(signal), when),
  )
  raise signals.Stopped(signal, together=True)


def _strip_prefix(metrics: dict[str, float]) -> dict[str, float]:
  """Metrics under short names: a checkpoint serves evaluation on any data."""
  return {name.rsplit("/", 1)[-1]: value for name, value in metrics.items()}
