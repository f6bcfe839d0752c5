"""What each part of the module does: a training without it, for each seed.

  python -m experiments.study_ablations --task=quickstart --seeds=0,1,2 \
    --output=ablations.md --figure=ablations.png

The ablations of the paper's module (no GRU, no MLP, a sum in place of the mean,
learned initial slots, other T and K) and what this package adds (per-slot
initialization, implicit gradients), each against the config as it is, which is
the row `baseline`. Every variant trains each seed, or resumes, and is evaluated
as `experiments/reproduce.py` does; seeds that fail keep their place. A variant
that the config has already is not run: it shows the baseline's runs and says
so.

`--set=small,train.num_steps=2000` are variants and keys of the config that all
variants have. Prints a Markdown table, also written to `--output`, and last one
line of JSON. `--figure` needs matplotlib: a panel for each metric, a bar for
the mean of each variant, a dot for each seed, a line for the baseline.
"""

import argparse
import datetime
import json
import pathlib
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from experiments import reproduce
from experiments.common import figures

BASELINE = "baseline"
VARIANTS: Mapping[str, tuple[str, Any]] = {
  "no_gru": ("slot_update", "residual"),
  "no_gru_replace": ("slot_update", "replace"),
  "no_mlp": ("mlp_hidden_size", 0),
  "sum": ("normalization", "sum"),
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
"""By name, a key of `model` and its value; K is relative to the recipe's."""


def change_of(name: str, config: Any) -> tuple[str, Any]:
  """What a variant changes.

  Args:
    name: of the variant, not the baseline.
    config: the recipe's.

  Returns:
    A pair: key of the config, its new value.
  """
  key, value = VARIANTS[name]
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
    name: of the variant.
    task: of `reproduce.TASKS`.
    seeds: of the runs.
    overrides: what all variants have, as for `reproduce.load_config`.
    workdir: the runs go to its subdirectories VARIANT/SEED.
    num_scenes: of the evaluation.
    baseline: what this function gave for the baseline; None: it is the one.

  Returns:
    `variant`, `change` (as text), `same` (whether it is the config as it is),
    and `seeds`, of `reproduce.run_seed`; those of `baseline` if it is the same.
  """
  change, same = "", name == BASELINE
  if name != BASELINE:
    recipe = reproduce.load_config(task, 0, overrides)
    key, value = change_of(name, recipe)
    change = f"{key}={value}"
    same = recipe.model[key.removeprefix("model.")] == value
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
        reproduce.recipe_of(task, config.seed, overrides),
      )
      for config in configs
    ]
  }


def values_of(row: Mapping[str, Any], metric: str) -> list[float]:
  """A metric of the seeds that ended, as they are measured."""
  return [r["metrics"][metric] for r in row["seeds"] if r["failure"] is None]


def metrics_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Short names of all metrics that were measured."""
  ended = [r for row in rows for r in row["seeds"] if r["failure"] is None]
  return list(ended[0]["metrics"]) if ended else []


def table(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> str:
  """A Markdown table.

  Args:
    rows: of `run_variant`, the baseline first.
    metrics: short names of the task's metrics, shares of 1; they are shown in
      percent. Others follow as means.

  Returns:
    The table, with a newline at its end.
  """
  others = [m for m in metrics_of(rows) if m not in metrics]
  head = ["variant", "what changes"]
  for metric in metrics:
    head += [f"{metric}, % (seeds)", "mean", "minus baseline"]
  head += [*others, "updates", "minutes"]
  lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
  for row in rows:
    change = f"`{row['change']}`" if row["change"] else "the config as it is"
    if row["same"] and row["change"]:
      change += ", as the config has it: the baseline's runs"
    cells = [row["variant"], change]
    for metric in metrics:
      cells += _cells(row, metric, rows[0], reasons=metric == metrics[0])
    for metric in others:
      values = values_of(row, metric)
      cells.append(f"{statistics.mean(values):.4f}" if values else "none")
    minutes = " / ".join(f"{r['minutes']:.1f}" for r in row["seeds"])
    updates = [f"{r['step']:,}" for r in row["seeds"]]
    if len(set(updates)) == 1:
      del updates[1:]
    cells += [" / ".join(updates), minutes]
    lines.append("| " + " | ".join(c.replace("|", "/") for c in cells) + " |")
  return "\n".join(lines) + "\n"


def _cells(row, metric, baseline, reasons):
  """Each seed, the mean, and its difference from the baseline's, in points."""
  each = [
    f"{100 * r['metrics'][metric]:.1f}"
    if r["failure"] is None
    else (r["failure"] if reasons else "none")
    for r in row["seeds"]
  ]
  values, base = values_of(row, metric), values_of(baseline, metric)
  mean = difference = "none"
  if values:
    mean = f"{100 * statistics.mean(values):.1f}"
    if len(values) > 1:
      mean += f" +- {100 * statistics.stdev(values):.1f}"
    mean += f" ({len(values)} of {len(row['seeds'])})"
  if values and base:
    points = 100 * (statistics.mean(values) - statistics.mean(base))
    difference = f"{points:+.1f}"
  return [" / ".join(each), mean, difference]


def draw(
  rows: Sequence[Mapping[str, Any]],
  metrics: Sequence[str],
  title: str,
  path: pathlib.Path,
) -> Any:
  """Saves a figure of the rows; see the module's docstring.

  Args:
    rows: of `run_variant`, the baseline first.
    metrics: short names of the task's metrics, whose panels come first.
    title: of the figure.
    path: a PNG.

  Returns:
    The figure, closed.
  """
  pyplot = figures.import_pyplot()
  measured = metrics_of(rows)
  metrics = sorted(measured, key=lambda metric: metric not in metrics)
  names = []
  for row in rows:
    failed = [r["failure"] is not None for r in row["seeds"]]
    count = f" ({failed.count(False)} of {len(failed)})" if any(failed) else ""
    names.append(row["variant"] + count)
  figure, axes = pyplot.subplots(
    1,
    max(1, len(metrics)),
    figsize=(1.5 + 2.6 * max(1, len(metrics)), 1.4 + 0.3 * len(rows)),
    sharey=True,
    squeeze=False,
  )
  for axis, metric in zip(axes[0], metrics, strict=False):
    for place, row in enumerate(rows):
      if values := values_of(row, metric):
        color = "tab:gray" if row["same"] else "tab:blue"
        axis.barh(place, statistics.mean(values), color=color, alpha=0.6)
        axis.plot(values, [place] * len(values), "k.", markersize=4)
    if base := values_of(rows[0], metric):
      axis.axvline(statistics.mean(base), color="tab:red", linewidth=1)
    axis.set(title=metric)
    axis.grid(axis="x", alpha=0.3)
  axes[0][0].set(
    yticks=range(len(names)),
    yticklabels=names,
    ylim=(len(names) - 0.5, -0.5),
  )
  # Lines break at blanks, so between keys.
  title = re.sub(r",(?=\w)", ", ", title)
  title = textwrap.fill(title, 30 * max(1, len(metrics)))
  figure.suptitle(title, fontsize="medium")
  figures.save(figure, path)
  return figure


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the arguments; `seeds` and `variants` become lists."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--task", choices=sorted(reproduce.TASKS), required=True)
  parser.add_argument("--seeds", default="0,1,2")
  parser.add_argument(
    "--variants", default=",".join(VARIANTS), help="names, by commas"
  )
  parser.add_argument("--set", default="", help="variant,key=value,...")
  parser.add_argument("--workdir", type=pathlib.Path, default="runs/ablations")
  parser.add_argument("--num_scenes", type=int, help="of the evaluation")
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
  return arguments


def _command(arguments: argparse.Namespace) -> str:
  """What reproduces the table."""
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
  """Runs the variants; prints the table, then JSON, and returns the latter."""
  arguments = _parse(argv)
  if arguments.figure:
    figures.import_pyplot()  # Before hours of training, not after.
  if arguments.output:
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
  task = reproduce.TASKS[arguments.task]
  num_scenes = arguments.num_scenes or task.num_scenes
  common = (
    task,
    arguments.seeds,
    arguments.set,
    arguments.workdir / reproduce.directory_of(arguments.task, arguments.set),
    num_scenes,
  )
  baseline = run_variant(BASELINE, *common)
  rows = [baseline]
  rows += [
    run_variant(name, *common, baseline=baseline) for name in arguments.variants
  ]
  ended = [r for row in rows for r in row["seeds"] if r["failure"] is None]
  data = ", ".join(sorted({r["data"] for r in ended})) or "no data"
  command = _command(arguments)
  hardware = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
  date = datetime.datetime.now(datetime.UTC).date().isoformat()
  text = f"`{command}`, {date}, {hardware}, {num_scenes} scenes of {data}.\n\n"
  text += table(rows, task.metrics)
  print(text, end="")
  if arguments.output:
    arguments.output.write_text(text, encoding="utf-8")
  if arguments.figure:
    config = ":".join(filter(None, [task.config, arguments.set]))
    draw(rows, task.metrics, f"{data}, {config}", arguments.figure)
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
