"""A picture of predicted objects: numbered marks, and a list below it."""

from typing import Any

import numpy as np

from slot_attention_jax.evaluation import palette
from slot_attention_jax.predict import pictures

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


def draw(
  image: np.ndarray, objects: list[dict[str, Any]], *, most: int = 40
) -> np.ndarray:
  """Draws predicted objects at their positions, and a list of them below.

  The list is in the order of `objects`. Marks at the same place overlap.

  Args:
    image: [H, W, 3] uint8.
    objects: as of `tables.rows`, with `slot`, `pixel_x` and `pixel_y` in pixels
      of the image.
    most: characters of a line of the list.

  Returns:
    [H' + L, W', 3] uint8: the image, enlarged if it is small, with a ring and
    the slot's number for each object, and L rows of pixels with the list; wider
    than the image if a line of the list is.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.predict import object_marks
    >>> cube = {"slot": 3, "pixel_x": 20, "pixel_y": 12, "shape": "cube"}
    >>> image = np.zeros((64, 64, 3), np.uint8)
    >>> object_marks.draw(image, [cube]).shape
    (422, 384, 3)
  """
  from PIL import Image, ImageDraw, ImageFont

  factor = pictures.enlargement(image)
  picture = pictures.enlarge(image, factor)
  height, width = picture.shape[:2]
  unit = min(max(height, width) / 40, min(height, width) / 16)
  radius = max(10, round(unit))
  font = ImageFont.load_default(size=max(11, round(1.1 * unit)))
  lines = [_words(row)[:most] for row in objects]
  column = 4 * radius + max([0, *(font.getlength(line) for line in lines)])
  columns = max(1, int(width // column))
  rows = -(-len(objects) // columns)
  row_height = 2 * radius + 8
  below = rows * row_height + 10 * bool(rows)
  size = (max(width, round(column)) if objects else width, height + below)
  sheet = Image.new("RGB", size, _WHITE)
  marked = Image.fromarray(picture)

  def mark(pen: Any, x: float, y: float, row: dict[str, Any]) -> None:
    color = tuple(int(c) for c in palette.slot_colors(row["slot"] - 1))
    for r, fill in ((radius + 2, _BLACK), (radius, color)):
      box = (x - r, y - r, x + r, y + r)
      pen.ellipse(box, outline=fill, width=max(3, round(unit / 4)))
    pen.text(
      (x, y),
      str(row["slot"]),
      fill=_WHITE,
      font=font,
      anchor="mm",
      stroke_width=max(1, round(unit / 8)),
      stroke_fill=_BLACK,
    )

  for i, (row, line) in enumerate(zip(objects, lines, strict=True)):
    pen = ImageDraw.Draw(marked)
    mark(pen, factor * row["pixel_x"], factor * row["pixel_y"], row)
    x = 4 + radius + width // columns * (i // rows)
    y = height + 5 + row_height * (i % rows) + row_height / 2
    pen = ImageDraw.Draw(sheet)
    mark(pen, x, y, row)
    pen.text((x + 1.6 * radius, y), line, fill=_BLACK, font=font, anchor="lm")
  sheet.paste(marked, (0, 0))
  return np.asarray(sheet)


def _words(row: dict[str, Any]) -> str:
  """The names of an object's classes."""
  return " ".join(v for v in row.values() if isinstance(v, str))
