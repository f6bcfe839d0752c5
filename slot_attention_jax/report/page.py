"""Puts the report together: sections, data, style and script in one file."""

import base64
import hashlib
import importlib.resources
import shlex
import string
from collections.abc import Sequence
from typing import Any

from slot_attention_jax.evaluation import palette
from slot_attention_jax.report import (
  comparison,
  comparison_sections,
  markup,
  pictures,
  runs,
  sections,
  series,
)
from slot_attention_jax.report.markup import Markup, element
from slot_attention_jax.runtime import storage

_PACKAGE = "slot_attention_jax.report"
# In the order in which they need each other.
_SCRIPTS = (
  "dom.js",
  "scale.js",
  "plot.js",
  "chart.js",
  "charts.js",
  "pixels.js",
  "panels.js",
  "objects.js",
  "viewer.js",
  "figures.js",
  "start.js",
)
_TITLES = {
  "curves": "Curves",
  "slots": "Slots",
  "metrics": "Evaluations",
  "evaluation": "Separate evaluation",
  "config": "Configuration",
  "provenance": "Provenance",
}
# Least contrast of a line with the background.
_CONTRAST = 2.1
_BACKGROUNDS = {"light": (255, 255, 255), "dark": (24, 27, 33)}


def of_run(run: runs.Run) -> str:
  """The report of one run.

  Args:
    run: the run.

  Returns:
    HTML of a whole page.
  """
  notes: list[str] = []
  shown = pictures.viewer(run, notes)
  figures = [] if shown else pictures.drawn_figures(run)
  charts = series.charts(series.of_run(run))
  body = [
    sections.header(run),
    sections.charts(bool(charts)),
    _slots(run, bool(shown), bool(figures), notes),
    sections.metrics(run),
    sections.evaluation(run),
    sections.config(run),
    sections.provenance(run),
  ]
  data = {"charts": charts, "viewer": shown, "figures": figures}
  return _page(f"{run.name}: report", body, data)


def of_runs(found: Sequence[runs.Run]) -> str:
  """The report that compares runs.

  Args:
    found: two runs or more.

  Returns:
    HTML of a whole page.
  """
  parts = comparison.groups(found)
  by_run, means = comparison.curves(found, parts)
  several_seeds = len(parts) < len(found)
  charts = series.charts(by_run, means if several_seeds else ())
  body = [
    comparison_sections.header(found, parts),
    sections.charts(bool(charts)),
    comparison_sections.metrics(found, parts),
    comparison_sections.evaluations(found, parts),
    comparison_sections.differences(found),
  ]
  data = {"charts": charts, "viewer": None, "figures": []}
  return _page(f"{len(found)} runs: report", body, data)


def line_colors(background: tuple[int, int, int]) -> list[str]:
  """The palette's colors that stand out from a background, in its order.

  Args:
    background: red, green and blue, 0 to 255.

  Returns:
    Colors as `"#rrggbb"`.
  """
  behind = _luminance(background)
  return [
    f"#{r:02x}{g:02x}{b:02x}"
    for r, g, b in palette.COLORS.tolist()
    if _contrast(_luminance((r, g, b)), behind) >= _CONTRAST
  ]


def _slots(run, has_viewer, has_figures, notes: Sequence[str]) -> Markup:
  """Where the page shows slots, or how to get them."""
  parts: list[Any] = [sections.notes(notes)]
  if has_viewer:
    parts.append(element("p", _VIEWER_HELP, class_="help"))
    parts.append(element("div", id="viewer"))
  else:
    parts.append(element("p", _how_to_get_slots(run)))
  if has_figures:
    parts.append(element("div", id="figures"))
  return sections.section("Slots", "slots", *parts)


_VIEWER_HELP = (
  "Point at a pixel to see its slot. With the keyboard: Tab to the first "
  "picture, arrow keys move by a pixel, with Shift by eight, Page Up and Page "
  "Down change the step, comma and period the iteration. Choose a slot to keep "
  "it."
)


def _how_to_get_slots(run: runs.Run) -> Markup:
  config, copy = run.path / "config.json", ""
  if "task" not in run.config:  # The file is missing or damaged.
    config = "NAME"
  elif storage.is_remote(run.path):
    copy, config = f" in a directory with a copy of {config}", config.name
  command = shlex.join([f"--config={config}", f"--workdir={run.path}"])
  return markup.join(
    "This run has no figures/STEP.npz, in which every evaluation now keeps its "
    "slots. To see those of its last checkpoint here, evaluate it, then make "
    "this report again: ",
    element("code", f"slot-attention --mode=evaluate {command}"),
    copy,
    ". (logging.num_images=0 keeps none.)",
  )


def _page(title: str, body: Sequence[Any], data: dict[str, Any]) -> str:
  style = _line_style() + _read("page.css")
  script = "\n".join(_read(name) for name in _SCRIPTS)
  template = string.Template(_read("page.html"))
  return template.substitute(
    title=markup.join(title),
    style=style,
    style_hash=_hash(style),
    script=script,
    script_hash=_hash(script),
    body=markup.join(body[0], _contents(body[1:]), *body[1:]),
    data=markup.embedded_json(data, "data"),
  )


def _contents(body: Sequence[Any]) -> Markup:
  """Links to the sections that there are."""
  there = markup.join(*body)
  links = [
    element("a", title, href=f"#{name}")
    for name, title in _TITLES.items()
    if f'<section id="{name}"' in there
  ]
  return element("nav", *links, aria_label="Sections")


def _line_style() -> str:
  """The colors of lines as CSS variables, for both color schemes."""
  blocks = []
  count = min(len(line_colors(b)) for b in _BACKGROUNDS.values())
  for name, background in _BACKGROUNDS.items():
    colors = line_colors(background)[:count]
    lines = [f"--line-{i}: {color};" for i, color in enumerate(colors)]
    block = f":root {{ --lines: {count}; {' '.join(lines)} }}"
    dark = "@media (prefers-color-scheme: dark) "
    blocks.append(f"{dark}{{ {block} }}" if name == "dark" else block)
  return "\n".join(blocks) + "\n"


def _luminance(color: tuple[int, int, int]) -> float:
  """Relative luminance, as of WCAG 2."""
  shares = [c / 255 for c in color]
  linear = [
    c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares
  ]
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: float, other: float) -> float:
  return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def _hash(text: str) -> str:
  """What the page's policy calls a script or a style that may run."""
  digest = hashlib.sha256(text.encode()).digest()
  return f"sha256-{base64.b64encode(digest).decode()}"


def _read(name: str) -> str:
  path = importlib.resources.files(_PACKAGE) / "static" / name
  return path.read_text(encoding="utf-8")
