"""Checks of a config: its values, and against the run that it resumes."""

from typing import Any

from absl import logging

from slot_attention_jax import tasks
from slot_attention_jax.config import aliases, base
from slot_attention_jax.runtime import files
from slot_attention_jax.runtime import mesh as mesh_lib

# How and how long a process trains, not what.
_RUNTIME_ONLY_KEYS = ("train.steps_per_call", "train.max_minutes")


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


def check_same_run(config: Any, saved: dict[str, Any]) -> None:
  """Warns of keys that differ from the run that is resumed."""
  groups = ("task", "seed", "data", "model", "optim", "train")
  before = _flatten(aliases.update_saved(saved))
  # An older run does not have the keys that were added since; their defaults
  # are what it did.
  defaults = _flatten(base.base_config())
  for key, new in _flatten({g: config[g] for g in groups}).items():
    if key in _RUNTIME_ONLY_KEYS:
      continue
    old = before.get(key, files.jsonable(defaults.get(key)))
    if files.jsonable(new) != old:
      logging.warning(
        "Resuming with %s=%s; the checkpoint was made with %s.", key, new, old
      )


def _flatten(config: Any, prefix: str = "") -> dict[str, Any]:
  """Nested groups as one dict with dotted keys."""
  flat = {}
  for name, value in config.items():
    if hasattr(value, "items"):
      flat |= _flatten(value, f"{prefix}{name}.")
    else:
      flat[f"{prefix}{name}"] = value
  return flat
