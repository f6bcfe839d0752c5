"""Which run a directory holds, and whether this config may go on with it."""

import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import logging

from slot_attention_jax.config import aliases, arguments, base
from slot_attention_jax.data import types
from slot_attention_jax.runtime import files, storage
from slot_attention_jax.training import (
  checkpoints,
  record_kinds,
  sound_checkpoints,
)

# Keys that change nothing that is computed, apart from rounding; a name that
# ends with a dot stands for all keys in it. They may differ from the run's.
FREE = (
  "checkpoint.",
  "data.cache_dir",
  "data.fallback",
  "data.on_device",
  "eval.batch_size",
  "eval.checkpoint",
  "logging.",
  "model.remat_decoder",
  "model.unroll",
  "train.max_minutes",
  "train.quick_compilation",
  "train.steps_per_call",
)
# Keys that may change from a step on, if the user says so: the length, the
# schedule, where the data lie, and what evaluations measure.
WITH_FLAG = (
  "data.data_dir",
  "data.scenes.num_eval",
  "eval.",
  "optim.b1",
  "optim.b2",
  "optim.clip_norm",
  "optim.decay_rate",
  "optim.decay_steps",
  "optim.eps",
  "optim.learning_rate",
  "optim.schedule",
  "optim.warmup_steps",
  "train.batch_size",
  "train.num_steps",
)
_MODEL = ("task", "model.")
_IN_TRAINING_ONLY = (
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
_PATHS = ("data.data_dir", "train.initial_weights")
_ABSENT = "none"
_ROWS = 12
_WIDTH = 40

Changes = dict[str, tuple[Any, Any]]
"""Old and new value by key."""


def check_directory(path: storage.Path, config: Any, allow: bool) -> Changes:
  """Checks that a directory holds no other run than that of a config.

  Args:
    path: directory of the run, which need not exist; it is only read.
    config: the resolved config.
    allow: whether the keys of `WITH_FLAG` may have changed.

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
  changes = changed_keys(saved, config.to_dict())
  _check_changes(path, step, changes, allow)
  return changes


def changed_keys(
  saved: Mapping[str, Any], config: Mapping[str, Any]
) -> Changes:
  """Compares the config of a run with that of its resumption.

  Args:
    saved: as it was saved, by this version or an earlier one.
    config: nested.

  Returns:
    The keys that differ and may not do so without a word; a key that the run
    did not know yet has its default there.
  """
  old = dict(arguments.flatten(files.jsonable(base.base_config().to_dict())))
  old |= arguments.flatten(aliases.update_saved(saved))
  new = dict(arguments.flatten(files.jsonable(dict(config))))
  return {
    key: (old.get(key, _ABSENT), value)
    for key, value in new.items()
    if not _matches(key, FREE) and not _equal(key, old.get(key, _ABSENT), value)
  }


def check_same_data(
  path: storage.Path, step: int, info: types.DatasetInfo, allow: bool
) -> Changes:
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
  _check_changes(path, step, changes, allow, also=("data", "num_examples"))
  return changes | _other_scenes(path, step, about, info)


def _other_scenes(path, step, about, info) -> Changes:
  """Warns if synthetic scenes are not rendered as in the run so far."""
  new = info.scenes_version
  # Images of version 1 are those of runs that recorded none, if there is no 2.
  old = about.get("scenes_version") or (1 if new == 1 else _ABSENT)
  if new is None or old == new:
    return {}
  known = old != _ABSENT
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
    for key, values in changed_keys(saved, config.to_dict()).items()
    if _matches(key, _MODEL) and not _matches(key, _IN_TRAINING_ONLY)
  }
  if changes:
    raise ValueError(
      f"Expected the model of the run in {path}, got another:\n\n"
      f"{_table(changes)}\n\nGive the --config of the run. K and T of an "
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
    if not changed_keys(json.loads(text), config):
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


def _check_changes(path, step, changes, allow, also=()) -> None:
  """Raises ValueError, with a table, unless the changes are allowed."""
  never = [key for key in changes if not _matches(key, (*WITH_FLAG, *also))]
  if changes and (never or not allow):
    remedy = "give it another directory with --workdir"
    if never:
      remedy += f" (--resume_changed does not allow {_list(never)})."
    else:
      remedy += ", or go on with the new values with --resume_changed."
    raise ValueError(
      f"Expected the config of the run in {path}, which has done {step} steps, "
      f"got another:\n\n{_table(changes)}\n\nTo begin a new run, {remedy}"
    )
  for key, (old, new) in changes.items():
    logging.warning("From step %d on, %s is %s, was %s.", step, key, new, old)


def _table(changes: Changes) -> str:
  rows = [("key", "in the run", "now")]
  rows += [
    (key, _shorten(old), _shorten(new)) for key, (old, new) in changes.items()
  ][:_ROWS]
  widths = [max(len(row[i]) for row in rows) for i in range(2)]
  lines = [
    f"  {key:{widths[0]}}  {old:{widths[1]}}  {new}" for key, old, new in rows
  ]
  if len(changes) > _ROWS:
    lines.append(f"  and {len(changes) - _ROWS} more")
  return "\n".join(lines)


def _list(keys: list[str]) -> str:
  shown = ", ".join(keys[:4])
  return shown + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


def _shorten(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _matches(key: str, names: tuple[str, ...]) -> bool:
  return any(
    key.startswith(name) if name.endswith(".") else key == name
    for name in names
  )


def _equal(key: str, old: Any, new: Any) -> bool:
  if key in _PATHS and old and new:
    old, new = (pathlib.Path(p).expanduser().absolute() for p in (old, new))
  return old == new
