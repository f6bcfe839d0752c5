"""Reads the estimates of XLA:TPU from an optimized program.

The cycles are the compiler's estimates, not measurements.
"""

import collections
import math
import re

_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
  "collective-broadcast",
)
_BYTES = {"pred": 1, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}


class Program:
  """An optimized program as text, taken apart.

  Attributes:
    computations: lines of each computation, by name.
    entry: name of the entry computation.
  """

  def __init__(self, text: str):
    """Takes apart what `compiled.as_text()` returns."""
    self.computations: dict[str, list[str]] = {}
    self.entry = ""
    lines: list[str] = []
    for line in text.splitlines():
      head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
      if head:
        lines = self.computations.setdefault(head[2], [])
        self.entry = head[2] if head[1] else self.entry
      elif " = " in line:
        lines.append(line)

  def walk(self, name: str | None = None, trips: int = 1, looped: bool = False):
    """Yields (line, times it runs, whether in a loop), fusions as one line.

    Loops of unknown trip count yield their lines as run once.
    """
    for line in self.computations[name or self.entry]:
      yield line, trips, looped
      op = opcode(line)
      if op == "while":
        times = trips * (self.trip_count(line) or 1)
        for key in ("body", "condition"):
          yield from self.walk(called(line, key)[0], times, True)
      elif op in ("call", "async-start"):
        for key in ("to_apply", "calls"):
          for callee in called(line, key):
            yield from self.walk(callee, trips, looped)
      elif op == "conditional":
        branches = called(line, "branch_computations") or [
          *called(line, "true_computation"),
          *called(line, "false_computation"),
        ]
        listed = [list(self.walk(b, trips, looped)) for b in branches]
        yield from max(
          listed, key=lambda b: sum(cycles(x) * n for x, n, _ in b)
        )

  def trip_count(self, line: str) -> int | None:
    """Trip count of a loop, None if it is not known.

    XLA:TPU does not write it down. A loop that runs as long as a counter is
    less than a constant is taken to count from 0 by 1, as JAX's scan does.
    """
    match = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
    if match:
      return int(match[1])
    condition = self.computations[called(line, "condition")[0]]
    values = dict(
      x.strip().removeprefix("ROOT ").split(" = ", 1) for x in condition
    )
    root = next(x for x in condition if x.strip().startswith("ROOT "))
    match = re.search(
      r"compare\((%[\w.\-]+), (%[\w.\-]+)\), direction=LT", root
    )
    if not match or "get-tuple-element(" not in values.get(match[1], ""):
      return None
    limit = re.search(r"constant\((\d+)\)", values.get(match[2], ""))
    return int(limit[1]) if limit else None

  def kind(self, line: str) -> str:
    """What an instruction's estimate is for."""
    op = opcode(line)
    if op == "fusion":
      inner = self.computations[called(line, "calls")[0]]
      if any(self.kind(x) == "convolution" for x in inner):
        return "convolution"
    if op in ("convolution", "dot"):
      return "convolution"
    return "custom_call" if op == "custom-call" else "other"


def opcode(line: str) -> str:
  """Name of an instruction's operation."""
  # After the result's shape, whose layout holds brackets too: `{0:T(8,128)}`.
  rest = re.sub(r"\{[^{}]*\}", "", line.split(" = ", 1)[1])
  match = re.search(r"(?:^|[\s)])([a-z][\w\-]*)\(", rest)
  return match[1] if match else ""


def called(line: str, key: str) -> list[str]:
  """Computations that an instruction names under a key."""
  match = re.search(rf"\b{key}=(\{{[^}}]*\}}|%?[\w.\-]+)", line)
  return re.findall(r"[\w.\-]+", match[1]) if match else []


def cycles(line: str) -> int:
  """Estimated cycles of an instruction, 0 without an estimate."""
  match = re.search(r'"estimated_cycles":"(\d+)"', line)
  return int(match[1]) if match else 0


def result_bytes(line: str) -> int:
  """Bytes of an instruction's result, without padding."""
  shapes = line.split(" = ", 1)[1].split(f" {opcode(line)}(", 1)[0]
  total = 0
  for dtype, sizes in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shapes):
    count = math.prod(int(n) for n in sizes.split(",") if n)
    total += count * _BYTES.get(dtype, 4)
  return total


def measure(text: str) -> dict:
  """The entries of a line that come from the program's text."""
  program = Program(text)
  kinds: collections.Counter[str] = collections.Counter()
  collectives: dict[str, dict] = {}
  unknown = 0
  for line, times, looped in program.walk():
    kinds[program.kind(line)] += times * cycles(line)
    op = opcode(line).removesuffix("-start")
    unknown += op == "while" and program.trip_count(line) is None
    if op in _COLLECTIVES:
      entry = collectives.setdefault(
        op, {"count": 0, "in_loops": 0, "bytes": 0}
      )
      entry["count"] += 1
      entry["in_loops"] += looped
      entry["bytes"] += times * result_bytes(line)
  return {
    "estimated_cycles": sum(kinds.values()),
    "cycles_by_kind": dict(sorted(kinds.items())),
    "unknown_trips": unknown,
    "collectives": collectives,
  }
