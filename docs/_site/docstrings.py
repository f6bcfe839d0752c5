"""Makes Markdown of the docstrings: formulas, links and examples."""

import re

import griffe
from latex2mathml import converter

_BLOCK = re.compile(r"^( *)\.\. math::(.*(?:\n(?:\1 +.*| *(?=\n)))*)", re.M)
_INLINE = re.compile(r":math:`([^`]+)`")
_LINK = re.compile(r"`([^`<]+?)\s*<(https?://[^>]+)>`_")
_EXAMPLE = re.compile(r"^( *)(Example|References):$", re.M)
_TITLES = {"Example": "Examples:", "References": "References:\n"}


def _block(match: re.Match[str]) -> str:
  formula = " ".join(match[2].split())
  if "&" in formula:
    formula = rf"\begin{{aligned}} {formula} \end{{aligned}}"
  return match[1] + converter.convert(formula, display="block")


def to_markdown(docstring: str) -> str:
  """A docstring in reStructuredText's roles, as Markdown with MathML."""
  text = _BLOCK.sub(_block, docstring)
  text = _INLINE.sub(lambda m: converter.convert(" ".join(m[1].split())), text)
  text = _LINK.sub(lambda m: f"[{' '.join(m[1].split())}]({m[2]})", text)
  return _EXAMPLE.sub(lambda m: m[1] + _TITLES[m[2]], text)


class Docstrings(griffe.Extension):
  """Applies `to_markdown` to every docstring."""

  def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
    """Rewrites the docstring of an object that was loaded."""
    if obj.docstring:
      obj.docstring.value = to_markdown(obj.docstring.value)
