"""What a run left in its directory, whole or not."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from typing import Any

from slot_attention_jax.config import aliases
from slot_attention_jax.runtime import files, storage
from slot_attention_jax.training import goodput, writers

_CONFIG, _METADATA = "config.json", "metadata.json"
_EVALUATION = "evaluation.json"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Run:
  """What is known of a run.

  Attributes:
    path: its directory.
    name: a short name, unlike those of the runs beside it.
    config: the resolved config, nested, with the keys' current names.
    metadata: of `metadata.json`.
    rows: of `metrics.jsonl`.
    evaluation: of `evaluation.json`; empty: not evaluated on its own.
    goodput: seconds by phase, over all processes that trained it.
    notes: what is missing or damaged, sentences.
  """

  path: storage.Path
  name: str
  config: dict[str, Any]
  metadata: dict[str, Any]
  rows: list[dict[str, Any]]
  evaluation: dict[str, Any]
  goodput: dict[str, float]
  notes: tuple[str, ...]

  @property
  def step(self) -> int:
    """Steps done when the last row was written."""
    return max((int(row["step"]) for row in self.rows), default=0)

  @property
  def total(self) -> int | None:
    """Steps that the config asks for; None: not known."""
    total = mapping(self.config.get("train")).get("num_steps")
    return total if isinstance(total, int) else None

  @property
  def data(self) -> str:
    """Name of the training data."""
    return str(self.metadata.get("data", ""))

  def points(self) -> dict[str, list[tuple[int, float | None, float]]]:
    """(step, minutes, value) of each metric, by its full name."""
    found: dict[str, list[tuple[int, float | None, float]]] = {}
    for row in self.rows:
      seconds = row.get("seconds")
      minutes = None if seconds is None else seconds / 60
      for name, value in row.items():
        if "/" in name and (x := number(value)) is not None:
          found.setdefault(name, []).append((row["step"], minutes, x))
    return found


def read_all(paths: Sequence[str | os.PathLike[str]]) -> list[Run]:
  """Reads runs.

  Args:
    paths: their directories, at least one, each once.

  Returns:
    The runs.

  Raises:
    FileNotFoundError: if there is no run in one of them.
    ValueError: if there are none, or one twice.
  """
  if not paths:
    raise ValueError("Expected at least one run, got none. Name its directory.")
  absolute = [storage.open_path(p, "the path") for p in paths]
  real = [_resolve(path) for path in absolute]
  for path in absolute:
    _check(path)
    if real.count(_resolve(path)) > 1:
      raise ValueError(
        f"Expected each run once, got {path} more than once. Leave it out."
      )
  names = short_names([path.parts for path in real])
  return [read(p, n) for p, n in zip(absolute, names, strict=True)]


def _resolve(path: storage.Path) -> storage.Path:
  # A bucket has no links.
  return path if storage.is_remote(path) else path.resolve()


def short_names(paths: Sequence[Sequence[str]]) -> list[str]:
  """The last parts of paths, as many as it takes to tell them apart.

  Args:
    paths: the parts of each path; no two are equal.

  Returns:
    A name for each.

  Example:
    >>> from slot_attention_jax.report import runs
    >>> runs.short_names([("a", "run"), ("b", "run"), ("b", "other")])
    ['a/run', 'b/run', 'other']
  """
  names = []
  for parts in paths:
    count = 1
    while sum(
      list(p[-count:]) == list(parts[-count:]) for p in paths
    ) > 1 and count < len(parts):
      count += 1
    names.append("/".join(parts[-count:]))
  return names


def read(path: storage.Path, name: str) -> Run:
  """Reads a run whose directory was checked; damage becomes a note."""
  notes: list[str] = []
  return Run(
    path=path,
    name=name,
    config=_updated(_read_json(path / _CONFIG, notes), notes),
    metadata=_read_json(path / _METADATA, notes),
    rows=_read_rows(path / writers.METRICS_FILE, notes),
    evaluation=_read_json(path / _EVALUATION, notes, needed=False),
    goodput=goodput.read(path),
    notes=tuple(notes),
  )


def mapping(value: Any) -> dict[str, Any]:
  """A value if it is a mapping, else an empty one: files may hold anything."""
  return value if isinstance(value, dict) else {}


def _check(path: storage.Path) -> None:
  """Raises FileNotFoundError unless a directory holds a training."""
  if not path.is_dir():
    raise FileNotFoundError(
      f"Expected the directory of a run, found no directory {path}. Check the "
      "path."
    )
  names = (_CONFIG, writers.METRICS_FILE)
  if not any((path / name).is_file() for name in names):
    inside = sorted(
      p.parent.name for name in names for p in path.glob(f"*/{name}")
    )
    remedy = f" Runs in it: {sorted(set(inside))[:5]}." if inside else ""
    raise FileNotFoundError(
      f"Expected a run in {path}, found no {' or '.join(names)}. Name the "
      f"--workdir of a training.{remedy}"
    )


def _read_json(
  path: storage.Path, notes: list[str], needed: bool = True
) -> dict[str, Any]:
  if not path.exists():
    if needed:
      notes.append(f"There is no {path.name}.")
    return {}
  try:
    return files.read_json(path, "What it says is left out.")
  except ValueError as error:
    notes.append(str(error))
    return {}


def _updated(config: dict[str, Any], notes: list[str]) -> dict[str, Any]:
  """A config with the keys' current names, as far as it has any."""
  try:
    return aliases.update_saved(config)
  except (AttributeError, TypeError):
    notes.append("config.json is not nested as a config is.")
    return config


def _read_rows(path: storage.Path, notes: list[str]) -> list[dict[str, Any]]:
  if not path.exists():
    notes.append(f"There is no {path.name}: no metrics yet.")
    return []
  text = storage.read_text(path)
  rows = writers.complete_rows(path)
  lost = sum(bool(line.strip()) for line in text.splitlines()) - len(rows)
  if lost:
    notes.append(
      f"{lost} line{'s' if lost > 1 else ''} of {path.name} left out: damaged, "
      "or being written when the run was killed."
    )
  elif not rows:
    notes.append(f"{path.name} is empty: no metrics yet.")
  return rows


def number(value: Any) -> float | None:
  """A metric, which is text if it is not finite; None: no number."""
  if isinstance(value, bool) or not isinstance(value, int | float | str):
    return None
  try:
    return float(value)
  except (ValueError, OverflowError):
    return None


def finite(value: float | None, digits: int = 6) -> float | None:
  """A number for JSON, rounded; None if it is not finite."""
  if value is None or not math.isfinite(value):
    return None
  return float(f"{value:.{digits}g}")


def as_text(value: Any) -> str:
  """A value of a config or of metadata, in a line."""
  return value if isinstance(value, str) else json.dumps(value)
