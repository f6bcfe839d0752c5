"""A run in a directory that no other training uses.

What is wrong with a config is told before data are opened, and leaves nothing
behind.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax

from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.pretrained import weights_file
from slot_attention_jax.runtime import processes, shapes, storage
from slot_attention_jax.training import (
  checkpoints,
  checks,
  config_changes,
  initial_weights,
  prepared_run,
  resume,
  run_lock,
)

Load = Callable[[str], Any]
"""Loads a trained model, with `name`, `model`, `params` and `steps`."""


def claim_and_prepare(
  stack: contextlib.ExitStack,
  config: Any,
  path: storage.Path,
  load: Load,
  *,
  resume_changed: bool = False,
) -> tuple[
  prepared_run.Run,
  initial_weights.InitialWeights | None,
  config_changes.Changes,
]:
  """Checks a config, claims the directory of its run and opens its data.

  All processes must call this.

  Args:
    stack: holds the directory until it ends.
    config: the resolved config.
    path: the directory.
    load: loads the model of `train.initial_weights`, if the run is not begun:
      it resumes without them.
    resume_changed: whether keys that may have changed.

  Returns:
    A triple (run, initial weights or None for random ones, what has changed
    since the last checkpoint).

  Raises:
    FileNotFoundError: if there are no data where they should be.
    ValueError: on a config that cannot be run, is not that of the run in the
      directory, or whose initial weights do not fit.
  """
  prepared_run.check(config, path)
  name = config.train.initial_weights
  trained = load(name) if name and not _is_begun(path) else None
  info = data_lib.expected_info(config, "train")
  initial = None
  if trained is not None and info is not None:
    initial = _fit(trained, tasks.create_task(config, info), name)
  elif trained is not None:
    initial_weights.check_config(trained, config)
  # A config that cannot be run makes no directory.
  exists = processes.broadcast_from_process_0(path.exists())
  changes = _claim(stack, path, config, resume_changed) if exists else {}
  run = prepared_run.prepare(config, path)
  if trained is not None and initial is None:  # Of data of one's own.
    initial = _fit(trained, run.task, name)
  checks.with_best_metric(config, run.task)
  if not exists:
    changes = _claim(stack, path, config, resume_changed)
  return run, initial, changes


def _is_begun(path: storage.Path) -> bool:
  """Whether a directory has a checkpoint; all processes must call this."""
  directory = path / "checkpoints"
  if not processes.broadcast_from_process_0(directory.is_dir()):
    return False
  with checkpoints.Checkpointer(directory) as checkpointer:
    return checkpointer.latest_step() is not None


def _fit(
  trained: Any, task: tasks.Task, source: str
) -> initial_weights.InitialWeights:
  """Parameters of a trained model as those of a task's."""
  expected = shapes.of(task.init, jax.random.key(0))
  params = initial_weights.fit(
    trained.params, trained.model, task.model, expected, trained.name
  )
  digest = weights_file.parameters_checksum(trained.params)
  return initial_weights.InitialWeights(params, source, trained.steps, digest)


def _claim(stack, path, config, resume_changed) -> config_changes.Changes:
  """Keeps others out of the directory and checks what is in it."""
  stack.enter_context(run_lock.hold(path))
  return resume.check_directory(path, config, resume_changed)
