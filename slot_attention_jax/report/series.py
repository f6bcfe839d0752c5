"""Curves of a run: which metrics share a chart, and their points."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slot_attention_jax.evaluation import table
from slot_attention_jax.report import runs

TRAIN = "train"
Point = tuple[int, float | None, float]
"""(step, minutes, value)."""

# Of the optimizer, drawn last.
_OPTIMIZER = ("learning_rate", "grad_norm", "param_norm")
# More than these are not told apart on a screen.
_MOST_POINTS = 1500


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
  """A line of a chart.

  Attributes:
    metric: full name, as `"data/split/fg_ari"`.
    label: what the legend says.
    color: number of its color.
    dash: number of its dashes; 0: a solid line.
    points: (step, minutes, value), in the order of the steps.
    errors: standard errors, one for each point; empty: none are drawn.
  """

  metric: str
  label: str
  color: int
  dash: int
  points: Sequence[Point]
  errors: Sequence[float] = ()


def split_name(metric: str) -> tuple[str, str, str]:
  """(data, split, short name) of a metric's full name."""
  parts = metric.rsplit("/", 2)
  data, split, short = ["", "", *parts][-3:]
  return data, split, short


def chart_names(metrics: Iterable[str]) -> dict[str, str]:
  """The chart of each metric, in the order in which charts are shown.

  A chart has the same metric of training and validation. The loss of training
  shares one with the error of validation if that has no loss.

  Args:
    metrics: full names.

  Returns:
    Titles of charts by full names.

  Example:
    >>> from slot_attention_jax.report import series
    >>> series.chart_names(["d/train/loss", "d/validation/mse"])
    {'d/train/loss': 'loss and mse', 'd/validation/mse': 'loss and mse'}
  """
  metrics = list(metrics)
  of_loss = {split_name(m)[1] for m in metrics if split_name(m)[2] == "loss"}
  has_error = any(split_name(m)[2] == "mse" for m in metrics)
  joined = ("loss", "mse") if of_loss == {TRAIN} and has_error else ()
  titles = {}
  for metric in sorted(metrics, key=_order):
    short = split_name(metric)[2]
    titles[metric] = " and ".join(joined) if short in joined else short
  return titles


def of_run(run: runs.Run) -> list[Curve]:
  """The curves of one run, told apart by their splits."""
  points = run.points()
  several = len({split_name(m)[0] for m in points}) > 1
  found = []
  for metric in points:
    data, split, short = split_name(metric)
    number = split_number(split)
    label = f"{split} {short}" + (f", {data}" if several else "")
    found.append(
      Curve(
        metric=metric,
        label=label,
        color=number,
        dash=number,
        points=points[metric],
      )
    )
  return found


def split_number(split: str) -> int:
  """A number for a split: 0 for training, 1 for validation."""
  known = (TRAIN, "validation", "test")
  return known.index(split) if split in known else len(known)


def charts(
  curves: Sequence[Curve], means: Sequence[Curve] = ()
) -> list[dict[str, Any]]:
  """Charts for the page.

  Args:
    curves: of runs.
    means: over runs that differ by seed, which the page shows on demand.

  Returns:
    Plain values: the title and the curves of each chart.
  """
  titles = chart_names({c.metric for c in curves})
  found: dict[str, dict[str, Any]] = {}
  for metric, title in titles.items():
    chart = found.setdefault(title, {"title": title, "curves": [], "means": []})
    chart["curves"] += [_plain(c) for c in curves if c.metric == metric]
    chart["means"] += [_plain(c) for c in means if c.metric == metric]
  return list(found.values())


def best(metric: str, points: Sequence[Point]) -> Point | None:
  """The best point of a metric; None: it has no direction, or no number."""
  direction = table.direction(split_name(metric)[2])
  numbers = [p for p in points if not math.isnan(p[2])]
  if not direction or not numbers:
    return None
  return max(numbers, key=lambda p: direction * p[2])


def has_direction(metric: str) -> bool:
  """Whether more or less of a metric, by its full name, is better."""
  return table.direction(split_name(metric)[2]) != 0


def evaluations(
  points: Mapping[str, Sequence[Point]],
) -> dict[str, Sequence[Point]]:
  """The metrics that are not of training steps, in the order of charts."""
  names = [m for m in points if split_name(m)[1] != TRAIN]
  return {m: points[m] for m in sorted(names, key=_order)}


def _order(metric: str) -> tuple[Any, ...]:
  """Losses first, then as in tables of evaluations, the optimizer's last."""
  data, split, short = split_name(metric)
  last = _OPTIMIZER.index(short) + 1 if short in _OPTIMIZER else 0
  first = 0 if short in ("loss", "mse") else 1
  place = table.order(short) if first else ()
  return last, first, place, split_number(split), data


def _plain(curve: Curve) -> dict[str, Any]:
  errors = curve.errors or [None] * len(curve.points)
  rows = [
    [step, runs.finite(minutes, 5), runs.finite(value), runs.finite(error)]
    for (step, minutes, value), error in zip(curve.points, errors, strict=True)
  ]
  return {
    "label": curve.label,
    "color": curve.color,
    "dash": curve.dash,
    "points": _thinned(rows),
  }


def _thinned(rows: list[list[Any]]) -> list[list[Any]]:
  """Keeps the lowest and the highest point of each stretch of many."""
  stretch = -(-2 * len(rows) // _MOST_POINTS)
  if stretch <= 2:
    return rows
  kept = []
  for first in range(0, len(rows), stretch):
    part = [r for r in rows[first : first + stretch] if r[2] is not None]
    if part:
      ends = [min(part, key=lambda r: r[2]), max(part, key=lambda r: r[2])]
      kept += sorted(ends, key=lambda r: r[0])
  return [rows[0], *kept, rows[-1]]
