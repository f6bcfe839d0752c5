"""Writes the weights of a run to a file, with a model card.

Run: `python -m slot_attention_jax.export_weights --workdir=RUN --name=NAME`.

The run must have been evaluated, by `--mode=evaluate`. Two files are written to
`--output_dir`: `NAME.safetensors`, which `load_weights` reads, and the card
`NAME.md`. The last line is a JSON object with their paths and metrics.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax

from slot_attention_jax.data import from_config, types
from slot_attention_jax.pretrained import model_card, weights_file
from slot_attention_jax.runtime import (
  files,
  json_kinds,
  signals,
  storage,
  user_errors,
)
from slot_attention_jax.training import record_kinds, trained_run, writers

_COUNTS = ("num_slots", "num_iterations", "num_examples")


def export_weights(
  workdir: str,
  name: str,
  output_dir: str,
  *,
  checkpoint: str = "last",
  command: str = "",
  hardware: str = "",
  license_name: str = "Apache-2.0",
  notes: str = "",
) -> dict[str, Any]:
  """Exports a checkpoint of a run that was evaluated.

  Args:
    workdir: directory of the run.
    name: of the weights: lower-case letters, digits, `_` and `-`.
    output_dir: where the files go; created if it does not exist.
    checkpoint: `"last"` or `"best"`.
    command: flags that make the run's config; "": those in its metadata.
    hardware: what it was trained on; "": as in the run's metadata.
    license_name: SPDX name of the license of the weights.
    notes: what else a user should know, such as how the run was chosen.

  Returns:
    `name`, `weights` and `card` (paths), `updates` (training steps),
    `parameters` (how many), `bytes` and `metrics`.

  Raises:
    FileNotFoundError: if there is no such run or checkpoint, or it was not
      evaluated.
    OSError: if a bucket cannot be reached or read.
    ValueError: if the evaluation is of another checkpoint, or the run's
      metadata lacks what a card needs.
  """
  if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
    raise ValueError(
      f"Expected a name of lower-case letters, digits, _ and -, got {name!r}."
    )
  run = storage.open_path(workdir)
  directory = storage.open_path(output_dir, "--output_dir")
  step, config, params = _read_checkpoint(run, checkpoint)
  metadata = dataclasses.replace(
    _metadata(run, step, config, checkpoint, command, params),
    license=license_name,
  )
  metadata = dataclasses.replace(
    metadata, notes=" ".join(filter(None, [notes, metadata.notes]))
  )
  if hardware:
    metadata = dataclasses.replace(metadata, hardware=hardware)
  directory.mkdir(parents=True, exist_ok=True)
  path = directory / f"{name}.safetensors"
  card = path.with_suffix(".md")
  weights_file.save_weights(path, params, metadata)
  with files.atomic_write(card) as temporary:
    temporary.write_text(
      model_card.model_card(name, metadata), encoding="utf-8"
    )
  return {
    "name": name,
    "weights": str(path),
    "card": str(card),
    "updates": step,
    "parameters": sum(x.size for x in jax.tree.leaves(params)),
    "bytes": storage.size(path),
    "metrics": metadata.metrics,
  }


def _read_checkpoint(
  run: storage.Path, which: str
) -> tuple[int, dict[str, Any], dict[str, Any]]:
  """Step, config and parameters."""
  if not (run / "checkpoints").is_dir():
    raise FileNotFoundError(
      f"Expected a trained run in {run}, found no 'checkpoints' in it. Pass "
      "the --workdir of a training."
    )
  saved = _read_json(run, "config.json", "Train first.", record_kinds.RULE)
  rule = saved["checkpoint"]
  with trained_run.open_run(
    run,
    which,
    best_metric=rule["best_metric"] or None,
    best_mode=rule["best_mode"],
  ) as (checkpointer, step):
    # A run that is resumed with other settings has another config.json.
    config = checkpointer.restore_config(step)
    return step, config, checkpointer.restore_params(step=step)


def _metadata(
  run: storage.Path,
  step: int,
  config: dict[str, Any],
  which: str,
  command: str,
  params: dict[str, Any],
) -> weights_file.WeightsMetadata:
  """Collects what the files of the run say about a checkpoint."""
  evaluate = (
    "Run --mode=evaluate with the run's --config and --workdir and "
    f"--config.eval.checkpoint={which}, then export again."
  )
  evaluation = _read_json(
    run,
    "evaluation.json",
    evaluate,
    record_kinds.EVALUATION,
    record_kinds.PROTOCOL,
  )
  _check_evaluation(run, evaluation, which, step, params, evaluate)
  about = _read_json(
    run,
    "metadata.json",
    "Training writes it; rerun its command.",
    record_kinds.PROVENANCE,
    record_kinds.METADATA,
  )
  if about.get("seed", config["seed"]) != config["seed"]:
    raise ValueError(
      f"Expected {run / 'metadata.json'} to be of the training of the "
      f"checkpoint, with seed {config['seed']}, got one with seed "
      f"{about['seed']}. Export from another directory."
    )
  command = command or about.get("recipe", "")
  if not command:
    raise ValueError(
      f"Expected the key 'recipe' in {run / 'metadata.json'}, got none. Pass "
      "the flags: --recipe='--config=configs/quickstart.py --config.seed=1'."
    )
  if not command.startswith("--config"):
    raise ValueError(
      f"Expected --recipe to be the flags alone, --config=... first, got "
      f"{command!r}. The card puts the program before them."
    )
  layout = None
  if config["task"] == "set_prediction":
    if not about.get("layout"):
      raise ValueError(
        f"Expected the layout of the properties in {run / 'metadata.json'}, "
        "got none. Rerun the training's command, which writes it."
      )
    layout = types.layout_from_dict(about["layout"])
  last = _last_row(run, step)
  return weights_file.WeightsMetadata(
    task=config["task"],
    model=config["model"],
    resolution=tuple(config["data"]["resolution"]),
    layout=layout,
    command=_without_directory(command, config),
    data=about["data"],
    synthetic_scenes=about["own_scenes"],
    seed=config["seed"],
    steps=step,
    planned_steps=config["train"]["num_steps"],
    hardware=about["devices"],
    minutes=last["seconds"] / 60 if "seconds" in last else None,
    evaluation={key: evaluation[key] for key in _COUNTS},
    metrics=evaluation["metrics"],
    date=datetime.datetime.fromisoformat(last["time"]).date().isoformat(),
    license="",
    versions=about["versions"],
    notes=_notes(about, config, step),
    crop=from_config.crop_of(config["data"]["name"], config["data"]["crop"]),
  )


def _check_evaluation(run, evaluation, which, step, params, advice) -> None:
  """Raises ValueError if an evaluation is not of these parameters."""
  path = run / "evaluation.json"
  if evaluation["step"] != step:
    raise ValueError(
      f"Expected an evaluation of the {which} checkpoint, of step {step}, got "
      f"one of step {evaluation['step']} in {path}. {advice}"
    )
  expected = evaluation.get("parameters_sha256")
  # Version 0.1 did not write it, but which kind of model it evaluated.
  model = evaluation.get("protocol", {}).get("model", "checkpoint")
  if expected is None and model.startswith("checkpoint"):
    return
  if expected != weights_file.parameters_checksum(params):
    raise ValueError(
      f"Expected an evaluation of the {which} checkpoint, of step {step}, got "
      f"one of other parameters, {model}, in {path}. {advice}"
    )


def _notes(about: dict[str, Any], config: dict[str, Any], step: int) -> str:
  """Weights that a run started from, and changes as it was resumed."""
  initial = _initial_weights(config)
  start = [f"The training started from the weights {initial}{_which(about)}."]
  changes = [
    f"At step {change['step']}, {change.get('key')} was changed from "
    f"{change.get('old')} to {change.get('new')}."
    for change in about.get("changes", [])
    if change.get("step", step) < step
  ]
  return " ".join((start if initial else []) + changes)


def _which(about: dict[str, Any]) -> str:
  """The step and digest of initial weights, of a run that recorded them."""
  record = about.get("initial_weights")
  if not record:
    return ""
  return (
    f" after {record.get('step')} steps (SHA-256 of the parameters: "
    f"{record.get('parameters_sha256')})"
  )


def _initial_weights(config: dict[str, Any]) -> str:
  """Name of the weights that a run started from; of a path its last part."""
  # Runs of version 0.1 do not have the key.
  name = config["train"].get("initial_weights", "")
  return name if "://" in name else pathlib.PurePath(name).name


def _without_directory(command: str, config: dict[str, Any]) -> str:
  """A command that does not tell where a machine keeps initial weights."""
  key, value = "train.initial_weights=", _initial_weights(config)
  given = re.escape(config["train"].get("initial_weights", ""))
  return re.sub(
    rf"({re.escape(key)}['\"]?){given}", lambda match: match[1] + value, command
  )


def _last_row(run: storage.Path, step: int) -> dict[str, Any]:
  """The last row of the metrics at or before a step."""
  path = run / writers.METRICS_FILE
  rows = writers.read_rows(path) if path.exists() else []
  rows = [row for row in rows if row["step"] <= step]
  if not rows:
    raise ValueError(
      f"Expected metrics of the training in {path}, got none up to step "
      f"{step}. Export from the directory of the training."
    )
  return rows[-1]


def _read_json(
  run: storage.Path,
  name: str,
  advice: str,
  kinds: json_kinds.Kinds,
  optional: json_kinds.Kinds | None = None,
) -> dict[str, Any]:
  path = run / name
  if not path.exists():
    raise FileNotFoundError(f"Expected {path}, found none. {advice}")
  return files.read_json(path, advice, kinds, optional)


def main(argv: Sequence[str] | None = None) -> None:
  """Exports as the arguments say; prints one line of JSON at the end."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--workdir", required=True, help="directory of the run")
  parser.add_argument("--name", required=True, help="name of the weights")
  parser.add_argument(
    "--output_dir",
    help="where the files go; default: 'weights' in the directory of the run",
  )
  parser.add_argument("--checkpoint", default="last", choices=["last", "best"])
  parser.add_argument(
    "--recipe", default="", help="flags of the config; default: the run's"
  )
  parser.add_argument(
    "--hardware", default="", help="description; default: the run's devices"
  )
  parser.add_argument(
    "--license", default="Apache-2.0", help="SPDX name of the weights' license"
  )
  parser.add_argument(
    "--notes", default="", help="what else a user should know"
  )
  parser.add_argument(
    user_errors.FLAG, action="store_true", help="show a user error's traceback"
  )
  arguments = parser.parse_args(argv)
  output_dir = os.path.join(arguments.workdir, "weights")
  with user_errors.exit_on_user_error(argv), signals.handled():
    report = export_weights(
      arguments.workdir,
      arguments.name,
      arguments.output_dir or output_dir,
      checkpoint=arguments.checkpoint,
      command=arguments.recipe,
      hardware=arguments.hardware,
      license_name=arguments.license,
      notes=arguments.notes,
    )
  print(json.dumps(report))


if __name__ == "__main__":
  main()
