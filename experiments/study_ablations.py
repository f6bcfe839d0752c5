"""Ablations of the Slot Attention module, over several seeds.

  python -m experiments.study_ablations --task=quickstart --set=plain \
    --seeds=0,1,2 --output=ablations.md --figure=ablations.png

The ablations of the paper's module (no GRU, no MLP, a sum in place of the mean,
learned initial slots, other T and K) and of what this package adds (per-slot
initialization, implicit gradients), each compared with the unchanged config,
the row `baseline`. Every seed is trained, or resumed, and evaluated as in
`experiments/reproduce.py`; seeds that fail keep their place. A variant that
equals the config is not run; its row shows the baseline's runs and says so.

`--set=plain,train.num_steps=2000` sets variants and keys of the config for all
rows; other T and gradients need a config that does not draw T in training.
Prints a Markdown table, also written to `--output`, and last one line of JSON.
`--figure` needs matplotlib: a panel for each metric, a bar for the mean of each
variant, a dot for each seed, a line for the baseline.
"""

import argparse
import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from experiments import ablation_report, reproduce
from experiments.common import figures

BASELINE = "baseline"
VARIANTS: Mapping[str, tuple[str, Any]] = {
  "no_gru": ("slot_update", "residual"),
  "no_gru_replace": ("slot_update", "replace"),
  "no_mlp": ("mlp_hidden_size", 0),
  "sum": ("normalization", "sum"),
  "scaled_sum": ("normalization", "scaled_sum"),
  "shared_init": ("slot_init", "shared"),
  "per_slot_init": ("slot_init", "per_slot"),
  "learned_init": ("slot_init", "learned"),
  "unrolled": ("gradient", "unrolled"),
  "implicit": ("gradient", "implicit"),
  "implicit_start": ("gradient", "implicit_start"),
  "iterations_1": ("num_iterations", 1),
  "iterations_2": ("num_iterations", 2),
  "iterations_5": ("num_iterations", 5),
  "slots_fewer": ("num_slots", -1),
  "slots_more": ("num_slots", +2),
}
"""A key of `model` and its value, by name; `num_slots` is a difference."""


def get_change(name: str, config: Any) -> tuple[str, Any]:
  """Returns what a variant changes.

  Args:
    name: name of the variant, not the baseline.
    config: the baseline's config.

  Returns:
    A pair: a key of the config and its new value.

  Raises:
    ValueError: on another T or gradient, if the config draws T in training.
  """
  key, value = VARIANTS[name]
  needs_fixed = key in ("num_iterations", "gradient")
  if needs_fixed and config.model.train_iterations[1]:
    raise ValueError(
      f"Expected a config with model.train_iterations=(0, 0) for {name}, got "
      f"{tuple(config.model.train_iterations)}. Use --task=quickstart "
      "--set=plain, or override the key by --set."
    )
  if key == "num_slots":
    value += config.model.num_slots
  return f"model.{key}", value


def run_variant(
  name: str,
  task: reproduce.Task,
  seeds: Sequence[int],
  overrides: str,
  workdir: pathlib.Path,
  num_scenes: int,
  baseline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Trains and evaluates all seeds of a variant.

  Args:
    name: name of the variant.
    task: one of `reproduce.TASKS`.
    seeds: seeds of the runs.
    overrides: overrides of all variants, as for `reproduce.load_config`.
    workdir: the runs go to its subdirectories VARIANT/SEED.
    num_scenes: number of scenes of the evaluation.
    baseline: the result of this function for the baseline; None for the
      baseline itself.

  Returns:
    `variant`, `change` (as text), `same` (whether the variant equals the
    config), and `seeds`, the results of `reproduce.run_seed`; those of
    `baseline` if it is the same.
  """
  change, same = "", name == BASELINE
  if name != BASELINE:
    base = reproduce.load_config(task, 0, overrides)
    key, value = get_change(name, base)
    change = f"{key}={value}"
    same = base.model[key.removeprefix("model.")] == value
  row = {"variant": name, "change": change, "same": same}
  if same and baseline is not None:
    return row | {"seeds": baseline["seeds"]}
  overrides = ",".join(filter(None, [overrides, change]))
  configs = [reproduce.load_config(task, seed, overrides) for seed in seeds]
  return row | {
    "seeds": [
      reproduce.run_seed(
        task,
        config,
        workdir / name / str(config.seed),
        num_scenes,
        reproduce.make_command(task, config.seed, overrides),
      )
      for config in configs
    ]
  }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the arguments; `seeds` and `variants` become lists."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--task", choices=sorted(reproduce.TASKS), required=True)
  parser.add_argument("--seeds", default="0,1,2")
  parser.add_argument(
    "--variants", default=",".join(VARIANTS), help="names, separated by commas"
  )
  parser.add_argument("--set", default="", help="variant,key=value,...")
  parser.add_argument("--workdir", type=pathlib.Path, default="runs/ablations")
  parser.add_argument(
    "--num_scenes", type=int, help="number of scenes of the evaluation"
  )
  parser.add_argument("--output", type=pathlib.Path, help="Markdown file")
  parser.add_argument("--figure", type=pathlib.Path, help="PNG")
  arguments = parser.parse_args(argv)
  try:
    arguments.seeds = [int(seed) for seed in arguments.seeds.split(",")]
  except ValueError:
    parser.error(f"Expected --seeds as 0,1,2, got {arguments.seeds!r}.")
  chosen = list(dict.fromkeys(arguments.variants.split(",")))
  chosen = [name for name in chosen if name != BASELINE]
  if unknown := sorted(set(chosen) - set(VARIANTS)):
    parser.error(f"Expected --variants out of {list(VARIANTS)}, got {unknown}.")
  arguments.variants = chosen
  try:  # Before the baseline is trained.
    config = reproduce.load_config(
      reproduce.TASKS[arguments.task], arguments.seeds[0], arguments.set
    )
    for name in chosen:
      get_change(name, config)
  except ValueError as error:
    parser.error(str(error))
  return arguments


def _command(arguments: argparse.Namespace) -> str:
  """Returns the command that reproduces the table."""
  words = ["python -m experiments.study_ablations"]
  words.append(f"--task={arguments.task}")
  words.append(f"--seeds={','.join(map(str, arguments.seeds))}")
  if arguments.variants != list(VARIANTS):
    words.append(f'--variants="{",".join(arguments.variants) or BASELINE}"')
  if arguments.set:
    words.append(f'--set="{arguments.set}"')
  if arguments.num_scenes:
    words.append(f"--num_scenes={arguments.num_scenes}")
  return " ".join(words)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Runs the variants; prints the table, then JSON, which it returns."""
  arguments = _parse(argv)
  if arguments.figure:
    figures.import_pyplot()  # Fails before hours of training, not after.
  if arguments.output:
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
  task = reproduce.TASKS[arguments.task]
  num_scenes = arguments.num_scenes or task.num_scenes
  common = (
    task,
    arguments.seeds,
    arguments.set,
    arguments.workdir / reproduce.directory_name(arguments.task, arguments.set),
    num_scenes,
  )
  baseline = run_variant(BASELINE, *common)
  rows = [baseline]
  rows += [
    run_variant(name, *common, baseline=baseline) for name in arguments.variants
  ]
  finished = [r for row in rows for r in row["seeds"] if r["failure"] is None]
  data = ", ".join(sorted({r["data"] for r in finished})) or "no data"
  command = _command(arguments)
  hardware = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
  date = datetime.datetime.now(datetime.UTC).date().isoformat()
  text = f"`{command}`, {date}, {hardware}, {num_scenes} scenes of {data}.\n\n"
  text += ablation_report.table(rows, task.metrics)
  print(text, end="")
  if arguments.output:
    arguments.output.write_text(text, encoding="utf-8")
  if arguments.figure:
    config = ":".join(filter(None, [task.config, arguments.set]))
    ablation_report.draw(
      rows, task.metrics, f"{data}, {config}", arguments.figure
    )
  result = {
    "task": arguments.task,
    "command": command,
    "date": date,
    "hardware": hardware,
    "num_scenes": num_scenes,
    "rows": rows,
  }
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  main()
