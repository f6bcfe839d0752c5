"""Checks of a config, before a run and against the run that it resumes."""

from typing import Any

from absl import logging

from slot_attention_jax.runtime import files
from slot_attention_jax.runtime import mesh as mesh_lib

# They say how and how long a process computes updates, not which.
_CHANGE_NO_UPDATE = ("train.steps_per_call", "train.max_minutes")


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


def check_same_run(config: Any, saved: dict[str, Any]) -> None:
  """Warns of keys that differ from the run that is resumed."""
  groups = ("data", "model", "optim", "train")
  pairs = [(k, config[k], saved.get(k)) for k in ("task", "seed")]
  for group in groups:
    old = saved.get(group, {})
    pairs += [(f"{group}.{k}", v, old.get(k)) for k, v in config[group].items()]
  pairs = [pair for pair in pairs if pair[0] not in _CHANGE_NO_UPDATE]
  for key, new, old in pairs:
    if files.jsonable(new) != old:
      logging.warning(
        "Resuming with %s=%s; the checkpoint was made with %s.", key, new, old
      )
