"""The table and the figure of `study_ablations`."""

import pathlib
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common import figures


def get_values(row: Mapping[str, Any], metric: str) -> list[float]:
  """Values of a metric, of the seeds that finished."""
  return [r["metrics"][metric] for r in row["seeds"] if r["failure"] is None]


def get_metric_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Short names of all metrics of the seeds that finished."""
  ended = [r for row in rows for r in row["seeds"] if r["failure"] is None]
  return list(ended[0]["metrics"]) if ended else []


def table(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> str:
  """A Markdown table.

  Args:
    rows: from `study_ablations.run_variant`, the baseline first.
    metrics: short names of the task's metrics, in [0, 1] and shown in percent,
      seed by seed. Means of the other metrics follow.

  Returns:
    The table, with a newline at its end.
  """
  others = [m for m in get_metric_names(rows) if m not in metrics]
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
      values = get_values(row, metric)
      cells.append(f"{statistics.mean(values):.4f}" if values else "none")
    minutes = " / ".join(f"{r['minutes']:.1f}" for r in row["seeds"])
    updates = [f"{r['step']:,}" for r in row["seeds"]]
    if len(set(updates)) == 1:
      del updates[1:]
    cells += [" / ".join(updates), minutes]
    lines.append("| " + " | ".join(c.replace("|", "/") for c in cells) + " |")
  return "\n".join(lines) + "\n"


def _cells(row, metric, baseline, reasons):
  """Cells of a metric, in percent: seeds, mean, mean minus the baseline's."""
  each = [
    f"{100 * r['metrics'][metric]:.1f}"
    if r["failure"] is None
    else (r["failure"] if reasons else "none")
    for r in row["seeds"]
  ]
  values, base = get_values(row, metric), get_values(baseline, metric)
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
  """Saves a figure: a panel for each metric, a bar for each variant's mean.

  Args:
    rows: from `study_ablations.run_variant`, the baseline first.
    metrics: short names of the task's metrics, whose panels come first.
    title: of the figure.
    path: a PNG.

  Returns:
    The figure, closed.
  """
  pyplot = figures.import_pyplot()
  measured = get_metric_names(rows)
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
      if values := get_values(row, metric):
        color = "tab:gray" if row["same"] else "tab:blue"
        axis.barh(place, statistics.mean(values), color=color, alpha=0.6)
        axis.plot(values, [place] * len(values), "k.", markersize=4)
    if base := get_values(rows[0], metric):
      axis.axvline(statistics.mean(base), color="tab:red", linewidth=1)
    axis.set(title=metric)
    axis.grid(axis="x", alpha=0.3)
  axes[0][0].set(
    yticks=range(len(names)),
    yticklabels=names,
    ylim=(len(names) - 0.5, -0.5),
  )
  # Lines are wrapped at blanks, so between keys.
  title = re.sub(r",(?=\w)", ", ", title)
  title = textwrap.fill(title, 30 * max(1, len(metrics)))
  figure.suptitle(title, fontsize="medium")
  figures.save(figure, path)
  return figure
