"""What differs between two configs of a run, and which keys may."""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from absl import logging

from slot_attention_jax.config import aliases, arguments, base
from slot_attention_jax.runtime import files, storage

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
ABSENT = "none"
"""The value of a key that a run does not have."""
_PATHS = ("data.data_dir", "train.initial_weights")
_ROWS = 12
_WIDTH = 40

Changes = dict[str, tuple[Any, Any]]
"""Old and new value by key."""


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
    key: (old.get(key, ABSENT), value)
    for key, value in new.items()
    if not matches(key, FREE) and not _equal(key, old.get(key, ABSENT), value)
  }


def check_changes(
  path: storage.Path,
  step: int,
  changes: Changes,
  allow: bool,
  also: tuple[str, ...] = (),
) -> None:
  """Raises ValueError, with a table, unless the changes are allowed.

  Args:
    path: directory of the run.
    step: of its last checkpoint.
    changes: what has changed.
    allow: whether the keys of `WITH_FLAG` may have.
    also: other keys that may then.
  """
  never = [key for key in changes if not matches(key, (*WITH_FLAG, *also))]
  if changes and (never or not allow):
    remedy = "give it another directory with --workdir"
    if never:
      remedy += f" (--resume_changed does not allow {_list(never)})."
    else:
      remedy += ", or go on with the new values with --resume_changed."
    own = "" if also else f"To go on as it was begun, {own_config(path)}. "
    raise ValueError(
      f"Expected the config of the run in {path}, which has done {step} steps, "
      f"got another:\n\n{table(changes)}\n\n{own}To begin a new run, {remedy}"
    )
  for key, (old, new) in changes.items():
    logging.warning("From step %d on, %s is %s, was %s.", step, key, new, old)


def own_config(path: storage.Path) -> str:
  """How to give the config of a run, to follow a comma."""
  if storage.is_remote(path):
    return f"give --config=config.json, with a copy of {path / 'config.json'}"
  return (
    f"give --config={shlex.quote(str(path))}, whose config.json must be as the "
    "run wrote it"
  )


def table(changes: Changes) -> str:
  """Keys with their old and new values, a line each."""
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


def matches(key: str, names: tuple[str, ...]) -> bool:
  """Whether a key is one of these names, or in a group of them."""
  return any(
    key.startswith(name) if name.endswith(".") else key == name
    for name in names
  )


def _equal(key: str, old: Any, new: Any) -> bool:
  if key in _PATHS and old and new:
    old, new = (pathlib.Path(p).expanduser().absolute() for p in (old, new))
  return old == new
