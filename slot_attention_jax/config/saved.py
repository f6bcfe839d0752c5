"""The config of a run, from its `config.json` of any version."""

import pathlib
from typing import Any

import ml_collections

from slot_attention_jax.config import aliases, arguments, base
from slot_attention_jax.runtime import files

_REMEDY = "Give the config.json of a run as the run wrote it."
_KINDS = {
  "task": str,
  "data": {"name": str},
  **dict.fromkeys(
    ("model", "optim", "train", "eval", "checkpoint", "logging"), dict
  ),
}
_GROUPS = {"data": dict.fromkeys(("scenes", "tfds", "folder"), dict)}
# JSON has no numbers for these.
_NOT_FINITE = ("inf", "-inf", "nan")
# What options that were removed are when they are off.
_OFF = (None, False, 0, 0.0, "", [0, 0], [])


def read_config(path: pathlib.Path, arg: str = "") -> ml_collections.ConfigDict:
  """Reads the config of a run.

  Args:
    path: its `config.json`.
    arg: `key=value`, separated by commas, and `debug`: see
      `arguments.apply_arguments`.

  Returns:
    The config, locked. Keys that the run did not know have their defaults.

  Raises:
    ValueError: if the file is damaged, has a value of another type, or a key
      that this version does not know and that is not off.

  Example:
    >>> import pathlib, tempfile
    >>> import slot_attention_jax as sa
    >>> from slot_attention_jax.config import saved
    >>> from slot_attention_jax.runtime import files
    >>> path = pathlib.Path(tempfile.mkdtemp(), "config.json")
    >>> files.write_json(path, sa.load_config("quickstart").to_dict())
    >>> saved.read_config(path, "seed=3").seed
    3
  """
  content = files.read_json(path, _REMEDY, _KINDS, _GROUPS)
  content = dict(arguments.flatten(aliases.update_saved(content)))
  config = base.base_config().lock()
  known = dict(arguments.flatten(config))
  values = {
    key: _read(path, key, value, known[key])
    for key, value in content.items()
    if key in known
  }
  unknown = {
    key: value
    for key, value in content.items()
    if key not in known and value not in _OFF
  }
  if unknown:
    raise ValueError(
      f"Expected keys of the config in {path}, got {sorted(unknown)}, which "
      "this version does not know. Use the version that wrote it, or remove "
      "them from a copy."
    )
  config.update_from_flattened_dict(values)
  return arguments.apply_arguments(config, arg)


def _read(path: pathlib.Path, key: str, value: Any, default: Any) -> Any:
  """A value that was JSON, of the default's type."""
  if isinstance(default, tuple) and isinstance(value, list):
    found = tuple(_as(x, default[0] if default else x) for x in value)
    if None not in found:
      return found
  elif (found := _as(value, default)) is not None:
    return found
  raise ValueError(
    f"Expected {key} of type {type(default).__name__} in {path}, got {value!r}."
    f" {_REMEDY}"
  )


def _as(value: Any, default: Any) -> Any:
  """A value that was JSON, of the type of another one; None if it is not."""
  if isinstance(default, float) and type(value) in (int, float):
    return float(value) if abs(value) < 1e300 else None
  if isinstance(default, float) and value in _NOT_FINITE:
    return float(value)
  return value if type(value) is type(default) else None
