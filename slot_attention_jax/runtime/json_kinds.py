"""Whether the values of a JSON object are of the kinds that are expected."""

from collections.abc import Mapping
from typing import Any

Kinds = Mapping[str, Any]
"""What values are, by key: a type or a tuple of types; of an object a mapping
of this kind; a list of one of these, for a list of such values."""

_WORDS = {
  dict: "an object",
  list: "a list",
  str: "text",
  bool: "true or false",
  int: "an integer",
  float: "a number",
  type(None): "null",
}
_LONGEST = 60


def problem(
  content: Mapping[str, Any], kinds: Kinds, *, all_needed: bool = False
) -> str:
  """What is wrong with the values of a JSON object.

  Args:
    content: the object.
    kinds: of the values; keys besides may be of any kind.
    all_needed: whether all of these keys must be there.

  Returns:
    What was expected and found, to follow "Expected it to have"; "" if nothing
    is wrong.

  Example:
    >>> from slot_attention_jax.runtime import json_kinds
    >>> json_kinds.problem({"data": {"name": 3}}, {"data": {"name": str}})
    "text as 'data.name', got 3"
  """
  return _of_object(content, kinds, all_needed, "")


def _of_object(content, kinds, all_needed, group) -> str:
  missing = [f"{group}{key}" for key in kinds if key not in content]
  if all_needed and missing:
    names = [f"{group}{key}" for key in kinds]
    return f"the keys {names}, it lacks {missing}"
  found = (
    _of_value(content[key], kind, all_needed, f"{group}{key}")
    for key, kind in kinds.items()
    if key in content
  )
  return next(filter(None, found), "")


def _of_value(value, kind, all_needed, name) -> str:
  if isinstance(kind, Mapping):
    return _of_type(value, (dict,), name) or _of_object(
      value, kind, all_needed, f"{name}."
    )
  if isinstance(kind, list):
    found = (
      _of_value(item, kind[0], all_needed, f"{name}[{i}]")
      for i, item in enumerate(value if isinstance(value, list) else ())
    )
    return _of_type(value, (list,), name) or next(filter(None, found), "")
  return _of_type(value, kind if isinstance(kind, tuple) else (kind,), name)


def _of_type(value, types, name) -> str:
  # In Python, True is an integer too.
  if any(t is object or type(value) is t for t in types):
    return ""
  words = " or ".join(_WORDS[t] for t in types)
  text = repr(value)
  text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
  return f"{words} as {name!r}, got {text}"
