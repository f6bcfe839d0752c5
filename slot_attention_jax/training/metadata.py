"""What a run is, in JSON beside it: config, data, versions, devices."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import math
import pathlib
import platform
from collections.abc import Iterator
from typing import Any

import jax

from slot_attention_jax.data import types


def write_metadata(
  path: pathlib.Path,
  config: Any,
  info: types.DatasetInfo,
  recipe: str = "",
) -> None:
  """Saves beside the run what it is: config, data, versions, devices.

  Args:
    path: directory of the run.
    config: the resolved config.
    info: the training data's.
    recipe: how the config was made, in words.
  """
  versions = {}
  for name in ("slot_attention_jax", "jax", "flax", "optax", "numpy"):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[name] = importlib.metadata.version(name)
  device = jax.devices()[0]
  write_json(path / "config.json", config.to_dict())
  write_json(
    path / "metadata.json",
    {
      "recipe": recipe,
      "data": info.name,
      "own_scenes": info.own_scenes,
      "configured_data": config.data.name,
      "num_examples": info.num_examples,
      # The numbers that a set predictor makes have no meaning without it.
      "layout": info.layout and dataclasses.asdict(info.layout),
      "seed": config.seed,
      "started": datetime.datetime.now(datetime.UTC).isoformat(),
      "devices": f"{jax.device_count()} x {device.device_kind}",
      "platform": device.platform,
      "processes": jax.process_count(),
      "python": platform.python_version(),
      "versions": versions,
    },
  )


def jsonable(value: Any) -> Any:
  """Copies nested values, with infinity and NaN, which JSON lacks, as text."""
  if isinstance(value, dict):
    return {k: jsonable(v) for k, v in value.items()}
  if isinstance(value, tuple | list):
    return [jsonable(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
  """Writes JSON, whole or not at all; makes the directory."""
  path.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(jsonable(content), indent=2, allow_nan=False)
  with whole_file(path) as temporary:
    temporary.write_text(text + "\n")


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A file to write to, which becomes `path` at the end if nothing failed."""
  temporary = path.with_name(f".{path.name}.tmp")
  try:
    yield temporary
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)
