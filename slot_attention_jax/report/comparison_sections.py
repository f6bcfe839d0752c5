"""Sections of the report that compares runs."""

from collections.abc import Callable, Sequence
from typing import Any

from slot_attention_jax.report import comparison, runs, sections, series
from slot_attention_jax.report.markup import Markup, element
from slot_attention_jax.report.markup import table as table_element

Pick = Callable[[str, Sequence[series.Point]], float | None]
"""The value of a metric's points that a table shows."""


def header(
  found: Sequence[runs.Run], parts: Sequence[comparison.Group]
) -> Markup:
  """The runs, how far they are, and what is missing of them."""
  rows = [
    [
      run.name,
      str(run.config.get("seed", "")),
      run.data,
      sections.progress(run),
      sections.minutes(run),
      sections.goodput_share(run.goodput),
    ]
    for run in found
  ]
  head = ["run", "seed", "data", "steps", "training time", "goodput"]
  sentences = [f"{run.name}: {n}" for run in found for n in run.notes]
  several = [p for p in parts if len(p.numbers) > 1]
  if several:
    sentences += [
      f"{', '.join(found[i].name for i in part.numbers)} differ by their seed "
      "alone and are averaged."
      for part in several
    ]
  return element(
    "header",
    element("p", "Report of runs", class_="kind"),
    element("h1", f"{len(found)} runs"),
    table_element("The runs", head, rows, numbers=False),
    sections.notes(sentences),
  )


def metrics(
  found: Sequence[runs.Run], parts: Sequence[comparison.Group]
) -> Markup:
  """Last and best values of evaluations in the course of training."""
  points = [series.evaluations(run.points()) for run in found]
  names = _names(points)
  if not names:
    text = "No evaluation in the course of training yet."
    return sections.section("Evaluations", "metrics", element("p", text))
  with_best = [m for m in names if series.has_direction(m)]
  tables = [
    element("h3", "Last"),
    _table("Last evaluation", found, parts, names, points, _last),
  ]
  if with_best:
    tables += [
      element("h3", "Best"),
      _table("Best evaluation", found, parts, with_best, points, _best),
    ]
  return sections.section(
    "Evaluations",
    "metrics",
    element("p", _where(names) + " Means have standard errors over seeds."),
    *tables,
    sections.meanings(names),
  )


def evaluations(
  found: Sequence[runs.Run], parts: Sequence[comparison.Group]
) -> Markup | None:
  """What `--mode=evaluate` measured of the runs."""
  points: list[dict[str, Sequence[series.Point]]] = []
  for run in found:
    measured = runs.mapping(run.evaluation.get("metrics"))
    numbers = {k: runs.number(v) for k, v in measured.items()}
    points.append(
      {k: [(0, None, v)] for k, v in numbers.items() if v is not None}
    )
  names = _names(points)
  if not names:
    return None
  return sections.section(
    "Separate evaluations",
    "evaluation",
    element("p", f"Of --mode=evaluate. {_where(names)}"),
    _table("Separate evaluations", found, parts, names, points, _last),
  )


def differences(found: Sequence[runs.Run]) -> Markup:
  """The keys of the configs that differ, and no others."""
  rows = [[key, *values] for key, values in comparison.differing_keys(found)]
  if not rows:
    text = "The configs and the data are the same."
    return sections.section("Differences", "config", element("p", text))
  return sections.section(
    "Differences",
    "config",
    element("p", "Only what differs, of configs and of metadata."),
    table_element(
      "Differences", ["key", *(r.name for r in found)], rows, numbers=False
    ),
  )


def _table(
  label: str,
  found: Sequence[runs.Run],
  parts: Sequence[comparison.Group],
  names: Sequence[str],
  points: Sequence[dict[str, Sequence[series.Point]]],
  pick: Pick,
) -> Markup:
  """A row for each run, and for each mean over seeds."""

  def value(run: int, metric: str) -> float | None:
    return pick(metric, points[run].get(metric, ()))

  rows = []
  for part in parts:
    rows += [
      [found[i].name, *(sections.with_error(value(i, m)) for m in names)]
      for i in part.numbers
    ]
    if len(part.numbers) > 1:
      cells = [_mean([value(i, m) for i in part.numbers]) for m in names]
      rows.append([part.name, *cells])
  short = {series.split_name(m)[:2] for m in names}
  titles = [series.split_name(m)[2] if len(short) == 1 else m for m in names]
  return table_element(label, ["run", *titles], rows)


def _mean(values: Sequence[float | None]) -> Markup:
  """A cell: mean and standard error, and of how many runs if not of all."""
  known = [v for v in values if v is not None]
  if not known:
    return element("td")
  text = sections.with_error(*comparison.mean_and_error(known))
  if len(known) < len(values):
    text += f" (of {len(known)})"
  return element("td", text, class_="mean")


def _last(metric: str, points: Sequence[series.Point]) -> float | None:
  return points[-1][2] if points else None


def _best(metric: str, points: Sequence[series.Point]) -> float | None:
  best = series.best(metric, points)
  return None if best is None else best[2]


def _names(points: Sequence[dict[str, Any]]) -> list[str]:
  """All metrics, in the order of charts."""
  everything = {m: () for p in points for m in p}
  return list(series.evaluations(everything))


def _where(names: Sequence[str]) -> str:
  prefixes = sorted({"/".join(series.split_name(m)[:2]) for m in names})
  return f"On {', '.join(prefixes)}."
