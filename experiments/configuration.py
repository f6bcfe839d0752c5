"""Configs by name, for scripts: they are no part of the installed package."""

import importlib
import pathlib
import sys
from typing import Any

_ROOT = str(pathlib.Path(__file__).resolve().parents[1])


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
