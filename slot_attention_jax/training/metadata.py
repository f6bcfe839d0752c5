"""What a run is, in JSON files: config, data, versions, devices."""

import dataclasses
import datetime
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import jax

from slot_attention_jax.data import types
from slot_attention_jax.runtime import files, provenance


def write_metadata(
  path: pathlib.Path,
  config: Mapping[str, Any],
  info: types.DatasetInfo,
  command: str = "",
) -> None:
  """Writes `config.json` and `metadata.json` into the directory of a run.

  Args:
    path: directory of the run.
    config: the resolved config, nested dicts of plain values.
    info: the training data's.
    command: the flags that make the config.
  """
  files.write_json(path / "config.json", dict(config))
  files.write_json(
    path / "metadata.json",
    {
      "recipe": command,
      "data": info.name,
      "own_scenes": info.own_scenes,
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
    },
  )
