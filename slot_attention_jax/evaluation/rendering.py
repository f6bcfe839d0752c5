"""Figures as pixels, PNG and SVG.

Pillow draws them, in matplotlib's fonts: importing matplotlib alone takes as
long as all of a figure does here, several times over.
"""

import base64
import functools
import html
import importlib.util
import io
import pathlib
from typing import Any

import numpy as np

from slot_attention_jax.evaluation import figures
from slot_attention_jax.runtime import files, storage

# Parts of the size of a font.
_LINE, _ASCENT, _DESCENT = 4 / 3, 0.93, 0.24
# In pixels: diameter, width of the line, width with its border.
_RING, _CROSS = (10.0, 2.5, 4.2), (7.6, 1.7, 3.4)
_ANCHORS = {"left": "start", "center": "middle", "right": "end"}
# Marks are drawn this much larger, for edges without steps.
_FINER = 8


def available() -> bool:
  """Whether matplotlib is installed, whose fonts are used."""
  return importlib.util.find_spec("matplotlib") is not None


def to_array(figure: figures.Figure) -> np.ndarray:
  """The pixels [H, W, 3] uint8 of a figure."""
  from PIL import Image, ImageDraw

  image = Image.fromarray(figure.canvas)
  for mark in figure.marks:
    _draw_mark(image, mark)
  draw = ImageDraw.Draw(image)
  for text in figure.texts:
    font = _font(text.bold, text.mono, text.size)
    for y, line in _lines(text):
      anchor = f"{text.align.replace('center', 'middle')[0]}s"
      draw.text((text.x, y), line, text.color, font, anchor)
  return np.array(image)


def save(figure: figures.Figure, path: storage.Path) -> np.ndarray:
  """Writes a figure as `PATH.png` and `PATH.svg`.

  Args:
    figure: the figure.
    path: without a suffix.

  Returns:
    Its pixels [H, W, 3] uint8.
  """
  pixels = to_array(figure)
  files.save_png(path.with_name(f"{path.name}.png"), pixels)
  with files.atomic_write(path.with_name(f"{path.name}.svg")) as temporary:
    temporary.write_text(to_svg(figure), encoding="utf-8")
  return pixels


def to_svg(figure: figures.Figure) -> str:
  """The figure as SVG, whose words are text."""
  from PIL import Image

  h, w, _ = figure.canvas.shape
  png = io.BytesIO()
  Image.fromarray(figure.canvas).save(png, format="PNG")
  data = base64.b64encode(png.getvalue()).decode()
  parts = [
    '<svg xmlns="http://www.w3.org/2000/svg" '
    'xmlns:xlink="http://www.w3.org/1999/xlink" '
    f'width="{w}" height="{h}" viewBox="0 0 {w} {h}">',
    f'<image width="{w}" height="{h}" style="image-rendering: pixelated" '
    f'xlink:href="data:image/png;base64,{data}"/>',
  ]
  parts += [_svg_of_mark(mark) for mark in figure.marks]
  for text in figure.texts:
    parts += _svg_of_text(text)
  return "\n".join([*parts, "</svg>\n"])


def _lines(text: figures.Text) -> list[tuple[float, str]]:
  """The lines of a text, each with the y of its baseline."""
  lines = text.words.split("\n")
  first = text.y
  if text.valign == "top":
    first += _ASCENT * text.size
  elif text.valign == "center":
    height = ((len(lines) - 1) * _LINE + _ASCENT + _DESCENT) * text.size
    first += _ASCENT * text.size - height / 2
  return [(first + i * _LINE * text.size, x) for i, x in enumerate(lines)]


@functools.lru_cache(maxsize=32)
def _font(bold: bool, mono: bool, size: float) -> Any:
  """A font of matplotlib's, which is not imported for it."""
  from PIL import ImageFont

  spec = importlib.util.find_spec("matplotlib")
  if spec is None or spec.origin is None:
    raise ValueError(
      "Expected matplotlib, whose fonts figures are drawn in, found none. "
      "Install it: pip install matplotlib."
    )
  name = f"DejaVuSans{'Mono' * mono}{'-Bold' * bold}.ttf"
  path = pathlib.Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name
  return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _svg_of_text(text: figures.Text) -> list[str]:
  """An element for each line that has words."""
  family = (
    "'DejaVu Sans Mono', monospace"
    if text.mono
    else ("'DejaVu Sans', sans-serif")
  )
  style = f"font: {'bold ' * text.bold}{text.size:g}px {family}"
  return [
    f'<text x="{text.x:g}" y="{y:g}" xml:space="preserve" '
    f'text-anchor="{_ANCHORS[text.align]}" fill="{text.color}" '
    f'style="{style}; white-space: pre">{html.escape(line)}</text>'
    for y, line in _lines(text)
    if line.strip()
  ]


def _svg_of_mark(mark: figures.Mark) -> str:
  """The mark over its white border."""
  size, width, border = _CROSS if mark.cross else _RING
  x, y, r = mark.x, mark.y, size / 2
  shape = f'<circle cx="{x:g}" cy="{y:g}" r="{r:g}"'
  if mark.cross:
    strokes = f"M{x - r:g} {y - r:g}l{size:g} {size:g}m0 {-size:g}"
    shape = f'<path d="{strokes}l{-size:g} {size:g}"'
  return "".join(
    f'{shape} fill="none" stroke="{color}" stroke-width="{w:g}"/>'
    for color, w in (("#ffffff", border), (mark.color, width))
  )


def _draw_mark(image: Any, mark: figures.Mark) -> None:
  """Draws the mark over its white border."""
  from PIL import Image, ImageDraw

  size, width, border = _CROSS if mark.cross else _RING
  r = size / 2
  side = round(2 * (size + border))
  left, top = (round(v - side / 2) for v in (mark.x, mark.y))
  x, y = mark.x - left, mark.y - top
  for color, w in (("#ffffff", border), (mark.color, width)):
    mask = Image.new("L", (side * _FINER, side * _FINER))
    draw = ImageDraw.Draw(mask)
    if mark.cross:
      for sign in (1, -1):
        ends = (x - r, y - sign * r, x + r, y + sign * r)
        draw.line([v * _FINER for v in ends], 255, round(w * _FINER))
    else:
      outer = r + w / 2
      box = (x - outer, y - outer, x + outer, y + outer)
      draw.ellipse(
        [v * _FINER for v in box], outline=255, width=round(w * _FINER)
      )
    mask = mask.resize((side, side), Image.Resampling.BOX)
    image.paste(color, (left, top), mask)
