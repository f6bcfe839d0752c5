"""Sections of the report of one run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slot_attention_jax.config import arguments
from slot_attention_jax.metrics import names as metric_names
from slot_attention_jax.report import runs, series
from slot_attention_jax.report.markup import Markup, element, void
from slot_attention_jax.report.markup import table as table_element

# Of the metadata; the layout is what the predictions are decoded by.
_ELSEWHERE = ("layout",)


def section(title: str, name: str, *children: Any) -> Markup:
  """A section with a heading that links lead to."""
  heading = element("h2", title, id=f"{name}-title")
  return element(
    "section", heading, *children, id=name, aria_labelledby=f"{name}-title"
  )


def header(run: runs.Run) -> Markup:
  """Name, data and state of a run, and what it took."""
  shown = {"data": run.data or "unknown", "steps": progress(run)}
  if took := minutes(run):
    shown["training time"] = took
  if share := goodput_share(run.goodput):
    shown["goodput"] = share
  if devices := run.metadata.get("devices"):
    shown["devices"] = str(devices)
  tiles = [
    element("div", element("dt", name), element("dd", value))
    for name, value in shown.items()
  ]
  return element(
    "header",
    element("p", "Report of a run", class_="kind"),
    element("h1", run.name),
    element("dl", *tiles, class_="tiles"),
    notes(run.notes),
  )


def notes(sentences: Sequence[str]) -> Markup | None:
  """A list of what is missing or damaged; None if nothing is."""
  if not sentences:
    return None
  items = [element("li", sentence) for sentence in sentences]
  return element("ul", *items, class_="notes", aria_label="Notes")


def charts(has_any: bool) -> Markup:
  """Where the page draws the curves."""
  if not has_any:
    text = "No metrics yet. Make the report again once the run has some."
    return section("Curves", "curves", element("p", text))
  return section(
    "Curves",
    "curves",
    element("p", _CHART_HELP, class_="help"),
    element("div", id="chart-controls", class_="controls"),
    element("div", id="charts", class_="charts"),
  )


_CHART_HELP = (
  "Drag over a chart to zoom all of them, double-click to reset. With the "
  "keyboard: Tab to a chart, arrow keys move between points, + and - zoom, "
  "Shift and arrow keys move the window, L switches the log scale, 0 resets."
)


def metrics(run: runs.Run) -> Markup:
  """A row for each evaluation; the best values are marked."""
  points = series.evaluations(run.points())
  if not points:
    text = "No evaluation in the course of training yet."
    return section("Evaluations", "metrics", element("p", text))
  prefixes = {series.split_name(m)[:2] for m in points}
  one = len(prefixes) == 1
  names = [series.split_name(m)[2] if one else m for m in points]
  best = {m: series.best(m, p) for m, p in points.items()}
  values = {m: {step: v for step, _, v in p} for m, p in points.items()}
  steps = sorted({step for by_step in values.values() for step in by_step})
  rows = [
    [step, *(_metric_cell(values[m].get(step), step, best[m]) for m in points)]
    for step in steps
  ]
  where = "/".join(next(iter(prefixes))) if one else "all data"
  return section(
    "Evaluations",
    "metrics",
    element("p", f"On {where}. The best value of each column is marked *."),
    table_element("Metrics of each evaluation", ["step", *names], rows),
    meanings(points),
  )


def evaluation(run: runs.Run) -> Markup | None:
  """The evaluation on its own, with standard errors over images."""
  found = runs.mapping(run.evaluation.get("metrics"))
  if not found:
    return None
  errors = runs.mapping(run.evaluation.get("standard_errors"))
  rows = [
    [
      series.split_name(name)[2],
      with_error(runs.number(value), runs.number(errors.get(name))),
      metric_names.meaning(series.split_name(name)[2]),
    ]
    for name, value in found.items()
  ]
  protocol = runs.mapping(run.evaluation.get("protocol"))
  about = {k: run.evaluation.get(k) for k in ("step", "num_slots")}
  about |= {"num_iterations": run.evaluation.get("num_iterations"), **protocol}
  return section(
    "Separate evaluation",
    "evaluation",
    element("p", "Of --mode=evaluate, with standard errors over images."),
    table_element(
      "Metrics", ["metric", "value", "what it is"], rows, numbers=False
    ),
    element("details", element("summary", "Conditions"), facts(about)),
  )


def config(run: runs.Run) -> Markup:
  """The resolved config, by groups that fold, with a search."""
  if not run.config:
    text = "There is no readable config.json."
    return section("Configuration", "config", element("p", text))
  grouped: dict[str, list[tuple[str, Any]]] = {}
  for key, value in arguments.flatten(run.config):
    group, dot, _ = key.partition(".")
    grouped.setdefault(group if dot else "general", []).append((key, value))
  search = element(
    "label",
    "Search keys and values ",
    void("input", type="search", id="config-search", autocomplete="off"),
  )
  groups = [
    element(
      "details",
      element("summary", f"{group} ({len(rows)})"),
      facts(dict(rows), class_="facts config", skip_empty=False),
    )
    for group, rows in sorted(grouped.items())
  ]
  count = element("output", for_="config-search", id="config-count")
  return section(
    "Configuration",
    "config",
    element("p", search, " ", count, class_="controls"),
    element("div", *groups, id="config-groups"),
  )


def provenance(run: runs.Run) -> Markup:
  """Command, data, versions, devices, times, and what the time went into."""
  about = {k: v for k, v in run.metadata.items() if k not in _ELSEWHERE}
  versions = runs.mapping(about.pop("versions", {}))
  about |= {f"version of {name}": value for name, value in versions.items()}
  changes = about.pop("changes", None)
  if run.rows:
    about["last metrics"] = run.rows[-1].get("time", "")
  about["directory"] = str(run.path)
  parts = [facts(about)]
  if isinstance(changes, list):
    rows = [
      [runs.as_text(change.get(k, "")) for k in ("step", "key", "old", "new")]
      for change in map(runs.mapping, changes)
    ]
    parts += [
      element("h3", "Settings that changed when the run was resumed"),
      table_element("Changes", ["step", "key", "old", "new"], rows),
    ]
  return section("Provenance", "provenance", *parts, _goodput(run))


def facts(
  values: Mapping[str, Any], class_: str = "facts", skip_empty: bool = True
) -> Markup:
  """A list of names and values."""
  rows = [
    element("div", element("dt", name), element("dd", runs.as_text(value)))
    for name, value in values.items()
    if not (skip_empty and value in ("", None, [], {}))
  ]
  return element("dl", *rows, class_=class_)


def goodput_share(seconds: Mapping[str, float]) -> str:
  """The share of the time that went into steps; empty if not known."""
  total = sum(seconds.values())
  if not total:
    return ""
  return f"{100 * seconds.get('steps', 0.0) / total:.0f} %"


def with_error(value: float | None, error: float | None = None) -> str:
  """A value, and its standard error if there is one; a dash for no value."""
  if value is None:
    return "-"
  return f"{value:.4g}" + ("" if error is None else f" ± {error:.2g}")


def _goodput(run: runs.Run) -> Markup:
  if not run.goodput:
    text = "The run has no goodput.jsonl: it was made before, or was killed."
    return element("p", text, class_="help")
  total = sum(run.goodput.values())
  rows = [
    [phase, f"{seconds:.1f}", f"{100 * seconds / max(total, 1e-9):.1f}"]
    for phase, seconds in run.goodput.items()
  ]
  return element(
    "div",
    element("h3", "Goodput: what the wall time went into"),
    table_element("Goodput", ["phase", "seconds", "%"], rows),
  )


def _metric_cell(
  value: float | None, step: int, best: series.Point | None
) -> Markup:
  if value is None:
    return element("td")
  if best is None or best[0] != step:
    return element("td", f"{value:.4g}")
  return element("td", f"{value:.4g} *", class_="best")


def meanings(metrics_shown: Iterable[str]) -> Markup | None:
  """What metrics are, folded; None if none is one of the package's."""
  names = dict.fromkeys(series.split_name(m)[2] for m in metrics_shown)
  words = {name: metric_names.meaning(name) for name in names}
  if not any(words.values()):
    return None
  title = element("summary", "What the metrics are")
  return element("details", title, facts(words))


def progress(run: runs.Run) -> str:
  """Steps done, of how many."""
  if run.total is None:
    return str(run.step)
  state = "" if run.step >= run.total else ", unfinished"
  return f"{run.step} of {run.total}{state}"


def minutes(run: runs.Run) -> str:
  """The time in training, with its unit; empty if not known."""
  seconds = run.rows[-1].get("seconds") if run.rows else None
  if not seconds:
    return ""
  return (
    f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
  )
