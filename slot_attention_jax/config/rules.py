"""Rules for the values of a config: integers, numbers, names and tuples."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Rule:
  """What a key may be.

  Attributes:
    expected: in words, after "expected".
    accepts: whether a value is.
  """

  expected: str
  accepts: Callable[[Any], bool]


def integer(low: int, high: int) -> Rule:
  """An integer from `low` to `high`."""

  def accepts(value):
    integer = isinstance(value, int) and not isinstance(value, bool)
    return integer and low <= value <= high

  return Rule(f"an integer from {low:,} to {high:,}", accepts)


def number(
  low: float, high: float, *, above: bool = False, below: bool = False
) -> Rule:
  """A number from `low` to `high`; `above` and `below` exclude these."""

  def accepts(value):
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not low <= value <= high:  # NaN is not in any range.
      return False
    return not (above and value == low) and not (below and value == high)

  first = f"above {low:g}" if above else f"of at least {low:g}"
  last = "" if high == math.inf else f"{'below' if below else 'up to'} {high:g}"
  return Rule(" and ".join(filter(None, [f"a number {first}", last])), accepts)


def one_of(*names: str) -> Rule:
  """One of some names."""
  return Rule(
    f"one of {names}", lambda value: isinstance(value, str) and value in names
  )


def each(rule: Rule, length: int | None = None, fewest: int = 1) -> Rule:
  """A tuple of values that a rule accepts."""

  def accepts(value):
    return (
      isinstance(value, tuple | list)
      and len(value) >= fewest
      and length in (None, len(value))
      and all(map(rule.accepts, value))
    )

  count = "a pair" if length == 2 else "a tuple"
  if length is None and fewest:
    count = f"a tuple of at least {fewest}"
  return Rule(f"{count}, each {rule.expected}", accepts)


def in_order(rule: Rule) -> Rule:
  """A pair that the rule accepts, (0, 0) or from at least 1 to at most."""
  return Rule(
    f"(0, 0) or (fewest, most) with 1 <= fewest <= most, {rule.expected}",
    lambda value: (
      rule.accepts(value)
      and (tuple(value) == (0, 0) or 1 <= value[0] <= value[1])
    ),
  )


def begin_and_end() -> Rule:
  """The steps between which something rises or falls."""
  steps = each(integer(0, 10**9), 2)
  return Rule(
    f"(0, 0) or (begin, end) with begin < end, {steps.expected}",
    lambda value: (
      steps.accepts(value) and (tuple(value) == (0, 0) or value[0] < value[1])
    ),
  )


def different(rule: Rule) -> Rule:
  """A tuple, which may be empty, of different values that a rule accepts."""
  values = each(rule, fewest=0)
  return Rule(
    f"{values.expected}, none twice",
    lambda value: values.accepts(value) and len(set(value)) == len(value),
  )


def thresholds() -> Rule:
  """Distances of average precision."""

  def accepts(value):
    numbers_alone = isinstance(value, tuple | list) and all(
      isinstance(t, int | float) and (t >= 0 or t == -1) for t in value
    )
    # They are told apart in names of metrics, as ap_0.5.
    return numbers_alone and 0 < len({f"{t:g}" for t in value}) == len(value)

  return Rule(
    "at least one distance, each different and at least 0, as (inf, 1.0), or "
    "-1 for none",
    accepts,
  )
