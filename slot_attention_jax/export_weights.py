"""Makes a file of weights and its model card from a run.

Run: `python -m slot_attention_jax.export_weights --workdir=RUN --name=NAME`.

The run must have been evaluated, by `--mode=evaluate`. Two files are written to
`--output_dir`: `NAME.safetensors`, which `load_weights` reads, and the card
`NAME.md`. The last line is a JSON object with their paths and metrics.
"""

import argparse
import dataclasses
import datetime
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax

from slot_attention_jax.data import types
from slot_attention_jax.pretrained import model_card, weights_file
from slot_attention_jax.runtime import files
from slot_attention_jax.training import checkpoints, writers


def export_weights(
  workdir: str,
  name: str,
  output_dir: str,
  *,
  checkpoint: str = "last",
  recipe: str = "",
  hardware: str = "",
  license_name: str = "Apache-2.0",
  notes: str = "",
) -> dict[str, Any]:
  """Exports a checkpoint of a run that was evaluated.

  Args:
    workdir: directory of the run.
    name: of the weights: lower-case letters, digits, `_` and `-`.
    output_dir: where the files go; made if it does not exist.
    checkpoint: `"last"` or `"best"`.
    recipe: flags that make the run's config; "": as the run says.
    hardware: what it was trained on; "": as the run says.
    license_name: SPDX name of the licence of the weights.
    notes: what else a user should know, as how the run was chosen.

  Returns:
    `name`, `weights` and `card` (paths), `updates`, `parameters` (how many),
    `bytes` and `metrics`.

  Raises:
    FileNotFoundError: if there is no such run or checkpoint, or it was not
      evaluated.
    ValueError: if the evaluation is of another checkpoint, or the run does not
      say what a card needs.
  """
  if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
    raise ValueError(
      f"Expected a name of lower-case letters, digits, _ and -, got {name!r}."
    )
  run = pathlib.Path(workdir).expanduser().absolute()
  step, config, params = _read_checkpoint(run, checkpoint)
  facts = dataclasses.replace(
    _facts(run, step, config, checkpoint, recipe),
    license=license_name,
    notes=notes,
  )
  if hardware:
    facts = dataclasses.replace(facts, hardware=hardware)
  directory = pathlib.Path(output_dir).expanduser()
  directory.mkdir(parents=True, exist_ok=True)
  path = directory / f"{name}.safetensors"
  card = path.with_suffix(".md")
  with files.atomic_write(path) as temporary:
    weights_file.save_weights(temporary, params, facts)
  with files.atomic_write(card) as temporary:
    temporary.write_text(model_card.model_card(name, facts), encoding="utf-8")
  return {
    "name": name,
    "weights": str(path),
    "card": str(card),
    "updates": step,
    "parameters": sum(x.size for x in jax.tree.leaves(params)),
    "bytes": path.stat().st_size,
    "metrics": facts.metrics,
  }


def _read_checkpoint(
  run: pathlib.Path, which: str
) -> tuple[int, dict[str, Any], dict[str, Any]]:
  """Step, config and parameters."""
  if not (run / "checkpoints").is_dir():
    raise FileNotFoundError(
      f"Expected a trained run in {run}, found no 'checkpoints' in it. Name "
      "the --workdir of a training."
    )
  rule = _read_json(run, "config.json", "Train first.")["checkpoint"]
  with checkpoints.open_run(
    run,
    which,
    best_metric=rule["best_metric"] or None,
    best_mode=rule["best_mode"],
  ) as (checkpointer, step):
    # A run that is resumed with other settings has another config.json.
    config = checkpointer.restore_config(step)
    return step, config, checkpointer.restore_params(step=step)


def _facts(
  run: pathlib.Path,
  step: int,
  config: dict[str, Any],
  which: str,
  recipe: str,
) -> weights_file.WeightsFacts:
  """Collects what the run says of a checkpoint."""
  evaluate = (
    "Run --mode=evaluate with the run's --config and --workdir and "
    f"--config.eval.checkpoint={which}, then export again."
  )
  evaluation = _read_json(run, "evaluation.json", evaluate)
  if evaluation["step"] != step:
    raise ValueError(
      f"Expected an evaluation of the {which} checkpoint, which has {step} "
      f"updates, got one of {evaluation['step']} updates in "
      f"{run / 'evaluation.json'}. {evaluate}"
    )
  about = _read_json(
    run, "metadata.json", "A training writes it; repeat its command."
  )
  recipe = recipe or about.get("recipe", "")
  if not recipe:
    raise ValueError(
      f"Expected a recipe in {run / 'metadata.json'}, got none. Give it, as "
      "--recipe='--config=configs/quickstart.py --config.seed=1'."
    )
  layout = None
  if config["task"] == "set_prediction":
    if not about.get("layout"):
      raise ValueError(
        f"Expected the layout of the properties in {run / 'metadata.json'}, "
        "got none. Repeat the command of the training, which writes it."
      )
    layout = types.layout_from_dict(about["layout"])
  last = _last_row(run, step)
  return weights_file.WeightsFacts(
    task=config["task"],
    model=config["model"],
    resolution=tuple(config["data"]["resolution"]),
    layout=layout,
    recipe=recipe,
    data=about["data"],
    own_scenes=about["own_scenes"],
    seed=config["seed"],
    updates=step,
    planned_updates=config["train"]["num_steps"],
    hardware=about["devices"],
    minutes=last["seconds"] / 60 if "seconds" in last else None,
    evaluation={
      key: evaluation[key]
      for key in ("num_slots", "num_iterations", "num_examples")
    },
    metrics=evaluation["metrics"],
    date=datetime.datetime.fromisoformat(last["time"]).date().isoformat(),
    license="",
    versions=about["versions"],
    notes="",
  )


def _last_row(run: pathlib.Path, step: int) -> dict[str, Any]:
  """The last row of the metrics up to a step."""
  path = run / writers.METRICS_FILE
  lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
  rows = [json.loads(line) for line in lines]
  rows = [row for row in rows if row["step"] <= step]
  if not rows:
    raise ValueError(
      f"Expected rows of the training in {path}, got none up to step {step}. "
      "Export from the directory that the training wrote."
    )
  return rows[-1]


def _read_json(run: pathlib.Path, name: str, advice: str) -> dict[str, Any]:
  path = run / name
  if not path.exists():
    raise FileNotFoundError(f"Expected {path}, found none. {advice}")
  return json.loads(path.read_text(encoding="utf-8"))


def main(argv: Sequence[str] | None = None) -> None:
  """Exports as the arguments say; prints one line of JSON at the end."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--workdir", required=True, help="directory of the run")
  parser.add_argument("--name", required=True, help="of the weights")
  parser.add_argument(
    "--output_dir",
    help="where the files go; default: 'weights' in the directory of the run",
  )
  parser.add_argument("--checkpoint", default="last", choices=["last", "best"])
  parser.add_argument(
    "--recipe", default="", help="flags of the config, if the run has none"
  )
  parser.add_argument(
    "--hardware", default="", help="in words; default: the run's devices"
  )
  parser.add_argument(
    "--license", default="Apache-2.0", help="SPDX name, of the weights"
  )
  parser.add_argument(
    "--notes", default="", help="what else a user should know"
  )
  arguments = parser.parse_args(argv)
  output_dir = pathlib.Path(arguments.workdir) / "weights"
  try:
    report = export_weights(
      arguments.workdir,
      arguments.name,
      arguments.output_dir or str(output_dir),
      checkpoint=arguments.checkpoint,
      recipe=arguments.recipe,
      hardware=arguments.hardware,
      license_name=arguments.license,
      notes=arguments.notes,
    )
  except (FileNotFoundError, ValueError) as error:
    raise SystemExit(str(error)) from error
  print(json.dumps(report))


if __name__ == "__main__":
  main()
