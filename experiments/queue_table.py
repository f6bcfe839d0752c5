"""The table of `experiments/gpu_queue.md`: rows, and how each one stands."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable

COLUMNS = ("id", "what", "command", "minutes", "state", "status", "result")
_STATUS = re.compile(
  r"(?P<kind>open|done|failed|at step (?P<step>\d+) of (?P<total>\d+))"
  r"(, (?P<minutes>\d+(\.\d+)?) min)?(: (?P<reason>.+))?"
)


@dataclasses.dataclass(frozen=True)
class Status:
  """How a row stands.

  Attributes:
    kind: `"open"` (not begun), `"at step"`, `"done"` or `"failed"`.
    minutes: wall time that its pieces have taken so far.
    step: updates done of a training that is `"at step"`.
    total: updates it is to do.
    reason: why it failed.

  Example:
    >>> from experiments import queue_table
    >>> status = queue_table.Status.parse("at step 3000 of 500000, 8.5 min")
    >>> status.step, status.minutes
    (3000, 8.5)
    >>> str(status)
    'at step 3000 of 500000, 8.5 min'
  """

  kind: str = "open"
  minutes: float = 0.0
  step: int = 0
  total: int = 0
  reason: str = ""

  @classmethod
  def parse(cls, text: str) -> "Status":
    """Reads what `str` writes; ValueError if it is nothing of the kind."""
    found = _STATUS.fullmatch(text)
    if found is None:
      raise ValueError(
        "Expected a status 'open', 'at step X of Y, Z min', 'done, Z min' or "
        f"'failed, Z min: reason', got {text!r}. Correct it in the table."
      )
    kind = found["kind"]
    return cls(
      kind="at step" if found["step"] else kind,
      minutes=float(found["minutes"] or 0),
      step=int(found["step"] or 0),
      total=int(found["total"] or 0),
      reason=found["reason"] or "",
    )

  def __str__(self) -> str:
    text = self.kind
    if self.kind == "at step":
      text += f" {self.step} of {self.total}"
    if self.kind != "open":
      text += f", {self.minutes:.1f} min"
    return text + (f": {self.reason}" if self.reason else "")


@dataclasses.dataclass(frozen=True)
class Row:
  """A run.

  Attributes:
    id: names it, and its files.
    what: what it is, for people.
    command: what to run, from the repository's root; several are joined by
      `&&`.
    minutes: expected on one GPU.
    state: name of the file that is kept of it: `ID.tar` of a training, which
      goes on from it, `ID.txt` of anything else, its output.
    status: how it stands.
    result: what came out.
  """

  id: str
  what: str
  command: str
  minutes: float
  state: str
  status: Status
  result: str

  def __post_init__(self):
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", self.id):
      raise ValueError(
        "Expected an id of lower-case letters, digits and _.-, as it names "
        f"files, got {self.id!r}."
      )
    if self.state not in (f"{self.id}.tar", f"{self.id}.txt"):
      raise ValueError(
        f"Expected the state {self.id}.tar of a training or {self.id}.txt of "
        f"anything else, got {self.state!r}."
      )
    if self.training and "--workdir=" not in self.command:
      raise ValueError(
        f"Expected a --workdir= in the command of the training {self.id}, got "
        f"{self.command!r}."
      )

  @property
  def training(self) -> bool:
    """Whether it can be cut into pieces."""
    return self.state.endswith(".tar")


def _cells(line: str) -> list[str]:
  return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _line(row: Row) -> str:
  minutes = f"{row.minutes:g}"
  cells = (
    row.id,
    row.what,
    f"`{row.command}`",
    minutes,
    f"`{row.state}`",
    str(row.status),
    row.result,
  )
  # Neither a bar nor the end of a line may stand in a cell.
  plain = (" ".join(cell.replace("|", "/").split()) for cell in cells)
  return f"| {' | '.join(plain)} |"


def _row(line: str) -> Row:
  cells = _cells(line)
  if len(cells) != len(COLUMNS):
    raise ValueError(
      f"Expected {len(COLUMNS)} cells, {', '.join(COLUMNS)}, got "
      f"{len(cells)} in {line!r}."
    )
  name, what, command, minutes, state, status, result = cells
  try:
    expected = float(minutes)
  except ValueError as error:
    raise ValueError(
      f"Expected a number of minutes in the row {name}, got {minutes!r}."
    ) from error
  return Row(
    name,
    what,
    command.strip("`"),
    expected,
    state.strip("`"),
    Status.parse(status),
    result,
  )


def _numbered_rows(lines: Iterable[str]) -> dict[int, Row]:
  """Rows by the number of their line."""
  rows, begun = {}, False
  for number, line in enumerate(lines):
    if not line.startswith("|"):
      begun = False
    elif _cells(line) == list(COLUMNS):
      begun = True
    elif begun and not re.fullmatch(r"[|\-: ]+", line):
      rows[number] = _row(line)
  return rows


def read(path: pathlib.Path) -> list[Row]:
  """Rows of a queue, in its order.

  Args:
    path: a Markdown file with a table of `COLUMNS`; what is around the table
      does not matter.

  Returns:
    The rows.

  Raises:
    ValueError: if there is no such table or a row is not as it should be.
  """
  text = path.read_text(encoding="utf-8")
  rows = list(_numbered_rows(text.splitlines()).values())
  if not rows:
    raise ValueError(
      f"Expected a table with the columns {' | '.join(COLUMNS)} in {path}, "
      "found no row of one."
    )
  ids = [row.id for row in rows]
  if twice := sorted({name for name in ids if ids.count(name) > 1}):
    raise ValueError(f"Expected each id once in {path}, got twice {twice}.")
  return rows


def update(path: pathlib.Path, row: Row) -> None:
  """Rewrites the line of one row, whole or not at all; the rest stays."""
  lines = path.read_text(encoding="utf-8").splitlines()
  for number, old in _numbered_rows(lines).items():
    if old.id == row.id:
      lines[number] = _line(row)
  temporary = path.with_name(f".{path.name}.tmp")
  temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
  os.replace(temporary, path)


def choose(rows: Iterable[Row], minutes: float) -> Row | None:
  """The first row that is not done and fits.

  Args:
    rows: of the queue.
    minutes: how long the next piece may take.

  Returns:
    The row, or None. A training always fits, it is cut; anything else if its
    expected minutes do. One that failed waits for somebody to look at it.
  """
  for row in rows:
    waits = row.status.kind in ("open", "at step")
    if waits and (row.training or row.minutes <= minutes):
      return row
  return None
