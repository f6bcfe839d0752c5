"""Figures of set prediction: predicted objects beside the true ones."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from slot_attention_jax import models
from slot_attention_jax.data import types
from slot_attention_jax.evaluation import (
  decomposition,
  figures,
  palette,
  placement,
)
from slot_attention_jax.evaluation.visualize import to_uint8

# In pixels.
_HEIGHT, _GAP, _MARGIN, _TOP = 192, 8, 10, 58
_LINE, _SIZE, _CHARACTER = 16.0, 12.0, 0.6021
_SURE = 0.5


@dataclasses.dataclass(frozen=True)
class Match:
  """A predicted object and the true one that it is matched to.

  Attributes:
    slot: from 0; None: no slot predicts this object.
    confidence: of the slot.
    predicted: names of its classes, by property.
    true: of the true object; empty where there is none.
    distance: of the positions, in the data's units.
  """

  slot: int | None
  confidence: float
  predicted: dict[str, str]
  true: dict[str, str]
  distance: float | None

  @property
  def right(self) -> bool:
    """Whether there is such an object and all classes are right."""
    return self.slot is not None and self.predicted == self.true


def match(
  predictions: np.ndarray,
  targets: np.ndarray | None,
  layout: types.PropertyLayout,
) -> list[Match]:
  """Pairs predictions and true objects as the loss does.

  Args:
    predictions: [K, P] in [0, 1].
    targets: [O, P] in [0, 1], rows of zeros as padding; None: no ground truth.
    layout: of both.

  Returns:
    The pairs: true objects first, those that no confident slot predicts with
    `slot` None; then confident slots without an object.
  """
  from scipy import optimize

  confidence = np.asarray(layout.decode(predictions)[layout.confidence.name])
  unused = {int(k) for k in np.flatnonzero(confidence >= _SURE)}
  found = []
  if targets is not None:
    at = layout.slice(layout.confidence.name)
    real = [o for o, row in enumerate(targets) if row[at][0] > 0.5]
    cost = np.square(predictions[:, None] - targets[None]).mean(axis=-1)
    slots, objects = optimize.linear_sum_assignment(cost)
    slot_of = {int(o): int(k) for k, o in zip(slots, objects, strict=True)}
    for o in real:
      k = slot_of.get(o)
      found.append((k if k in unused else None, k, targets[o]))
      unused.discard(k)  # pyright: ignore
  found += [(k, k, None) for k in sorted(unused)]
  return [_describe(predictions, layout, confidence, *f) for f in found]


def _describe(predictions, layout, confidence, slot, k, true) -> Match:
  """A pair in words."""
  distance = None
  if slot is not None and true is not None:
    at = layout.slice(layout.position)
    scale = layout[layout.position].high - layout[layout.position].low
    distance = float(scale * np.linalg.norm(predictions[k, at] - true[at]))
  return Match(
    slot=slot,
    confidence=0.0 if k is None else float(confidence[k]),
    predicted={} if slot is None else words(predictions[k], layout),
    true={} if true is None else words(true, layout),
    distance=distance,
  )


def words(vector: np.ndarray, layout: types.PropertyLayout) -> dict[str, str]:
  """Names of the classes of a property vector [P], by property."""
  values = layout.decode(vector)
  return {
    p.name: p.labels[int(values[p.name])]
    if p.labels
    else str(int(values[p.name]))
    for p in layout.of_kind("categorical")
  }


def figure(
  images: np.ndarray,
  output: models.ClassifierOutput,
  grid: tuple[int, int],
  layout: types.PropertyLayout,
  *,
  targets: np.ndarray | None = None,
  data: str = "",
  title: str = "",
) -> Any:
  """Draws a row for each image.

  From left to right: the image with a cross at every true object and a ring, in
  its slot's color, at every predicted one; the attention of every iteration;
  and a table of the true objects beside the predictions matched to them, with
  confidence and distance. Wrong words are bold and red.

  Args:
    images: [B, H, W, 3] in [-1, 1].
    output: of the model, on the host.
    grid: (h, w) of the attention, N = h w.
    layout: of the predictions.
    targets: [B, O, P] in [0, 1]; None: no ground truth.
    data: name of the data, which says whether their camera is known.
    title: above all.

  Returns:
    A figure of matplotlib.
  """
  predictions = np.asarray(output.predictions)
  pairs = [
    match(p, None if targets is None else targets[b], layout)
    for b, p in enumerate(predictions)
  ]
  attention = np.asarray(output.attention)
  size = images.shape[1:3]
  columns = [
    figures.Column(title="image", panels=list(to_uint8(images))),
    *decomposition.attention_columns(attention, grid, size),
  ]
  columns = [
    dataclasses.replace(
      c, panels=[figures.scaled(p, _HEIGHT) for p in c.panels]
    )
    for c in columns
  ]
  h, w, _ = columns[0].panels[0].shape
  lines = max(2 + len(p) for p in pairs)
  row = max(h, round(lines * _LINE)) + _GAP
  table = _MARGIN + len(columns) * (w + _GAP) + 12
  width = table + round(_table_width(layout, targets is not None)) + _MARGIN
  canvas = np.full((_TOP + len(images) * row, width, 3), 255, np.uint8)
  texts = [_text(_MARGIN, _MARGIN, title, color="0.35")]
  rings, crosses = [], []
  for i, column in enumerate(columns):
    x = _MARGIN + i * (w + _GAP)
    texts.append(
      figures.Text(x=x + w / 2, y=_TOP - 24, words=column.title, align="center")
    )
    for b, panel in enumerate(column.panels):
      figures.paste(canvas, panel, x, _TOP + b * row)
  for b, found in enumerate(pairs):
    top = _TOP + b * row
    texts += _table(found, table, top, layout, targets is not None)
    window = (top, top + h, _MARGIN, _MARGIN + w)
    maps = attention[b, -1].reshape(-1, *grid)
    rings += _places(predictions[b], found, layout, data, window, maps)
    for n, pair in enumerate(found):
      if pair.slot is not None:
        rings.append((table + 5, top + (n + 1.5) * _LINE, pair.slot))
    if targets is not None and placement.has_camera(data, layout):
      crosses += _true_places(targets[b], layout, window)
  drawn = figures.draw(canvas, texts)
  _draw_marks(drawn, rings, crosses)
  return drawn


def _text(x: float, y: float, text: str, **options: Any) -> figures.Text:
  return figures.Text(x=x, y=y, words=text, size=_SIZE, **options)


def _places(predictions, found, layout, data, window, maps):
  """Where predicted objects are on the canvas: (x, y, slot)."""
  slots = [pair.slot for pair in found if pair.slot is not None]
  top, bottom, left, right = window
  if placement.has_camera(data, layout):
    coords = layout.decode(predictions)[layout.position]
    points = placement.project(coords, (bottom - top, right - left))
    points = points + np.array([left, top])
  else:
    points = placement.attention_centers(maps, window)
  return [(*np.clip(points[k], (left, top), (right, bottom)), k) for k in slots]


def _true_places(targets, layout, window):
  """Where true objects are on the canvas: (x, y)."""
  top, bottom, left, right = window
  values = layout.decode(targets)
  real = np.asarray(values[layout.confidence.name]) > 0.5
  points = placement.project(
    values[layout.position], (bottom - top, right - left)
  )
  points = points + np.array([left, top])
  points = np.clip(points, (left, top), (right, bottom))
  return [tuple(p) for p in points[real]]


def _draw_marks(drawn: Any, rings, crosses) -> None:
  axes = drawn.axes[0]
  if rings:
    x, y, slots = map(np.array, zip(*rings, strict=True))
    colors = palette.slot_colors(slots) / 255
    axes.scatter(x, y, s=52, facecolors="none", edgecolors="white", lw=3)
    axes.scatter(x, y, s=52, facecolors="none", edgecolors=colors, lw=1.8)
  if crosses:
    x, y = map(np.array, zip(*crosses, strict=True))
    axes.scatter(x, y, s=30, marker="x", c="white", lw=2.4)
    axes.scatter(x, y, s=30, marker="x", c="black", lw=1.2)


def _widths(layout: types.PropertyLayout) -> dict[str, int]:
  """Characters of the columns of the table."""
  return {
    p.name: max([len(p.name), *map(len, p.labels)]) + 1
    for p in layout.of_kind("categorical")
  }


def _table_width(layout: types.PropertyLayout, has_truth: bool) -> float:
  characters = (1 + has_truth) * sum(_widths(layout).values())
  characters += 26 if has_truth else 12
  return characters * _CHARACTER * _SIZE


def _table(
  found: Sequence[Match],
  x: float,
  y: float,
  layout: types.PropertyLayout,
  has_truth: bool,
) -> list[figures.Text]:
  """The table of one image, a few texts of many lines."""
  widths = _widths(layout)

  def line(values: dict[str, str], keep: Any = lambda name: True) -> str:
    return "".join(
      (values.get(n, "") if keep(n) else "").ljust(w) for n, w in widths.items()
    )

  right, wrong, true, numbers = [], [], [], []
  for pair in found:
    bad = {n for n, v in pair.predicted.items() if pair.true.get(n) != v}
    bad = bad if has_truth else set()
    right.append(line(pair.predicted, lambda n, bad=bad: n not in bad))
    wrong.append(line(pair.predicted, lambda n, bad=bad: n in bad))
    true.append(line(pair.true) if pair.true else "no such object")
    if pair.slot is None:
      right[-1] = "missed"
    slot = "" if pair.slot is None else f"{pair.slot + 1}"
    distance = "" if pair.distance is None else f"{pair.distance:8.2f}"
    numbers.append((f"{slot:>2}", f"{pair.confidence:4.2f}{distance}"))
  step = _CHARACTER * _SIZE
  at, texts = x + 16, []

  def add(header: str, lines: Sequence[str], width: int, **options: Any):
    texts.append(
      _text(at, y + 13, header, mono=True, color="0.35", valign="baseline")
    )
    texts.append(_text(at, y + _LINE, "\n".join(lines), mono=True, **options))
    return at + width * step

  at = add("", [slot for slot, _ in numbers], 3)
  total = sum(widths.values())
  header = "prediction"
  if has_truth:
    good, real = sum(p.right for p in found), sum(bool(p.true) for p in found)
    header = f"prediction: {good} of {real} right"
  add("", wrong, 0, bold=True, color="#b02000")
  at = add(header, right, total + 1)
  at = add(
    "conf. dist." if has_truth else "conf.",
    [n for _, n in numbers],
    14 if has_truth else 6,
  )
  if has_truth:
    add("ground truth", true, total)
  return texts
