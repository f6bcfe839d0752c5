"""What the wall time of a run went into."""

import contextlib
import time
from collections.abc import Callable

import jax
from absl import logging

_COMPILE = "/jax/core/compile/"


class Goodput(contextlib.AbstractContextManager):
  """Divides the time of a process between phases; logs a line at the end.

  The goodput is the share of the wall time that was spent in steps. What
  compilations took is not counted in the phase that waited for them.

  Args:
    began: when the process began the run, in seconds of `clock`.
    lost: seconds that an earlier process spent on steps which are done again.
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
    clock: Callable[[], float] = time.monotonic,
  ):
    self.seconds: dict[str, float] = {}
    self._lost = lost
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
