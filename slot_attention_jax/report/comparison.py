"""Runs beside each other: which settings differ, which differ by seed alone."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from slot_attention_jax.config import arguments
from slot_attention_jax.metrics import standard_errors
from slot_attention_jax.report import runs, series
from slot_attention_jax.training import config_changes

_SEED = "seed"
_ABSENT = "-"
# Of the metadata; equal configs may have found other data or run other code.
_ABOUT = ("data", "num_examples", "code", "devices")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
  """Runs that differ by their seed alone.

  Attributes:
    name: of the first one, with the number of runs if there are several.
    numbers: of the runs, in the order of the page.
  """

  name: str
  numbers: tuple[int, ...]


def groups(found: Sequence[runs.Run]) -> list[Group]:
  """Puts runs together that differ by their seed alone.

  Keys that change nothing that is computed, as those of `logging`, may differ
  too; the data that were found may not.

  Args:
    found: the runs.

  Returns:
    The groups, each run in one of them.
  """
  members: list[list[int]] = []
  for number, run in enumerate(found):
    for group in members:
      if _same_but_for_seed(found[group[0]], run):
        group.append(number)
        break
    else:
      members.append([number])
  return [
    Group(name=_group_name(found, numbers), numbers=tuple(numbers))
    for numbers in members
  ]


def differing_keys(found: Sequence[runs.Run]) -> list[tuple[str, list[str]]]:
  """Keys of the configs, and facts of the metadata, that are not all equal.

  Args:
    found: the runs.

  Returns:
    Pairs of a key and its value in each run.
  """
  configs = [dict(arguments.flatten(run.config)) for run in found]
  keys = dict.fromkeys(key for config in configs for key in config)
  tables = [(key, [c.get(key, _ABSENT) for c in configs]) for key in keys]
  tables += [
    (name, [run.metadata.get(name, _ABSENT) for run in found])
    for name in _ABOUT
  ]
  return [
    (key, [runs.as_text(value) for value in values])
    for key, values in tables
    if any(value != values[0] for value in values)
  ]


def curves(
  found: Sequence[runs.Run], parts: Sequence[Group]
) -> tuple[list[series.Curve], list[series.Curve]]:
  """Curves of all runs, and of the means over the runs of each group.

  Args:
    found: the runs.
    parts: of `groups`.

  Returns:
    A pair (curves by run, means).
  """
  points = [run.points() for run in found]
  by_run = [
    _curve(metric, p[metric], (), run.name, number)
    for number, (run, p) in enumerate(zip(found, points, strict=True))
    for metric in p
  ]
  means = []
  for number, group in enumerate(parts):
    members = [points[i] for i in group.numbers]
    for metric in dict.fromkeys(m for p in members for m in p):
      having = [p[metric] for p in members if metric in p]
      mean, errors = mean_curve(having)
      means.append(_curve(metric, mean, errors, group.name, number))
  return by_run, means


def mean_curve(
  members: Sequence[Sequence[series.Point]],
) -> tuple[list[series.Point], list[float]]:
  """The mean over runs, at the steps that all of them have.

  Args:
    members: the points of each run, at least one.

  Returns:
    A pair (points, standard errors); no errors of a single run.
  """
  if len(members) == 1:
    return list(members[0]), []
  by_step = [{step: (m, v) for step, m, v in points} for points in members]
  steps = sorted(set.intersection(*(set(b) for b in by_step)))
  points, errors = [], []
  for step in steps:
    minutes = [b[step][0] for b in by_step]
    known = [m for m in minutes if m is not None]
    mean_minutes = (
      sum(known) / len(known) if len(known) == len(minutes) else None
    )
    mean, error = mean_and_error([b[step][1] for b in by_step])
    points.append((step, mean_minutes, mean))
    errors.append(error if error is not None else float("nan"))
  return points, errors


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
  """Mean and standard error over seeds; the error is None of a single one."""
  return standard_errors.mean_and_standard_error(np.array(values))


def _same_but_for_seed(one: runs.Run, other: runs.Run) -> bool:
  if not one.config or not other.config or one.data != other.data:
    return False
  try:
    changed = config_changes.changed_keys(one.config, other.config)
    changed |= config_changes.changed_keys(other.config, one.config)
  except (AttributeError, TypeError):  # A file may hold anything.
    return False
  return set(changed) == {_SEED}


def _group_name(found: Sequence[runs.Run], numbers: Sequence[int]) -> str:
  first = found[numbers[0]].name
  if len(numbers) == 1:
    return first
  return f"{first}, mean of {len(numbers)} seeds"


def _curve(
  metric: str,
  points: Any,
  errors: Sequence[float],
  name: str,
  number: int,
) -> series.Curve:
  data, split, short = series.split_name(metric)
  return series.Curve(
    metric=metric,
    names=(name, split, short, data),
    color=number,
    dash=series.split_number(split),
    points=points,
    errors=errors,
  )
