"""The config of a run, from its `config.json` of any version."""

import pathlib
from typing import Any

import ml_collections

from slot_attention_jax.config import aliases, arguments, base
from slot_attention_jax.runtime import files

_REMEDY = "Give the config.json of a run."
_KINDS = {"task": str, "data": {"name": str}, "model": dict, "train": dict}
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
  content = files.read_json(path, _REMEDY, _KINDS)
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
  try:
    if isinstance(default, tuple) and isinstance(value, list):
      return tuple(_number(x) for x in value)
    if isinstance(default, float) and not isinstance(value, bool):
      return float(value)
    if type(value) is type(default):
      return value
  except (TypeError, ValueError):
    pass
  raise ValueError(
    f"Expected {key} of type {type(default).__name__} in {path}, got {value!r}."
    f" {_REMEDY}"
  )


def _number(value: Any) -> Any:
  """An element of a tuple; JSON has no infinity but the word."""
  return float(value) if value in ("inf", "-inf", "nan") else value
