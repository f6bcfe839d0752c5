"""Figures: panels in rows, with titles and scores, drawn by matplotlib.

All panels are put into one image first, which takes a tenth of the time that
an axes for each of them would.
"""

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from slot_attention_jax.evaluation import palette
from slot_attention_jax.runtime import files, storage

# All lengths are in pixels.
_DPI = 100
_TILE, _LARGEST = 112, 160
_GAP, _WIDE_GAP = 6, 20
_MARGIN = 10
_FONT, _SMALL = 13.0, 12.0
_LINE = 17


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
  """A column of panels.

  Attributes:
    title: above it.
    panels: [H, W, 3] uint8, one for each row, all of one size.
    slot: whose color marks the column, from 0; None: no color.
    apart: whether a wider gap separates it from the column before.
  """

  title: str
  panels: Sequence[np.ndarray]
  slot: int | None = None
  apart: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
  """Words in a figure, at (x, y) in pixels; the rest as of matplotlib."""

  x: float
  y: float
  words: str
  size: float = _FONT
  align: str = "left"
  valign: str = "top"
  color: str = "black"
  bold: bool = False
  mono: bool = False


def available() -> bool:
  """Whether matplotlib is installed."""
  return importlib.util.find_spec("matplotlib") is not None


def grid(
  columns: Sequence[Column], labels: Sequence[str] = (), title: str = ""
) -> Any:
  """Draws columns of panels.

  Args:
    columns: at least one; all with as many panels.
    labels: beside each row, on its left; may have several lines.
    title: above all.

  Returns:
    A figure of matplotlib.
  """
  count = len(columns[0].panels)
  height = scaled(columns[0].panels[0]).shape[0]
  left = _MARGIN
  if labels:
    lines = [line for label in labels for line in label.splitlines()]
    left += round(0.62 * _SMALL * max(map(len, lines), default=0)) + 8
  top = _MARGIN + (_LINE + 6 if title else 0) + _LINE + 10
  lefts, right = [], left
  for i, column in enumerate(columns):
    right += (_WIDE_GAP if column.apart else _GAP) if i else 0
    lefts.append(right)
    right += scaled(column.panels[0]).shape[1]
  bottom = top + count * (height + _GAP) - _GAP
  canvas = np.full((bottom + _MARGIN, right + _MARGIN, 3), 255, np.uint8)
  texts = []
  for x, column in zip(lefts, columns, strict=True):
    for row, panel in enumerate(column.panels):
      paste(canvas, scaled(panel), x, top + row * (height + _GAP))
    width = scaled(column.panels[0]).shape[1]
    middle = x + width / 2
    texts.append(Text(x=middle, y=top - 27, words=column.title, align="center"))
    if column.slot is not None:
      color = palette.slot_colors(column.slot)
      canvas[top - 9 : top - 4, x : x + width] = color
  for row, label in enumerate(labels):
    y = top + row * (height + _GAP) + height / 2
    texts.append(
      Text(
        x=left - 8,
        y=y,
        words=label,
        size=_SMALL,
        align="right",
        valign="center",
      )
    )
  if title:
    texts.append(
      Text(x=_MARGIN, y=_MARGIN, words=title, size=_SMALL, color="0.35")
    )
  return draw(canvas, texts)


def draw(canvas: np.ndarray, texts: Sequence[Text]) -> Any:
  """Draws texts over an image.

  Args:
    canvas: [H, W, 3] uint8.
    texts: the texts.

  Returns:
    A figure of matplotlib of W x H pixels.
  """
  from matplotlib import figure

  h, w, _ = canvas.shape
  drawn = figure.Figure(figsize=(w / _DPI, h / _DPI), dpi=_DPI)
  axes = drawn.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  axes.imshow(canvas, interpolation="nearest", extent=(0, w, h, 0))
  axes.set(xlim=(0, w), ylim=(h, 0))
  for text in texts:
    axes.text(
      text.x,
      text.y,
      text.words,
      fontsize=text.size * 72 / _DPI,
      ha=text.align,
      va=text.valign,
      color=text.color,
      weight="bold" if text.bold else "normal",
      family="monospace" if text.mono else "sans-serif",
      linespacing=1.325,
    )
  return drawn


def paste(canvas: np.ndarray, panel: np.ndarray, x: int, y: int) -> None:
  """Puts a panel [h, w, 3] into a canvas, its upper left corner at (x, y)."""
  h, w, _ = panel.shape
  canvas[y : y + h, x : x + w] = panel


def scaled(panel: np.ndarray, size: int = _TILE) -> np.ndarray:
  """A panel [H, W, 3], enlarged or thinned out by a whole factor.

  Args:
    panel: the panel.
    size: about the height that it gets; large ones may have half as much more.

  Returns:
    [H', W', 3].
  """
  height = panel.shape[0]
  if height > size * _LARGEST / _TILE:
    step = -(-height // size)
    return panel[::step, ::step]
  factor = max(1, round(size / height))
  return panel.repeat(factor, axis=0).repeat(factor, axis=1)


def to_array(figure: Any) -> np.ndarray:
  """The pixels [H, W, 3] uint8 of a figure."""
  from matplotlib.backends import backend_agg

  canvas = backend_agg.FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(figure: Any, path: storage.Path) -> np.ndarray:
  """Writes a figure as `PATH.png` and `PATH.svg`.

  Args:
    figure: of matplotlib.
    path: without a suffix.

  Returns:
    Its pixels [H, W, 3] uint8.
  """
  import matplotlib

  pixels = to_array(figure)
  files.save_png(path.with_name(f"{path.name}.png"), pixels)
  # The same figure is the same file.
  with (
    matplotlib.rc_context({"svg.hashsalt": "slots", "svg.fonttype": "none"}),
    files.atomic_write(path.with_name(f"{path.name}.svg")) as temporary,
  ):
    figure.savefig(temporary, format="svg", metadata={"Date": None})
  return pixels
