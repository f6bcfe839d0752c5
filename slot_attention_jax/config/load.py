"""Finds a config file by name or path, from any directory, and loads it."""

import importlib.util
import inspect
import os
import pathlib
import re
import traceback
import types
from typing import Any

from slot_attention_jax.runtime import user_errors

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


def load_config(name: str | os.PathLike[str]) -> Any:
  """Loads a config by name or path.

  Args:
    name: a config of this package, as `"clevr_set"`; the path of a Python file
      with a function `get_config`; or the directory of a run, or its
      `config.json`. After a colon, the names of variants, as
      `"clevr_set:small"` or `"my_config.py:debug"`, or `key=value`.

  Returns:
    The `ConfigDict` that `get_config` returns, locked.

  Raises:
    ValueError: if there is no such config or variant, or its file fails, with
      the line.

  Example:
    >>> import slot_attention_jax as sa
    >>> config = sa.load_config("quickstart:debug")
    >>> config.model.num_slots, config.train.num_steps
    (5, 2)
  """
  path, arg = find_config(name)
  try:
    config = _get_config(path, arg)
  except Exception as error:
    if user_errors.is_users(error):
      raise
    raise ValueError(
      f"Expected {path} to make a config, got {_describe_bug(path, error)}. "
      "Correct the file."
    ) from error
  if not hasattr(config, "lock"):
    raise ValueError(
      f"Expected get_config of {path} to return a ConfigDict, got "
      f"{type(config).__name__}."
    )
  return config.lock()


def _get_config(path: pathlib.Path, arg: str) -> Any:
  """What a config file makes of its arguments."""
  if path.suffix == ".json":
    # The library itself is imported without ml_collections.
    from slot_attention_jax.config import saved

    return saved.read_config(path, arg)
  module = _load_module(path)
  if not hasattr(module, "get_config"):
    raise ValueError(f"Expected a function get_config in {path}, got none.")
  takes_arg = bool(inspect.signature(module.get_config).parameters)
  if arg and not takes_arg:
    raise ValueError(
      f"Expected no variants, as get_config of {path} has no argument for "
      f"them, got {arg!r}."
    )
  return module.get_config(*([arg] if takes_arg else []))


def _describe_bug(path: pathlib.Path, error: Exception) -> str:
  """An error in a config file, with its line."""
  frames = traceback.extract_tb(error.__traceback__)
  lines = [f.lineno for f in frames if f.filename == str(path)]
  line = error.lineno if isinstance(error, SyntaxError) else [None, *lines][-1]
  message = str(error).strip().partition("\n")[0]
  return f"{type(error).__name__} in line {line}: {message.rstrip('.')}"


def config_names() -> list[str]:
  """Names of the configs of this package, sorted."""
  files = _config_directory().glob("*.py")
  return sorted(path.stem for path in files if path.stem != "__init__")


def find_config(
  name: str | os.PathLike[str],
) -> tuple[pathlib.Path, str]:
  """Finds the file of a config.

  A name without `.py` is a config of this package, and so is `configs/NAME.py`
  where the working directory has no such file; a file that exists wins. A
  directory does not win over a name: `./quickstart` is one.

  Args:
    name: see `load_config`.

  Returns:
    A pair (path of the file, what follows the colon).

  Raises:
    ValueError: if there is no such file.
  """
  name = os.fspath(name)
  if re.match(r"\w+://", name):
    raise ValueError(
      f"Expected a config on a file system, got {name!r}. Copy the file, of a "
      "run its config.json, and give the copy."
    )
  # The colon after a drive's letter belongs to the path, others may.
  colons = [m.start() for m in re.finditer(r":(?!(?<=^[A-Za-z]:)[\\/])", name)]
  splits = [(name[:i], name[i + 1 :]) for i in colons] + [(name, "")]
  first, arg = splits[0]
  if first not in config_names():
    for file, rest in splits:
      path = pathlib.Path(file).expanduser()
      if path.is_file():
        return path, rest
      if file and (path / "config.json").is_file():
        return path / "config.json", rest
  stem = re.sub(r"^configs[\\/](.+)\.py$", r"\1", first)
  if stem in config_names():
    return _config_directory() / f"{stem}.py", arg
  raise ValueError(_unknown(first))


def _unknown(file: str) -> str:
  """The message for a config that does not exist."""
  from slot_attention_jax.config import arguments  # As above.

  names = config_names()
  stem = re.split(r"[\\/]", file)[-1].removesuffix(".py")
  missing = ", which does not exist" if stem != file else ""
  if file and pathlib.Path(file).is_dir():
    missing = ", a directory without config.json"
  return (
    f"Expected a config out of {names}, the path of a Python file or the "
    f"directory of a run, got {file!r}{missing}."
    f"{arguments.suggest(stem, names)}"
  )


def _config_directory() -> pathlib.Path:
  """Where the configs are: in the package or, in a checkout, beside it."""
  installed = _PACKAGE / "configs"
  return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def _load_module(path: pathlib.Path) -> types.ModuleType:
  """Runs a config file as a module that no import can mistake for another."""
  name = f"slot_attention_jax_config_{path.stem}"
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise ValueError(
      f"Expected a Python file or the config.json of a run, got {path}."
    )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
