"""Checks of the values of a config."""

from typing import Any

import jax

from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.config import allowed, base
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import loggers


def check(config: Any, num_devices: int) -> None:
  """Checks a config for training, before any data are decoded or rendered.

  Args:
    config: a whole `ConfigDict`.
    num_devices: devices that a batch is split over.

  Raises:
    FileNotFoundError: if there are no data where they should be.
    ValueError: on a config that cannot be run, that lacks weights to start
      from, or whose writers need a package that is not installed.
  """
  check_evaluation(config, num_devices)
  if config.train.initial_weights == base.REQUIRED:
    raise ValueError(
      "Expected train.initial_weights, which this config is made to start "
      "from, got none. Give the run of a smaller model, as "
      "--config.train.initial_weights=RUN; or start from random weights on "
      "purpose, with --config.train.initial_weights= and nothing behind it."
    )
  if jax.process_index() == 0:
    loggers.check_installed(loggers.enabled(config.logging))
  mesh_lib.check_batch_size(
    "train.batch_size", config.train.batch_size, num_devices
  )
  info = data_lib.expected_info(config, "train")
  if info is not None:
    with_best_metric(config, tasks.create_task(config, info))


def check_evaluation(config: Any, num_devices: int) -> None:
  """Checks a config for evaluation; arguments and errors as of `check`."""
  allowed.check_values(config)
  mesh_lib.check_batch_size(
    "eval.batch_size", config.eval.batch_size, num_devices
  )
  if config.eval.split == "train":
    raise ValueError(
      "Expected an evaluation split as eval.split, got 'train', which is "
      "endless. Use eval.split='validation' or 'test'."
    )
  info = data_lib.expected_info(config, config.eval.split)
  if info is not None:
    tasks.create_task(config, info)


def with_best_metric(config: Any, task: tasks.Task) -> Any:
  """Settles which metric decides the best checkpoint.

  Args:
    config: a whole `ConfigDict`; `checkpoint.best_metric` and `best_mode` are
      read.
    task: what is trained; it chooses if the metric is `"auto"`.

  Returns:
    A copy of the config that names a metric and a mode, or `""` for none.

  Raises:
    ValueError: on a metric that the task does not have on its data.
  """
  config = config.copy_and_resolve_references()
  checkpoint = config.checkpoint
  if checkpoint.best_metric == "auto":
    checkpoint.best_metric, checkpoint.best_mode = task.best_metric
  if checkpoint.best_metric not in ("", *task.metric_names):
    raise ValueError(
      f"Expected checkpoint.best_metric out of {task.metric_names}, which the "
      f"data allow, 'auto' or '', got {checkpoint.best_metric!r}."
    )
  return config
