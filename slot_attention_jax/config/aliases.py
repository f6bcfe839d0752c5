"""Config keys that were renamed: the old names and the new.

Saved runs, weights and commands keep the names they were written with; their
readers call `update_saved` or `update_command` first. On the command line, an
old name is an error that says the new one.
"""

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

RENAMED: Mapping[str, str] = {
  "data.num_scenes": "data.scenes.num_eval",
  "data.num_train_scenes": "data.scenes.num_train",
  "data.num_objects": "data.scenes.num_objects",
  "data.held_out": "data.scenes.held_out",
  "data.frame": "data.scenes.frame",
  "data.tetrominoes_step": "data.scenes.tetrominoes_step",
  "data.num_train_eval": "data.tfds.num_train_eval",
  "model.slot_start": "model.slot_init",
  "data.train_split": "data.tfds.train_split",  # Of folders, see `new_key`.
}
_TRAIN_SPLITS = ("data.tfds.train_split", "data.folder.train_split")
# A dotted key before "=", as in `data.frame=` or `config.data.frame=`.
_KEY = re.compile(r"(?<![\w.])((?:\w+\.)+\w+)(?==)")


def new_key(key: str, data_name: str = "") -> str:
  """Returns the current name of a key.

  Args:
    key: dotted, as `"data.num_scenes"`.
    data_name: `data.name` of the config: one old key became a key for each of
      two sources.

  Returns:
    The key; itself if it was never renamed.

  Example:
    >>> from slot_attention_jax.config import aliases
    >>> aliases.new_key("data.num_scenes")
    'data.scenes.num_eval'
    >>> aliases.new_key("data.train_split", "folder")
    'data.folder.train_split'
  """
  if (key, data_name) == ("data.train_split", "folder"):
    return "data.folder.train_split"
  return RENAMED.get(key, key)


def update_saved(config: Mapping[str, Any]) -> dict[str, Any]:
  """Renames the old keys of a saved config.

  Args:
    config: nested, as read from a `config.json` of any version.

  Returns:
    A copy with the current names; where both names are there, the current one
    counts.
  """
  config = copy.deepcopy(dict(config))
  data_name = config.get("data", {}).get("name", "")
  for key in RENAMED:
    *groups, name = key.split(".")
    holder = config
    for group in groups:
      holder = holder.get(group, {})
    if name not in holder:
      continue
    value = holder.pop(name)
    _set_missing(config, new_key(key, data_name), value)
  # These were one key; the one that the run did not read has its default.
  for key in _TRAIN_SPLITS:
    _set_missing(config, key, "train")
  return config


def _set_missing(config: dict[str, Any], key: str, value: Any) -> None:
  *groups, name = key.split(".")
  for group in groups:
    config = config.setdefault(group, {})
  config.setdefault(name, value)


def update_command(command: str) -> str:
  """Renames the old keys in a command, or in what follows a config's colon.

  Args:
    command: as `"--config=configs/tetrominoes.py --config.data.num_scenes=9"`,
      or `"data.num_scenes=9,model.num_slots=4"`.

  Returns:
    The same with renamed keys.

  Example:
    >>> from slot_attention_jax.config import aliases
    >>> aliases.update_command("--config=a.py:data.num_scenes=9,seed=1")
    '--config=a.py:data.scenes.num_eval=9,seed=1'
  """
  named = re.search(r"\bdata\.name=(\w+)", command)

  def replace(match: re.Match[str]) -> str:
    key = match[1].removeprefix("config.")
    prefix = match[1].removesuffix(key)
    return prefix + new_key(key, named[1] if named else "")

  return _KEY.sub(replace, command)


def check_keys(keys: Iterable[str]) -> None:
  """Raises ValueError, with the new names, if keys have an old name.

  Args:
    keys: dotted keys, without values.
  """
  renamed = {}
  for key in keys:
    if new := sorted({new_key(key), new_key(key, "folder")} - {key}):
      renamed[key] = " or ".join(map(repr, new))
  if len(renamed) == 1:
    ((key, new),) = renamed.items()
    raise ValueError(
      f"Expected a key of the config, got {key!r}, which is now called {new}."
    )
  if renamed:
    lines = (f"\n  {key!r} is now called {new}" for key, new in renamed.items())
    raise ValueError(
      f"Expected keys of the config, got {len(renamed)} old names:"
      f"{''.join(lines)}"
    )
