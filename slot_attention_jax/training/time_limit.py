"""A limit on the wall time of a run, for devices that are there for minutes."""

import time
from collections.abc import Callable

import jax

from slot_attention_jax.runtime import processes


class TimeLimit:
  """Says after which call of the step a run is to stop.

  All processes get the same answer, that of process 0's clock. Alone, a process
  looks at its clock after every call. Several of them have to communicate for
  it, so they do so once in `every_steps` updates.

  Args:
    minutes: wall time from `began` on; 0: no limit.
    began: when the run began, in seconds of `clock`.
    every_steps: updates between two looks of several processes.
    clock: gives seconds, for tests.

  Example:
    >>> from slot_attention_jax.training import time_limit
    >>> limit = time_limit.TimeLimit(2.0, 0.0, 100, clock=lambda: 119.0)
    >>> limit.reached(1)
    False
    >>> limit = time_limit.TimeLimit(2.0, 0.0, 100, clock=lambda: 120.0)
    >>> limit.reached(1)
    True
  """

  def __init__(
    self,
    minutes: float,
    began: float,
    every_steps: int,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._minutes = minutes
    self._began = began
    self._every = every_steps
    self._clock = clock
    self._looked_at: int | None = None

  def reached(self, step: int) -> bool:
    """Whether the time is up; each process calls it after the same calls.

    Args:
      step: updates done.

    Returns:
      The same in all processes.
    """
    if not self._minutes:
      return False
    if jax.process_count() > 1:
      if step // self._every == self._looked_at:
        return False
      self._looked_at = step // self._every
    up = self._clock() - self._began >= 60 * self._minutes
    return processes.broadcast_from_process_0(up)
