"""Agreement of all processes on the step after which a signal stops the run."""

import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from slot_attention_jax.runtime import signals


class StopRequest:
  """Tells whether any process received a signal that asks it to end.

  Several processes have to communicate. They do so at their first step and
  from then on every few seconds, at steps that process 0 chooses.

  Args:
    every_seconds: about how often several processes communicate.
    clock: returns seconds, for tests.

  Example:
    >>> from slot_attention_jax.training import stop_request
    >>> stop_request.StopRequest().at_step(1)
    0
  """

  def __init__(
    self,
    every_seconds: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._every = every_seconds
    self._clock = clock
    self._last: tuple[int, float] | None = None
    self._next = 0

  def at_step(self, step: int) -> int:
    """Asks between two steps; all processes must, after the same steps.

    Args:
      step: steps done.

    Returns:
      The number of the signal, the same in all processes; 0 if none came.
    """
    if jax.process_count() == 1:
      return signals.received()
    if step < self._next:
      return 0
    now, gap = self._clock(), 1
    if self._last is not None:
      before, then = self._last
      gap = int(self._every * (step - before) / max(now - then, 1e-3))
    self._last = (step, now)
    number, gap = _agree(signals.received(), gap)
    self._next = step + max(1, gap)
    return number

  def now(self) -> int:
    """Asks at once, as between the batches of an evaluation; else the same."""
    if jax.process_count() == 1:
      return signals.received()
    return _agree(signals.received(), 0)[0]


def _agree(number: int, gap: int) -> tuple[int, int]:
  """The largest number, and the gap of process 0."""
  values = np.asarray([number, min(gap, 2**30)], np.int32)
  rows = np.reshape(multihost_utils.process_allgather(values), (-1, 2))
  return int(rows[:, 0].max()), int(rows[0, 1])
