"""Curves of a run: which metrics share a chart, and their points."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slot_attention_jax.metrics import names as metric_names
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
    names: of the run or group, the split, the metric and the data; the legend
      has those that differ within a chart.
    color: number of its color.
    dash: number of its dashes; 0: a solid line.
    points: (step, minutes, value), in the order of the steps.
    errors: standard errors, one for each point; empty: none are drawn.
  """

  metric: str
  names: tuple[str, ...]
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
  found = []
  for metric in points:
    data, split, short = split_name(metric)
    number = split_number(split)
    found.append(
      Curve(
        metric=metric,
        names=("", split, short, data),
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
    chart["curves"] += [c for c in curves if c.metric == metric]
    chart["means"] += [c for c in means if c.metric == metric]
  for chart in found.values():
    for kind in ("curves", "means"):
      labels = _labels(chart[kind])
      chart[kind] = [
        _plain(c, label) for c, label in zip(chart[kind], labels, strict=True)
      ]
  return list(found.values())


def best(metric: str, points: Sequence[Point]) -> Point | None:
  """The best point of a metric; None: it has no direction, or no number."""
  direction = metric_names.direction(split_name(metric)[2])
  numbers = [p for p in points if not math.isnan(p[2])]
  if not direction or not numbers:
    return None
  return max(numbers, key=lambda p: direction * p[2])


def has_direction(metric: str) -> bool:
  """Whether more or less of a metric, by its full name, is better."""
  return metric_names.direction(split_name(metric)[2]) != 0


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
  place = metric_names.order(short) if first else ()
  return last, first, place, split_number(split), data


def _labels(curves: Sequence[Curve]) -> list[str]:
  """Names of the curves of a chart, as long as it takes to tell them apart."""
  columns = list(zip(*(c.names for c in curves), strict=True))
  shown = [i for i, names in enumerate(columns) if len(set(names)) > 1]
  # Of a single curve, the run's name or else the split.
  shown = shown or [0 if curves and curves[0].names[0] else 1]
  return [", ".join(c.names[i] for i in shown) for c in curves]


def _plain(curve: Curve, label: str) -> dict[str, Any]:
  errors = curve.errors or [None] * len(curve.points)
  rows = [
    [step, runs.finite(minutes, 5), runs.finite(value), runs.finite(error)]
    for (step, minutes, value), error in zip(curve.points, errors, strict=True)
  ]
  return {
    "label": label,
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
