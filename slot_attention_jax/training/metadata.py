"""What a run is, in JSON files: config, data, versions, devices."""

import dataclasses
import datetime
import platform
from collections.abc import Mapping
from typing import Any

import jax

from slot_attention_jax.data import types
from slot_attention_jax.runtime import files, provenance, storage
from slot_attention_jax.training import resume


def write_metadata(
  path: storage.Path,
  config: Mapping[str, Any],
  info: types.DatasetInfo,
  command: str = "",
  *,
  changes: Mapping[str, tuple[Any, Any]] | None = None,
  initial: Mapping[str, Any] | None = None,
  step: int = 0,
  finished: bool = False,
) -> None:
  """Writes `config.json` and `metadata.json` into the directory of a run.

  Of a run in which nothing is left to train, what is there stays as it is;
  only what an earlier version did not write is added.

  Args:
    path: directory of the run.
    config: the resolved config, nested dicts of plain values.
    info: the training data's.
    command: the flags that make the config.
    changes: old and new value of keys that changed as the run was resumed.
    initial: the weights that a new run starts from; those of a run that is
      resumed stay as they are.
    step: at which it was.
    finished: whether nothing is left to train.
  """
  old = resume.read_metadata(path) if step else {}
  content = {
    "recipe": command,
    "data": info.name,
    "own_scenes": info.own_scenes,
    "scenes_version": info.scenes_version,
    "configured_data": config["data"]["name"],
    "num_examples": info.num_examples,
    # Without it the outputs of a set predictor have no meaning.
    "layout": info.layout and dataclasses.asdict(info.layout),
    "seed": config["seed"],
    "started": datetime.datetime.now(datetime.UTC).isoformat(),
    "devices": provenance.hardware(),
    "platform": jax.default_backend(),
    "processes": jax.process_count(),
    "python": platform.python_version(),
    "versions": provenance.package_versions(),
    "code": provenance.code_version(),
  }
  initial = old.get("initial_weights") if step else initial
  if initial:
    content["initial_weights"] = initial
  if finished:
    content |= {k: v for k, v in old.items() if v not in ("", None)}
    # The version of today's scenes says nothing about those of the run.
    content["scenes_version"] = old.get("scenes_version")
  elif changed := [*old.get("changes", []), *_changes(step, changes or {})]:
    content["changes"] = changed
  if not finished or not (path / "config.json").exists():
    files.write_json(path / "config.json", dict(config))
  if content != old:
    files.write_json(path / "metadata.json", content)


def _changes(step, changes):
  return [
    {"step": step, "key": key, "old": old, "new": new}
    for key, (old, new) in changes.items()
  ]
