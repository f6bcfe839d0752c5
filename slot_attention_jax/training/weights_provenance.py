"""What the files of a run say about one of its checkpoints."""

import datetime
import pathlib
import re
from typing import Any

from slot_attention_jax.config import base
from slot_attention_jax.data import from_config, types
from slot_attention_jax.pretrained import weights_file
from slot_attention_jax.runtime import files, json_kinds, storage
from slot_attention_jax.training import record_kinds, writers

_COUNTS = ("num_slots", "num_iterations", "num_examples")


def collect(
  run: storage.Path,
  step: int,
  config: dict[str, Any],
  which: str,
  command: str,
  params: dict[str, Any],
) -> weights_file.WeightsMetadata:
  """Collects what the files of a run say about a checkpoint.

  Args:
    run: directory of the run.
    step: of the checkpoint.
    config: of the checkpoint, nested.
    which: `"last"` or `"best"`, for messages.
    command: flags that make the config; "": those in the run's metadata.
    params: the checkpoint's.

  Returns:
    What a file of these weights tells of them; `license` is empty.

  Raises:
    FileNotFoundError: if a file is not there, as that of the evaluation.
    ValueError: if the evaluation is of other parameters, or a file is damaged
      or lacks what is needed.
  """
  evaluate = (
    "Run --mode=evaluate with the run's --config and --workdir and "
    f"--config.eval.checkpoint={which}, then export again."
  )
  evaluation = read_json(
    run,
    "evaluation.json",
    evaluate,
    record_kinds.EVALUATION,
    record_kinds.PROTOCOL,
  )
  _check_evaluation(run, evaluation, which, step, params, evaluate)
  about = read_json(
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
  command = _command(run, about, command)
  layout = _layout(run, about) if config["task"] == "set_prediction" else None
  last = _last_row(run, step)
  return weights_file.WeightsMetadata(
    task=config["task"],
    model=_settings(config["model"]),
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


def _command(run, about, given: str) -> str:
  """The flags that make the config: those given, or those of the run."""
  command = given or about.get("recipe", "")
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
  return command


def _layout(run, about) -> types.PropertyLayout:
  """The layout of the properties that a set predictor predicts."""
  if not about.get("layout"):
    raise ValueError(
      f"Expected the layout of the properties in {run / 'metadata.json'}, "
      "got none. Rerun the training's command, which writes it."
    )
  return types.layout_from_dict(about["layout"])


def _settings(model: dict[str, Any]) -> dict[str, Any]:
  """The `model` group, without keys of other versions that are off in it."""
  known = base.base_config().to_dict()["model"]
  return {k: v for k, v in model.items() if k in known or v}


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


def read_json(
  run: storage.Path,
  name: str,
  advice: str,
  kinds: json_kinds.Kinds,
  optional: json_kinds.Kinds | None = None,
) -> dict[str, Any]:
  """Reads a file of a run.

  Args:
    run: the directory.
    name: of the file.
    advice: what to do if it is not there or damaged.
    kinds: of the values that must be there.
    optional: of the values that may be.

  Returns:
    Its content.

  Raises:
    FileNotFoundError: if it is not there.
    ValueError: if it is damaged.
  """
  path = run / name
  if not path.exists():
    raise FileNotFoundError(f"Expected {path}, found none. {advice}")
  return files.read_json(path, advice, kinds, optional)
