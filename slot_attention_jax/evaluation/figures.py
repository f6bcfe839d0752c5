"""Figures: panels in rows, with titles and scores.

A figure is an image with words and marks over it; `rendering` makes files of
it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from slot_attention_jax.evaluation import palette

# All lengths are in pixels.
_TILE, _LARGEST = 112, 160
_GAP, _WIDE_GAP = 6, 20
_MARGIN = 10
GRAY = "#595959"
"""The color of titles."""
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
  """Words in a figure.

  Attributes:
    x: pixels from the left, of what `align` says.
    y: pixels from the top, of what `valign` says.
    words: one or more lines.
    size: of the font.
    align: `"left"`, `"center"` or `"right"`.
    valign: `"top"`, `"center"` or `"baseline"`, that of the first line.
    color: `"#rrggbb"`.
    bold: whether the font is bold.
    mono: whether all characters are of one width.
  """

  x: float
  y: float
  words: str
  size: float = _FONT
  align: str = "left"
  valign: str = "top"
  color: str = "#000000"
  bold: bool = False
  mono: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
  """A ring, or a cross, around (x, y) in pixels, with a white border."""

  x: float
  y: float
  color: str = "#000000"
  cross: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
  """An image with marks and words over it.

  Attributes:
    canvas: [H, W, 3] uint8.
    texts: the words.
    marks: the marks.
  """

  canvas: np.ndarray
  texts: Sequence[Text] = ()
  marks: Sequence[Mark] = ()


def grid(
  columns: Sequence[Column], labels: Sequence[str] = (), title: str = ""
) -> Figure:
  """Draws columns of panels.

  Args:
    columns: at least one; all with as many panels.
    labels: beside each row, on its left; may have several lines.
    title: above all.

  Returns:
    The figure.
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
      Text(x=_MARGIN, y=_MARGIN, words=title, size=_SMALL, color=GRAY)
    )
  return Figure(canvas=canvas, texts=texts)


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
