"""Which run a directory holds, and whether this config may go on with it."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

from absl import logging

from slot_attention_jax.data import types
from slot_attention_jax.runtime import files, storage
from slot_attention_jax.training import (
  checkpoints,
  config_changes,
  record_kinds,
  sound_checkpoints,
)

_MODEL = ("task", "model.")
_IN_TRAINING_ONLY = (
  "model.background_weight",
  "model.early_iterations",
  "model.early_steps",
  "model.foreground_fall",
  "model.foreground_ramp",
  "model.foreground_weight",
  "model.gradient",
  "model.overlap_ramp",
  "model.overlap_weight",
  "model.train_iterations",
)
_RECORDS = (
  "config.json",
  "metadata.json",
  "metrics.jsonl",
  "goodput.jsonl",
  "trackers.json",
  "evaluation.json",
  "evaluation.md",
)


def check_directory(
  path: storage.Path, config: Any, allow: bool
) -> config_changes.Changes:
  """Checks that a directory holds no other run than that of a config.

  Args:
    path: directory of the run, which need not exist; it is only read.
    config: the resolved config.
    allow: whether the keys of `config_changes.WITH_FLAG` may have changed.

  Returns:
    What has changed since the last checkpoint that is sound.

  Raises:
    ValueError: if something has that may not.
  """
  about = read_metadata(path)
  if "settings" in about and not (path / "checkpoints").is_dir():
    raise ValueError(
      f"Expected the directory of a training, got {path}, which holds scenes "
      "that --mode=render wrote. Give another directory with --workdir."
    )
  with checkpoints.Checkpointer(path / "checkpoints") as checkpointer:
    step = sound_checkpoints.newest_sound_step(checkpointer)
    if step is None:
      return {}
    saved = checkpointer.restore_config(step)
  changes = config_changes.changed_keys(saved, config.to_dict())
  config_changes.check_changes(path, step, changes, allow)
  return changes


def check_same_data(
  path: storage.Path, step: int, info: types.DatasetInfo, allow: bool
) -> config_changes.Changes:
  """Checks that a resumed run trains on the data that it was begun with.

  Equal configs may find other data: another version, or none, so that
  synthetic scenes stand in. Another version of the images of synthetic scenes
  is a warning.

  Args:
    path: directory of the run.
    step: of the checkpoint.
    info: of the training data.
    allow: whether their name and number may have changed.

  Returns:
    What has changed.

  Raises:
    ValueError: if something has that may not.
  """
  about = read_metadata(path)
  # Of the training data that were found; the names are those of the file.
  now = {
    "own_scenes": info.own_scenes,
    "data": info.name,
    "num_examples": info.num_examples,
  }
  changes = {
    key: (about[key], value)
    for key, value in now.items()
    if key in about and about[key] != value
  }
  config_changes.check_changes(
    path, step, changes, allow, also=("data", "num_examples")
  )
  return changes | _other_scenes(path, step, about, info)


def _other_scenes(path, step, about, info) -> config_changes.Changes:
  """Warns if synthetic scenes are not rendered as in the run so far."""
  new = info.scenes_version
  # Images of version 1 are those of runs that recorded none, if there is no 2.
  absent = config_changes.ABSENT
  old = about.get("scenes_version") or (1 if new == 1 else absent)
  if new is None or old == new:
    return {}
  known = old != absent
  logging.warning(
    "Expected %s of %s, as in the first %d steps of the run in %s, got version "
    "%d: from here on its images %s. To keep the images, resume with the code "
    "that trained so far (%s); for equal images in all steps, begin a new run "
    "with --workdir.",
    *(info.name, f"version {old}" if known else "a version not recorded"),
    *(step, path, new, "differ" if known else "may differ"),
    about.get("code", "not recorded"),
  )
  return {"scenes_version": (old, new)}


def check_same_model(path: storage.Path, config: Any, saved: Any) -> None:
  """Checks that a config describes the model of the run that is evaluated.

  Args:
    path: directory of the run.
    config: the resolved config of the evaluation.
    saved: that of the checkpoint.

  Raises:
    ValueError: if the task or a key of the model differs that matters beyond
      training.
  """
  changes = {
    key: values
    for key, values in config_changes.changed_keys(
      saved, config.to_dict()
    ).items()
    if config_changes.matches(key, _MODEL)
    and not config_changes.matches(key, _IN_TRAINING_ONLY)
  }
  if changes:
    rows = config_changes.table(changes)
    raise ValueError(
      f"Expected the model of the run in {path}, got another:\n\n{rows}\n\n"
      f"For the run's own, {config_changes.own_config(path)}. K and T of an "
      "evaluation are eval.num_slots and eval.num_iterations."
    )


def set_aside(path: storage.Path, config: Mapping[str, Any]) -> None:
  """Moves the records of another run, which has no checkpoint, out of the way.

  A new run writes files of the same names. They are kept in `earlier/1`, or
  the next free number.

  Args:
    path: directory of the new run.
    config: of the new run, nested.
  """
  try:
    text = (path / "config.json").read_text(encoding="utf-8")
    if not config_changes.changed_keys(json.loads(text), config):
      return
  except FileNotFoundError:
    return
  except (ValueError, AttributeError, TypeError):
    logging.warning("Cannot read %s, it is set aside.", path / "config.json")
  numbers = (path / "earlier" / str(n) for n in itertools.count(1))
  target = next(p for p in numbers if not p.exists())
  target.mkdir(parents=True)
  for name in _RECORDS:
    if (path / name).exists():
      storage.move(path / name, target / name)
  logging.warning(
    "%s has records of another run without checkpoints; they are in %s now.",
    path,
    target,
  )


def read_metadata(path: storage.Path) -> dict[str, Any]:
  """The `metadata.json` of a directory, empty if there is none.

  Args:
    path: the directory.

  Returns:
    Its content.

  Raises:
    ValueError: if it is damaged.
  """
  file = path / "metadata.json"
  if not file.exists():
    return {}
  return files.read_json(
    file,
    "If the run is sound otherwise, delete the file: training writes it again.",
    optional=record_kinds.METADATA,
  )
