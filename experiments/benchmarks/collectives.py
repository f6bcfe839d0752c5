"""Counts the collectives in a compiled program, from its HLO text."""

import math
import re

_COMPUTATION = re.compile(r"^(?:ENTRY )?%(?P<name>\S+) \(.*\{$")
_CALLED = re.compile(r"\b(?:body|calls|to_apply)=%(?P<name>[\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(?P<trips>\d+)"\}')
_COLLECTIVE = re.compile(
  r"= (?P<shape>\(.*?\)|\S+) (?P<name>all-reduce|all-gather|all-to-all|"
  r"reduce-scatter|collective-permute|collective-broadcast)(?:-start)?\("
)
_ARRAY = re.compile(r"\b(?P<dtype>[a-z]+)(?P<bits>\d*)\[(?P<sizes>[\d,]*)\]")


def count_collectives(hlo: str) -> dict[str, dict[str, int]]:
  """Counts the collectives that a compiled program runs.

  Args:
    hlo: text of the program, from `compiled.as_text()`.

  Returns:
    By name, such as `"all-reduce"`: `count`, where one in a loop counts once
    per iteration, and `bytes` of their results on one device.

  Raises:
    ValueError: if a collective is in a loop of unknown length.
  """
  lines: dict[str, list[str]] = {}
  entry = name = ""
  for line in hlo.splitlines():
    if match := _COMPUTATION.match(line):
      name = match["name"]
      entry = name if line.startswith("ENTRY") else entry
      lines[name] = []
    elif name:
      lines[name].append(line)
  found: dict[str, dict[str, int]] = {}

  def visit(computation: str, times: float) -> None:
    for line in lines[computation]:
      if match := _COLLECTIVE.search(line):
        if math.isnan(times):
          raise ValueError(f"Expected loops of known length around {line}")
        kind = found.setdefault(match["name"], {"count": 0, "bytes": 0})
        kind["count"] += int(times)
        kind["bytes"] += int(times) * _num_bytes(match["shape"])
      for called in _CALLED.finditer(line):
        trip_count = 1.0
        if " while(" in line:
          trips = _TRIPS.search(line)
          trip_count = float(trips["trips"]) if trips else math.nan
        visit(called["name"], times * trip_count)

  visit(entry, 1.0)
  return found


def _num_bytes(shape: str) -> int:
  """Bytes of the arrays in a shape, in HLO syntax."""
  total = 0
  for array in _ARRAY.finditer(shape):
    sizes = [int(size) for size in array["sizes"].split(",") if size]
    # A pred takes a byte.
    total += math.prod(sizes) * max(1, int(array["bits"] or 8) // 8)
  return total
