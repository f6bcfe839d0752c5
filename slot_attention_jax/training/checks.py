"""Checks of the values of a config."""

from typing import Any

from slot_attention_jax import tasks
from slot_attention_jax.runtime import mesh as mesh_lib


def check(config: Any, num_devices: int) -> None:
  """Raises ValueError on counts that cannot be run."""
  mesh_lib.check_batch_size(
    "train.batch_size", config.train.batch_size, num_devices
  )
  mesh_lib.check_batch_size(
    "eval.batch_size", config.eval.batch_size, num_devices
  )
  if config.train.steps_per_call < 0:
    raise ValueError(
      "Expected train.steps_per_call of at least 0, got "
      f"{config.train.steps_per_call}."
    )
  if not config.train.max_minutes >= 0:
    raise ValueError(
      "Expected train.max_minutes of at least 0, which sets no limit, got "
      f"{config.train.max_minutes}."
    )
  for group, key in (
    ("train", "num_steps"),
    ("eval", "every_steps"),
    ("checkpoint", "every_steps"),
    ("logging", "every_steps"),
  ):
    if config[group][key] < 1:
      raise ValueError(
        f"Expected {group}.{key} of at least 1, got {config[group][key]}."
      )


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
