"""Writes the weights of a run to a file, with a model card.

Run: `python -m slot_attention_jax.export_weights --workdir=RUN --name=NAME`.

The run must have been evaluated, by `--mode=evaluate`. Two files are written to
`--output_dir`: `NAME.safetensors`, which `load_weights` reads, and the card
`NAME.md`. The last line is a JSON object with their paths and metrics.
"""

import argparse
import dataclasses
import json
import os
import re
from collections.abc import Sequence
from typing import Any

import jax

from slot_attention_jax.pretrained import model_card, weights_file
from slot_attention_jax.runtime import (
  files,
  signals,
  storage,
  user_errors,
)
from slot_attention_jax.training import (
  record_kinds,
  trained_run,
  weights_provenance,
)


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
    weights_provenance.collect(run, step, config, checkpoint, command, params),
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
  saved = weights_provenance.read_json(
    run, "config.json", "Train first.", record_kinds.RULE
  )
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
  parser.add_argument(
    "--checkpoint",
    default="last",
    choices=["last", "best"],
    help="the checkpoint that was evaluated; default: last",
  )
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
