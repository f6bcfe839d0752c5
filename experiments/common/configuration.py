"""Loads configs by the command of a run or of weights."""

import shlex
from typing import Any

from slot_attention_jax.config import aliases, load


def load_command(command: str) -> Any:
  """Loads the config of a command recorded in `metadata.json` or weights.

  Args:
    command: flags, as `"--config=configs/clevr_set.py:debug --config.seed=1"`;
      other flags are ignored. Keys may have old names.

  Returns:
    The config, locked.

  Raises:
    ValueError: if it names no config, an unknown one, or an unknown variant or
      key.
  """
  name, overrides = "", []
  for word in shlex.split(aliases.update_command(command)):
    flag, _, value = word.lstrip("-").partition("=")
    if flag == "config":
      name = value
    elif flag.startswith("config."):
      overrides.append(f"{flag.removeprefix('config.')}={value}")
  if not name:
    raise ValueError(
      f"Expected a command with --config=FILE, got {command!r}. Give the "
      "config itself."
    )
  file, _, arg = name.partition(":")
  return load.load_config(
    f"{file}:{','.join([*([arg] if arg else []), *overrides])}"
  )
