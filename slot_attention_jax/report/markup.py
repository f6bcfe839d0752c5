"""HTML that is escaped unless it is made here."""

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any


class Markup(str):
  """HTML as it is; every other string is text and is escaped."""

  __slots__ = ()


def join(*children: Any) -> Markup:
  """Joins markup and texts; None is left out, lists are joined in turn."""
  parts = []
  for child in children:
    if isinstance(child, Markup):
      parts.append(child)
    elif isinstance(child, Iterable) and not isinstance(child, str):
      parts.append(join(*child))
    elif child is not None:
      parts.append(html.escape(str(child)))
  return Markup("".join(parts))


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
  """Makes an element.

  Args:
    tag: its name.
    *children: markup, texts, lists of both, or None.
    **attributes: as `class_` or `aria_label`; True stands alone, None and False
      are left out.

  Returns:
    The element.

  Example:
    >>> from slot_attention_jax.report import markup
    >>> print(markup.element("p", "a < b", class_="note"))
    <p class="note">a &lt; b</p>
  """
  parts = [tag]
  for name, value in attributes.items():
    name = name.rstrip("_").replace("_", "-")
    if value is True:
      parts.append(name)
    elif value is not None and value is not False:
      parts.append(f'{name}="{html.escape(str(value))}"')
  return Markup(f"<{' '.join(parts)}>{join(*children)}</{tag}>")


def void(tag: str, **attributes: Any) -> Markup:
  """Makes an element without an end, as `input`."""
  return Markup(element(tag, **attributes).removesuffix(f"</{tag}>"))


def table(
  label: str,
  head: Sequence[Any],
  rows: Iterable[Sequence[Any]],
  *,
  numbers: bool = True,
) -> Markup:
  """Makes a table that scrolls by itself where it is too wide.

  Args:
    label: what it is, for those who do not see it.
    head: titles of the columns; the first is of the rows' titles.
    rows: cells; a cell is text, markup, or a whole `td` or `th`.
    numbers: whether all columns but the first hold numbers.

  Returns:
    The table in its scrolling region.
  """
  titles = [element("th", title, scope="col") for title in head]
  lines = []
  for first, *others in rows:
    cells = [element("th", first, scope="row")]
    cells += [c if _is_cell(c) else element("td", c) for c in others]
    lines.append(element("tr", *cells))
  content = element(
    "table",
    element("thead", element("tr", *titles)),
    element("tbody", *lines),
    class_="numbers" if numbers else None,
  )
  return element(
    "div", content, class_="scroll", role="region", aria_label=label, tabindex=0
  )


def _is_cell(value: Any) -> bool:
  return isinstance(value, Markup) and value.startswith(("<td", "<th"))


def embedded_json(content: Any, id_: str) -> Markup:
  """JSON within a page, which no text in it can end."""
  text = json.dumps(content, allow_nan=False, separators=(",", ":"))
  text = text.replace("<", "\\u003c")
  return Markup(f'<script type="application/json" id="{id_}">{text}</script>')
