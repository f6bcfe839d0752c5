"""A limit on the wall time of a run, for devices that are lent for minutes."""

import time
from collections.abc import Callable

import jax

from slot_attention_jax.runtime import processes


class TimeLimit:
  """Decides after which step a run stops.

  All processes get the same answer, by the clock of process 0. A single process
  looks at its clock after every call of the step. Several have to communicate,
  so they do it once in `every_steps` steps.

  Args:
    minutes: wall time since `began`; 0: no limit.
    began: when the run began, in seconds of `clock`.
    every_steps: steps between two looks at the clock of several processes.
    clock: returns seconds, for tests.

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
    self._last_look: int | None = None

  def reached(self, step: int) -> bool:
    """Whether the time is up; all processes must call it after the same steps.

    Args:
      step: steps done.

    Returns:
      The same in all processes.
    """
    if not self._minutes:
      return False
    if jax.process_count() > 1:
      if step // self._every == self._last_look:
        return False
      self._last_look = step // self._every
    time_is_up = self._clock() - self._began >= 60 * self._minutes
    return processes.broadcast_from_process_0(time_is_up)
