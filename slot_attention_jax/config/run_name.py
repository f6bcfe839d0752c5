"""The directory of a run where none is given: `runs/NAME`, or that of a run."""

import hashlib
import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from slot_attention_jax.config import arguments, load

# These say how long a process works, where it keeps files, where metrics go and
# which checkpoint an evaluation reads: no other run.
_NOT_IN_NAME = (
  "train.max_minutes",
  "data.cache_dir",
  "eval.checkpoint",
  "logging.writers",
)
# An evaluation may have others than the training had.
_OF_EVALUATION = ("eval.", "logging.", "data.on_device", "data.scenes.num_eval")
_LONGEST = 80


def run_name(
  config: Any, path: pathlib.Path, arg: str, ignored: Iterable[str] = ()
) -> str:
  """Names a run: config, variants, seed and a hash of the other overrides.

  Two configs that differ in anything but `train.max_minutes`,
  `data.cache_dir`, `eval.checkpoint` and `logging.writers` have two names; how
  an override was spelled, behind the colon or as a flag, makes no difference.

  Args:
    config: the resolved config.
    path: its file.
    arg: what follows the colon.
    ignored: beginnings of keys that are left out of the hash.

  Returns:
    One part of a path, as `"clevr_set_small_seed1_0fb5a3c2"`.
  """
  parts = [path.resolve().parent.name if is_of_run(path) else path.stem]
  parts += _differences(config, path, arg, ignored)
  name = re.sub(r'[\\/:*?"<>|\s]', "_", "_".join(filter(None, parts)))
  if len(name) > _LONGEST:
    name = f"{name[:_LONGEST]}_{_hash(name)}"
  return name


def run_directory(
  config: Any, path: pathlib.Path, arg: str, ignored: Iterable[str] = ()
) -> pathlib.Path:
  """Where a run is: `runs/NAME`, or where the run is whose config it has.

  Args:
    config: as of `run_name`, like all others.
    path: the file.
    arg: what follows the colon.
    ignored: beginnings of keys.

  Returns:
    The directory.
  """
  if is_of_run(path) and not any(_differences(config, path, arg, ignored)):
    return path.parent
  return pathlib.Path("runs", run_name(config, path, arg, ignored))


def is_of_run(path: pathlib.Path) -> bool:
  """Whether a config's file is the `config.json` in the directory of a run."""
  return path.name == "config.json" and path.with_name("metadata.json").exists()


def evaluated_runs(
  config: Any, path: pathlib.Path, arg: str
) -> list[pathlib.Path]:
  """Directories of runs that an evaluation may mean, the likeliest first.

  Args:
    config: as of `run_name`, like `path` and `arg`.
    path: the file.
    arg: what follows the colon.

  Returns:
    That of the run with the same overrides, then that of the run without those
    that concern the evaluation alone.
  """
  return [
    run_directory(config, path, arg, ignored)
    for ignored in ((), _OF_EVALUATION)
  ]


def _differences(config, path, arg, ignored) -> list[str]:
  """What a name tells besides the config's: variants, seed, a hash."""
  variants = ",".join(_variants(arg))
  changes = _changes(config, path, variants)
  seed = f"seed{changes.pop('seed')}" if "seed" in changes else ""
  skipped = (*_NOT_IN_NAME, *ignored)
  changes = {k: v for k, v in changes.items() if not k.startswith(skipped)}
  others = json.dumps(changes, sort_keys=True, default=repr)
  return [variants, seed, _hash(others) if changes else ""]


def _variants(arg: str) -> list[str]:
  """What follows the colon, without `key=value`."""
  try:
    items = arguments.split(arg)
  except ValueError:  # A config of one's own may take anything.
    return [arg]
  return [item for item in items if "=" not in item]


def _changes(config: Any, path: pathlib.Path, variants: str) -> dict[str, Any]:
  """Keys that differ from the config's with these variants, and values."""
  now = dict(arguments.flatten(config))
  name = str(path) + (f":{variants}" if variants else "")
  try:
    before = dict(arguments.flatten(load.load_config(name)))
  except Exception:  # A config of one's own may need its arguments.
    before = {}
  return {k: v for k, v in now.items() if k not in before or before[k] != v}


def _hash(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:8]
