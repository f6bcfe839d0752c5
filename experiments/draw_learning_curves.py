"""Learning curves of runs, in one figure and a table.

  python -m experiments.draw_learning_curves --figure=curves.png \
    --runs="seed 0=runs/quickstart,seed 1=runs/quickstart_1" [--over=minutes]

A run is a directory or its `metrics.jsonl`; the default label is the name of
the directory. `--run=LABEL=PATH` may be repeated, and PATH may contain commas.
The curves show the evaluations: a panel each for FG-ARI (object discovery) and
for average precision at infinity, 1 and 0.5 (set prediction), or for the MSE if
there is no ground truth; `--metrics` selects others. Each line is one run on
one dataset.

Prints a Markdown table of the last values, then one line of JSON. Needs
matplotlib (`pip install matplotlib`).
"""

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.common import figures
from slot_attention_jax.evaluation import palette
from slot_attention_jax.training import writers

_TITLES = {
  "fg_ari": "FG-ARI",
  "ap_inf": "AP at infinity",
  "ap_1": "AP at 1",
  "ap_0.5": "AP at 0.5",
  "ari": "ARI",
  "miou": "mIoU",
  "mse": "MSE",
}
# A run's curves show the first of these groups that it has.
_CHOICES = (("fg_ari", "ap_inf", "ap_1", "ap_0.5"), ("mse",), ("loss",))


@dataclasses.dataclass(frozen=True)
class Curve:
  """The metrics of a run's evaluations on one dataset.

  Attributes:
    label: label of the run.
    data: name and split of the dataset.
    steps: steps done at each evaluation.
    minutes: wall time until each evaluation, over all restarts; None if the run
      did not record it.
    values: by short name of the metric; NaN where a row lacks it.
  """

  label: str
  data: str
  steps: list[int]
  minutes: list[float | None]
  values: dict[str, list[float]]


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the metrics of a run.

  Args:
    path: the run's directory or its file of metrics.

  Returns:
    The rows, in order, without an incomplete last row.

  Raises:
    FileNotFoundError: if there are no metrics.
    ValueError: if a line is not a row of metrics.
  """
  name = writers.METRICS_FILE
  file = path / name if path.is_dir() else path
  if not file.is_file():
    raise FileNotFoundError(
      f"Expected a run in {path}, found no {name}. Name its directory."
    )
  text = file.read_text(encoding="utf-8")
  rows = []
  for number, line in enumerate(lines := text.splitlines(keepends=True), 1):
    try:
      row = json.loads(line)
      rows.append({**row, "step": int(row["step"])})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
      if number == len(lines) and not line.endswith("\n"):
        break
      raise ValueError(
        f"Expected a JSON object with a step in line {number} of {path}, got "
        f"{line[:60]!r}. Name a run's own {name}."
      ) from error
  return rows


def make_curves(label: str, rows: Sequence[dict[str, Any]]) -> list[Curve]:
  """Makes the curves of a run, one for each dataset it was evaluated on.

  Args:
    label: label of the run.
    rows: from `read_rows`.

  Returns:
    The curves, without the metrics of training steps.
  """
  found: dict[str, list] = {}
  for row in rows:
    measured: dict[str, dict[str, float]] = {}
    for name, value in row.items():
      data, _, metric = name.rpartition("/")
      if data and not data.endswith("/train"):
        # Values that are not finite are strings in JSON.
        measured.setdefault(data, {})[metric] = float(value)
    for data, values in measured.items():
      seconds = row.get("seconds")
      minutes = None if seconds is None else seconds / 60
      found.setdefault(data, []).append((row["step"], minutes, values))
  curves = []
  for data, points in found.items():
    names = list(dict.fromkeys(name for *_, v in points for name in v))
    nan = float("nan")
    values = {n: [v.get(n, nan) for *_, v in points] for n in names}
    steps, minutes = [p[0] for p in points], [p[1] for p in points]
    curves.append(Curve(label, data, steps, minutes, values))
  return curves


def choose_metrics(curves: Sequence[Curve], wanted: Sequence[str]) -> list[str]:
  """Short names of the metrics of the panels.

  Args:
    curves: at least one.
    wanted: names; empty: those of the runs' tasks.

  Returns:
    The names, of which each curve has one at least, if that is possible.

  Raises:
    ValueError: if no curve has a metric that is wanted.
  """
  present = {name for curve in curves for name in curve.values}
  if missing := [name for name in wanted if name not in present]:
    raise ValueError(
      f"Expected --metrics out of {sorted(present)}, got {missing}."
    )
  if wanted:
    return list(wanted)
  chosen = []
  for curve in curves:
    groups = [[n for n in g if n in curve.values] for g in _CHOICES]
    chosen += next((g for g in groups if g), list(curve.values)[:1])
  order = [name for group in _CHOICES for name in group]
  order += [name for name in chosen if name not in order]
  return [name for name in dict.fromkeys(order) if name in chosen]


def draw(curves: Sequence[Curve], metrics: Sequence[str], over: str) -> Any:
  """Draws the figure.

  Args:
    curves: at least one.
    metrics: short names; a panel each.
    over: `"steps"` or `"minutes"`.

  Returns:
    A figure of pyplot.

  Raises:
    ValueError: if a run did not write its time and `over` is `"minutes"`, or
      there is no matplotlib.
  """
  pyplot = figures.import_pyplot()
  for curve in curves:
    if over == "minutes" and None in curve.minutes:
      raise ValueError(
        f"Expected `seconds` in the rows of {curve.label!r} for --over=minutes,"
        " got rows without: an earlier version wrote them. Use --over=steps."
      )
  data = sorted({curve.data for curve in curves})
  figure, axes = pyplot.subplots(
    1, len(metrics), figsize=(max(5, 3.6 * len(metrics)), 3.6), squeeze=False
  )
  lines = {}
  for axis, metric in zip(axes[0], metrics, strict=True):
    for number, curve in enumerate(curves):
      if metric in curve.values:
        label = curve.label
        if len(data) > 1:
          label += f" ({curve.data})"
        x = curve.steps if over == "steps" else curve.minutes
        y = curve.values[metric]
        (line,) = axis.plot(x, y, label=label, **_style(number, len(x)))
        lines.setdefault(number, line)
    axis.set(
      title=_TITLES.get(metric, metric),
      xlabel="updates" if over == "steps" else "minutes",
    )
    axis.locator_params(axis="x", nbins=4)  # Long numbers would overlap.
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.grid(alpha=0.3)
  handles = [lines[number] for number in sorted(lines)]
  figures.legend_below(figure, handles, len(metrics))
  if len(data) == 1:
    figure.suptitle(data[0])
  return figure


def _style(number: int, points: int) -> dict[str, Any]:
  """Color, dashes and marker of a line, which no other of the first 35 has."""
  colors = palette.COLORS[:7] / 255
  return {
    # Lines whose colors are the same differ in everything else.
    "color": tuple(colors[number % 7].tolist()),
    "linestyle": ("-", "--", "-.", ":")[number // 7 % 4],
    "marker": "osD^v"[number % 5],
    "markevery": max(1, points // 12),
    "ms": 4,
    "lw": 1.5,
  }


def table(curves: Sequence[Curve], metrics: Sequence[str]) -> str:
  """The last values of the curves in Markdown."""
  lines = [f"| run | data | updates | minutes | {' | '.join(metrics)} |"]
  lines.append("|---" * (4 + len(metrics)) + "|")
  for curve in curves:
    minutes = curve.minutes[-1]
    cells = [curve.label, curve.data, f"{curve.steps[-1]:,}"]
    cells.append("unknown" if minutes is None else f"{minutes:.1f}")
    for name in metrics:
      cells.append(
        f"{curve.values[name][-1]:.4f}" if name in curve.values else ""
      )
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def _run(text: str) -> tuple[str, pathlib.Path]:
  """Label and path of `LABEL=PATH` or `PATH`."""
  label, separator, path = text.partition("=")
  if not separator:
    path = text
    label = pathlib.Path(text).absolute().name
  if not label or not path:
    raise argparse.ArgumentTypeError(f"expected LABEL=PATH, got {text!r}")
  return label, pathlib.Path(path).expanduser()


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Draws; prints the table, then JSON, and returns the latter."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--runs",
    type=lambda text: [_run(item) for item in text.split(",")],
    action="extend",
    default=[],
    metavar="LABEL=PATH,...",
  )
  parser.add_argument(
    "--run", type=_run, action="append", dest="runs", metavar="LABEL=PATH"
  )
  parser.add_argument("--over", choices=("steps", "minutes"), default="steps")
  parser.add_argument(
    "--metrics", type=lambda text: text.split(","), default=[]
  )
  parser.add_argument("--figure", type=pathlib.Path, required=True)
  arguments = parser.parse_args(argv)
  if not arguments.runs:
    parser.error("expected --runs or --run, got none")
  curves = []
  for label, path in arguments.runs:
    of_run = make_curves(label, read_rows(path))
    if not of_run:
      raise ValueError(
        f"Expected rows of an evaluation in {path}, got none. Wait for its "
        "first evaluation, or leave it out."
      )
    curves += of_run
  metrics = choose_metrics(curves, arguments.metrics)
  figures.save(draw(curves, metrics, arguments.over), arguments.figure)
  print(table(curves, metrics))
  result = {
    "metrics": metrics,
    "curves": [dataclasses.asdict(curve) for curve in curves],
  }
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  main()
