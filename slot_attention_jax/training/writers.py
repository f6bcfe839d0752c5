"""What takes metrics: a JSON lines file and the log; `loggers` has the others.

`metrics.jsonl` is the record of a run: a run that was killed and resumed leaves
the same rows as one that was not.
"""

import contextlib
import datetime
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from absl import logging

from slot_attention_jax.runtime import appended, files, storage

METRICS_FILE = "metrics.jsonl"
# Of every row; the last two differ from one machine to another.
_COLUMNS = ("step", "time", "seconds")


class MetricWriter(Protocol):
  """Takes what is measured at a `step`.

  The methods here do nothing: a writer overrides those of the kinds that it
  has a place for.
  """

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes numbers by name; anything that `float` takes."""

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes images by name, each [H, W, 3] uint8."""

  def flush(self) -> None:
    """Returns when everything is written."""

  def close(self) -> None:
    """Flushes and closes files; nothing is written afterwards."""


class JsonlWriter(MetricWriter):
  r"""Appends scalars to a file, one JSON object a line.

  A row has the scalars, `"step"`, `"time"` (ISO 8601, UTC) and `"seconds"`, the
  wall time of training up to it, without the time between a stop and the
  resumption. Numbers that are not finite, which JSON lacks, are the strings
  "nan", "inf" and "-inf", which `float` reads. A row that was written is in the
  file even if the process is killed; in a bucket, once it is flushed.

  Args:
    path: the file, local or in a bucket; it and its directory are made if they
      do not exist.
    began: `time.monotonic()` when this process began the run; None: now.

  Example:
    >>> import pathlib, tempfile
    >>> from slot_attention_jax.training import writers
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> writer = writers.JsonlWriter(path)
    >>> writer.write_scalars(1, {"loss": 0.5})
    >>> writer.close()
    >>> path.read_text()  # doctest: +ELLIPSIS
    '{"step": 1, "time": "...", "seconds": ..., "loss": 0.5}\n'
  """

  def __init__(self, path: str | os.PathLike[str], began: float | None = None):
    self._path = storage.to_path(path)
    self._began = time.monotonic() if began is None else began
    self._seconds_before = 0.0
    self._file = appended.open_file(self._path)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Appends a row; ValueError if a scalar has the name of a column."""
    if not scalars.keys().isdisjoint(_COLUMNS):
      raise ValueError(
        f"Expected names other than {', '.join(_COLUMNS)}, which every row "
        f"has, got {sorted(scalars)}. Rename, for instance to train/time."
      )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    seconds = self._seconds_before + time.monotonic() - self._began
    values = (int(step), now, round(seconds, 3))
    row: dict[str, Any] = dict(zip(_COLUMNS, values, strict=True))
    for name, scalar in scalars.items():
      value = float(scalar)
      row[name] = value if math.isfinite(value) else str(value)
    self._file.write(f"{json.dumps(row, allow_nan=False)}\n".encode())

  def flush(self) -> None:
    """Raises FileNotFoundError if the file is no longer where it was."""
    self._file.flush()

  def truncate_after(self, step: int) -> None:
    """Drops what a killed run wrote after the checkpoint it resumes from.

    Args:
      step: of that checkpoint. Rows of later steps and incomplete lines are
        dropped; if the process is killed, the old file or the new one is left.
    """
    self._file.close()
    lines = storage.read_text(self._path).splitlines()
    rows = [(line, _row_of(line)) for line in lines]
    kept = [line for line, row in rows if row and row["step"] <= step]
    if kept:
      self._seconds_before = json.loads(kept[-1]).get("seconds", 0.0)
    # The last line may be one that was being written when a run was killed.
    if damaged := [n for n, (_, row) in enumerate(rows[:-1], 1) if row is None]:
      logging.warning(
        "Damaged lines of %s are dropped: %s.", self._path, damaged
      )
    if dropped := len(lines) - len(kept):
      logging.info("Dropped %d rows from %s.", dropped, self._path)
    with (
      files.atomic_write(self._path) as temporary,
      temporary.open("w", encoding="utf-8") as file,
    ):
      file.writelines(f"{row}\n" for row in kept)
      file.flush()
      os.fsync(file.fileno())
    self._file = appended.open_file(self._path)

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def seconds_after(path: storage.Path, step: int) -> float:
  """What a killed run spent on steps after the checkpoint that it left.

  Args:
    path: its `metrics.jsonl`, which need not exist.
    step: of that checkpoint.

  Returns:
    Seconds; 0 if nothing was lost.
  """
  before = after = 0.0
  for row in complete_rows(path):
    seconds = row.get("seconds", 0.0)
    before, after = seconds if row["step"] <= step else before, seconds
  return max(0.0, after - before)


def has_metrics(path: storage.Path, step: int, prefix: str) -> bool:
  """Whether metrics whose names begin with `prefix` were written at a step.

  Args:
    path: a `metrics.jsonl`, which need not exist.
    step: the step.
    prefix: as `"data/split/"`.

  Returns:
    Whether a row has any.
  """
  return any(
    row["step"] == step and any(name.startswith(prefix) for name in row)
    for row in complete_rows(path)
  )


def complete_rows(path: storage.Path) -> list[dict[str, Any]]:
  """The rows of a file that are whole; none if it does not exist."""
  if not path.exists():
    return []
  rows = map(_row_of, storage.read_text(path).splitlines())
  return [row for row in rows if row is not None]


def read_rows(path: storage.Path) -> list[dict[str, Any]]:
  """Reads the rows of a file of `JsonlWriter`.

  Args:
    path: of the file. A last line without its end, which a killed run leaves,
      is passed over.

  Returns:
    The rows, each with the keys `step` and `time`.

  Raises:
    ValueError: naming the first line that is no row.
  """
  text = storage.read_text(path)
  complete, _, _ = text.rpartition("\n")
  rows = []
  for number, line in enumerate(complete.splitlines(), start=1):
    row = _row_of(line)
    if row is None:
      raise ValueError(
        f"Expected a row of metrics, JSON with 'step' and 'time', in line "
        f"{number} of {path}, got {line[:60]!r}: the file is damaged. Remove "
        "the line."
      )
    rows.append(row)
  return rows


def _row_of(line: str) -> dict[str, Any] | None:
  """A line as a row; None if it is none."""
  try:
    row = json.loads(line)
    datetime.datetime.fromisoformat(row["time"])
    values = (row["step"], row.get("seconds", 0.0))
    finite = all(type(v) in (int, float) and math.isfinite(v) for v in values)
  except (
    *(ValueError, TypeError, KeyError, AttributeError, RecursionError),
    OverflowError,  # Of an integer of 400 digits.
  ):
    return None
  return row if finite else None


class LogWriter(MetricWriter):
  """Logs one line a step: `step 100/5000 | train/loss 0.0123 | ...`."""

  def __init__(self, total_steps: int):
    self._total_steps = total_steps

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Logs the scalars with four digits."""
    parts = [f"{name} {float(x):.4g}" for name, x in scalars.items()]
    logging.info("step %s", " | ".join([f"{step}/{self._total_steps}", *parts]))


class MultiWriter(MetricWriter):
  """Passes everything on to any number of writers."""

  def __init__(self, writers: Iterable[MetricWriter] = ()):
    self._writers = tuple(writers)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Passes on numbers."""
    for writer in self._writers:
      writer.write_scalars(step, scalars)

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Passes on images."""
    for writer in self._writers:
      writer.write_images(step, images)

  def flush(self) -> None:
    """Flushes every writer."""
    for writer in self._writers:
      writer.flush()

  def close(self) -> None:
    """Closes every writer, even if another one fails to close."""
    with contextlib.ExitStack() as stack:
      for writer in self._writers:
        stack.callback(writer.close)
