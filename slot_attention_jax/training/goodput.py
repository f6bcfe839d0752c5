"""What the wall time of a run went into."""

import contextlib
import json
import time
from collections.abc import Callable

import jax
from absl import logging

from slot_attention_jax.runtime import appended, storage

FILE = "goodput.jsonl"
"""In the directory of a run, a line for each process that trained it."""

# With the loading and keeping of programs in place of it.
_COMPILE = ("/jax/core/compile/", "/slot_attention_jax/programs/")


class Goodput(contextlib.AbstractContextManager):
  """Divides the time of a process between phases; logs a line at the end.

  The goodput is the share of the wall time that was spent in steps. What
  compilations took is not counted in the phase that waited for them.

  Args:
    began: when the process began the run, in seconds of `clock`.
    lost: seconds that an earlier process spent on steps which are done again.
    path: directory of the run, to whose `FILE` a line is added if steps were
      done; None: none is.
    clock: returns seconds, for tests.

  Example:
    >>> from slot_attention_jax.training import goodput
    >>> seconds = iter([0.0, 2.0, 8.0, 10.0])
    >>> spent = goodput.Goodput(0.0, clock=lambda: next(seconds))
    >>> with spent:
    ...   spent.on("steps")
    ...   spent.on("saves")
    >>> print(spent)
    Goodput 60 %: 6.0 of 10.0 s in steps; start 2.0, saves 2.0, lost 0.0.
  """

  def __init__(
    self,
    began: float,
    lost: float = 0.0,
    path: storage.Path | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    self.seconds: dict[str, float] = {}
    self._lost = lost
    self._path = path
    self._clock = clock
    self._phase = "start"
    self._since = began
    # Disjoint; JAX compiles functions within functions.
    self._compilations: list[tuple[float, float]] = []
    self._compiled = 0.0

  def __enter__(self):
    jax.monitoring.register_event_time_span_listener(self._on_event)
    self.on("start")
    return self

  def __exit__(self, *unused_exception) -> None:
    jax.monitoring.unregister_event_time_span_listener(self._on_event)
    self.on("end")
    logging.info("%s", self)
    if self._path and self.seconds.get("steps"):
      self._save(self._path / FILE)

  def on(self, phase: str) -> None:
    """Ends a phase and begins the next."""
    now = self._clock()
    compiled = sum(end - start for start, end in self._compilations)
    in_phase = min(compiled - self._compiled, now - self._since)
    if in_phase > 0:
      self._add("compile", in_phase)
    self._add(self._phase, now - self._since - max(in_phase, 0.0))
    self._phase, self._since, self._compiled = phase, now, compiled

  def __str__(self) -> str:
    total = sum(self.seconds.values())
    steps = self.seconds.get("steps", 0.0)
    percent = 100 * steps / max(total + self._lost, 1e-9)
    others = {k: v for k, v in self.seconds.items() if k != "steps"}
    parts = [f"{k} {v:.1f}" for k, v in (others | {"lost": self._lost}).items()]
    return (
      f"Goodput {percent:.0f} %: {steps:.1f} of {total + self._lost:.1f} s in "
      f"steps; {', '.join(parts)}."
    )

  def _save(self, path: storage.Path) -> None:
    """Adds a line; a disk that cannot be written to costs no more than it."""
    seconds = self.seconds | {"lost": self._lost}
    line = json.dumps({k: round(v, 3) for k, v in seconds.items()})
    try:
      # A directory that was moved away is not made again.
      if not storage.is_remote(path) and not path.parent.is_dir():
        return
      file = appended.open_file(path)
      file.write(f"{line}\n".encode())
      file.close()
    except OSError as error:
      logging.warning("Cannot write %s: %s.", path, error)

  def _add(self, phase: str, seconds: float) -> None:
    self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

  def _on_event(
    self,
    event: str,
    start_time: float,
    end_time: float,
    **unused_labels: str | int,
  ) -> None:
    if event.startswith(_COMPILE):
      outside = [span for span in self._compilations if span[0] < start_time]
      self._compilations = [*outside, (start_time, end_time)]


def read(path: storage.Path) -> dict[str, float]:
  """Reads what the time of a run went into.

  Args:
    path: its directory.

  Returns:
    Seconds by phase, of all processes that ended by themselves or by a signal,
    and `lost`; empty if none is known.
  """
  total: dict[str, float] = {}
  try:
    text = storage.read_text(path / FILE)
  except OSError:
    return {}
  for line in text.splitlines():
    # A line may be half of one.
    with contextlib.suppress(ValueError, AttributeError, TypeError):
      for phase, seconds in json.loads(line).items():
        total[phase] = total.get(phase, 0.0) + float(seconds)
  return total
