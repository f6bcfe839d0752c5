"""What the training loop opens before its first step."""

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import jax

from slot_attention_jax.data import prefetch, types
from slot_attention_jax.runtime import files, progress, storage
from slot_attention_jax.training import (
  goodput,
  loggers,
  multi_step,
  prepared_run,
  writers,
)


def make_step(
  config: Any, run: prepared_run.Run, start: int
) -> tuple[int, Callable[..., Any]]:
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
    run.task,
    run.optimizer,
    run.schedule,
    run.mesh,
    run.dataset,
    per_call,
    quick=config.train.quick_compilation,
  )


def open_goodput(
  path: storage.Path, start: int, began: float
) -> goodput.Goodput:
  """Counts what the time goes into, and what a kill has lost."""
  lost = writers.seconds_after(path / writers.METRICS_FILE, start)
  record = path if jax.process_index() == 0 else None
  return goodput.Goodput(began, lost, record)


def open_bar(total: int, start: int) -> progress.Progress:
  """The progress bar of the steps."""
  return progress.Progress(total, "Training", "steps", initial=start)


def open_writer(
  config: Any, run: prepared_run.Run, start: int, began: float
) -> contextlib.closing[writers.MetricWriter]:
  """What writes metrics and images, also those of an earlier process."""
  return contextlib.closing(
    loggers.create_writer(
      run.path,
      total_steps=config.train.num_steps,
      names=loggers.enabled(config.logging),
      process_index=jax.process_index(),
      resume_step=start,
      began=began,
      config=files.jsonable(config.to_dict()),
    )
  )


def open_batches(
  dataset: types.Dataset, start: int, per_call: int, total: int
) -> contextlib.closing[Generator[tuple[int, Any], None, None]]:
  """Pairs (number of the call, what it needs), loaded ahead."""
  # A thread would make the order of the devices' programs differ between
  # processes; they run ahead of the host anyway.
  depth = 2 if jax.process_count() == 1 else 0
  load = multi_step.make_loader(dataset, start, per_call)
  calls = (total - start) // per_call
  return contextlib.closing(prefetch.prefetch(load, 0, depth, calls))
