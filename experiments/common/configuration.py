"""Configs by name, for scripts: they are no part of the installed package."""

import importlib
import pathlib
import shlex
import sys
from typing import Any

from slot_attention_jax.config import aliases

_ROOT = str(pathlib.Path(__file__).resolve().parents[2])


def load_config(name: str) -> Any:
  """The config of a name or path in `configs/`.

  Args:
    name: as `"clevr_set"`, `"configs/clevr_set.py"`, with arguments after a
      colon if any.

  Returns:
    The config, locked.

  Raises:
    ModuleNotFoundError: if there is no such config.
    ValueError: on an unknown argument.
  """
  if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)
  file, _, arg = name.partition(":")
  module = importlib.import_module(f"configs.{pathlib.Path(file).stem}")
  return module.get_config(arg)


def load_recipe(recipe: str) -> Any:
  """The config of a recipe, as `metadata.json` and weights have it.

  Args:
    recipe: flags, as `"--config=configs/clevr_set.py:debug --config.seed=1"`;
      others than these are passed over.

  Returns:
    The config, locked.

  Raises:
    ModuleNotFoundError: if there is no such config.
    ValueError: on no config, or an unknown argument.
  """
  name, overrides = "", []
  # It may be as old as the weights that it is of.
  for word in shlex.split(aliases.update_command(recipe)):
    flag, _, value = word.lstrip("-").partition("=")
    if flag == "config":
      name = value
    elif flag.startswith("config."):
      overrides.append(f"{flag.removeprefix('config.')}={value}")
  if not name:
    raise ValueError(
      f"Expected a recipe with --config=FILE, got {recipe!r}. Give the config "
      "itself."
    )
  file, _, arg = name.partition(":")
  return load_config(
    f"{file}:{','.join([*([arg] if arg else []), *overrides])}"
  )
