"""What follows the colon of `--config=NAME:ARGUMENTS`: variants of a config."""

import ast
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_collections

from slot_attention_jax.config import aliases

Variant = Callable[[ml_collections.ConfigDict], None]
"""Changes a config in place; its name is what follows the colon."""

_AS_IT_IS = "paper"
_OLD_NAMES = {"masks": "with_masks"}


def apply_arguments(
  config: ml_collections.ConfigDict, arg: str, *variants: Variant
) -> ml_collections.ConfigDict:
  """Applies variants to a config, in the order in which they are named.

  Args:
    config: what the config file sets, changed in place.
    arg: names of variants, separated by commas: those given, `debug` and
      `paper` (the config as it is). `key=value` is accepted too, as in
      `"fast,model.num_slots=5,data.resolution=(64, 64)"`; on the command line,
      prefer `--config.key=value`.
    *variants: functions of the config file, by their names.

  Returns:
    The config, locked.

  Raises:
    ValueError: on an unknown variant or key, or a value of another type.

  Example:
    >>> from slot_attention_jax.config import base
    >>> def wide(config):
    ...   config.model.slot_size = 128
    >>> config = apply_arguments(base.base_config(), "wide,debug", wide)
    >>> config.model.slot_size, config.train.num_steps
    (128, 2)
  """
  known = {variant.__name__: variant for variant in (*variants, debug)}
  config.lock()
  items = split(arg)
  keys = [item.split("=", 1)[0].strip() for item in items if "=" in item]
  aliases.check_keys(key for key in keys if key not in dict(flatten(config)))
  for item in items:
    name = _OLD_NAMES.get(item, item)
    if name in known:
      known[name](config)
    elif "=" in item:
      key, value = item.split("=", 1)
      _override(config, key.strip(), value.strip())
    elif name != _AS_IT_IS:
      raise ValueError(
        f"Expected a variant out of {[*known]}, got {item!r}."
        f"{suggest(item, [*known])}"
      )
  return config


def check_order(first: str, then: str, fits: bool) -> None:
  """Checks that a variant follows the one that it changes.

  Args:
    first: name of the variant that must come first.
    then: name of the variant that changes it.
    fits: whether the config is as the first one leaves it.

  Raises:
    ValueError: if it is not.

  Example:
    >>> check_order("small", "enlarged", fits=True)
  """
  if not fits:
    raise ValueError(
      f"Expected the variant {then!r} after {first!r}, got it without, or in "
      f"another order. Use --config=NAME:{first},{then}."
    )


def debug(config: ml_collections.ConfigDict) -> None:
  """Shrinks any config to two steps: the same path, in under a minute."""
  now = dict(flatten(config))
  changes = {
    "data.scenes.num_eval": 6,
    "data.scenes.num_train": min(8, now["data.scenes.num_train"]),
    "data.tfds.num_train_eval": 2,
    "optim.warmup_steps": 2,
    "train.batch_size": 4,
    "train.num_steps": 2,
    "train.quick_compilation": True,
    "eval.batch_size": 4,
    "eval.every_steps": 2,
    "checkpoint.every_steps": 1,
    "logging.every_steps": 1,
    "logging.num_images": 2,
  }
  config.update_from_flattened_dict(changes)


def suggest(name: str, known: list[str]) -> str:
  """Returns " Did you mean 'X'?" for the nearest known name, or nothing."""
  # A key may be right but for its group, as `num_slots`; the first has it.
  by_leaf = {key.rpartition(".")[2]: key for key in reversed(known)}
  near = difflib.get_close_matches(name, [*known, *by_leaf], n=1)
  if not near:
    return ""
  return f" Did you mean {by_leaf.get(near[0], near[0])!r}?"


def flatten(
  config: ml_collections.ConfigDict | Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
  """Yields each (dotted key, value), in the order of declaration."""
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict | Mapping):
      yield from flatten(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def to_text(config: ml_collections.ConfigDict) -> str:
  """Writes a config as Python, a line per key, in the order of declaration.

  Args:
    config: any config.

  Returns:
    Lines as a config file has them, which set all keys.

  Example:
    >>> from slot_attention_jax.config import base
    >>> print(to_text(base.base_config()).splitlines()[0])
    config.task = 'discovery'
  """
  lines = []
  for key, value in flatten(config):
    text = repr(value)
    if not isinstance(value, str):
      text = re.sub(r"\b(inf|nan)\b", r"float('\1')", text)
    lines.append(f"config.{key} = {text}")
  return "\n".join(lines)


def read_literal(text: str) -> Any:
  """Reads a Python literal; unlike `ast.literal_eval`, infinity is one.

  Args:
    text: as people type it or `to_text` writes it.

  Returns:
    The value.

  Raises:
    ValueError: if it is no literal.
    SyntaxError: if it is no Python.

  Example:
    >>> read_literal("(inf, 1.0)"), read_literal("(float('inf'),)")
    ((inf, 1.0), (inf,))
  """
  text = re.sub(r"\bfloat\((['\"])inf\1\)", "inf", text)
  return ast.literal_eval(re.sub(r"\binf\b", "1e999", text.strip()))


def split(arg: str) -> list[str]:
  """Splits at commas that are not inside brackets; ValueError if these miss."""
  items, depth, start = [], 0, 0
  for i, char in enumerate(arg + ","):
    depth += (char in "([") - (char in ")]")
    if char == "," and not depth:
      items.append(arg[start:i].strip())
      start = i + 1
  if depth:
    raise ValueError(f"Expected matching brackets, got {arg!r}.")
  return [item for item in items if item]


def _override(config: ml_collections.ConfigDict, key: str, text: str) -> None:
  """Sets a key, to a value read from text."""
  values = dict(flatten(config))
  if key not in values:
    raise ValueError(
      f"Expected a key of the config, got {key!r}.{suggest(key, [*values])}"
    )
  config.update_from_flattened_dict({key: _read(key, text, values[key])})


def _read(key: str, text: str, old: Any) -> Any:
  """Reads a value of the same type as the one that it replaces."""
  if isinstance(old, str):
    return text
  try:
    value = read_literal(text)
  except (SyntaxError, ValueError):
    value = None
  if isinstance(old, float) and type(value) is int:
    value = float(value)
  if type(value) is not type(old):
    raise ValueError(
      f"Expected {key} of type {type(old).__name__}, got {text!r}."
    )
  return value
