"""A progress bar for everything that takes long: training, caches, files."""

import contextlib
import logging as python_logging
import sys
import time
from typing import Any, TextIO

from absl import logging

_DRAW_SECONDS = 0.2


class Progress(contextlib.AbstractContextManager):
  """Shows how far a loop is: a bar on a terminal, elsewhere nothing.

  The bar is removed before absl logs a line and drawn again with the next
  update. Call `clear` before you print, and leave the context or call `close`
  at the end, also after an error.

  Args:
    total: number of items.
    description: what is being done, in front of the bar.
    unit: what the items are, in the plural, as `"steps"`.
    initial: items that were done before.
    log: whether to log a line for every 5% where there is no terminal; for
      loops of minutes that log nothing themselves.
    leave: whether the finished bar stays on the terminal.
    stream: where to draw; None is `sys.stderr`.

  Example:
    >>> from slot_attention_jax.runtime import progress
    >>> with progress.Progress(100, "Rendering", "scenes") as bar:
    ...   for done in range(20, 101, 20):
    ...     bar.update(done)
  """

  def __init__(
    self,
    total: int,
    description: str,
    unit: str = "items",
    *,
    initial: int = 0,
    log: bool = False,
    leave: bool = True,
    stream: TextIO | None = None,
  ):
    # Not with the module: the library itself draws no bars.
    import tqdm

    terminal: Any = stream or sys.stderr
    self._bar: Any = tqdm.tqdm(
      total=total,
      desc=description,
      unit=f" {unit}",
      initial=initial,
      leave=leave,
      disable=not terminal.isatty(),
      dynamic_ncols=True,
      file=terminal,
      mininterval=_DRAW_SECONDS,
      miniters=1,
      smoothing=0.1,
    )
    self._description, self._total, self._unit = description, total, unit
    self._initial, self._start = initial, time.monotonic()
    self._log = log and self._bar.disable
    self._logged = 20 * initial // total
    if not self._bar.disable:
      logging.get_absl_handler().addFilter(self._before_log)

  def __exit__(self, *unused_exception) -> None:
    self.close()

  def update(self, done: int, **values: Any) -> None:
    """Shows that `done` items are done; redraws a few times a second.

    Args:
      done: how many items are done, those before included.
      **values: numbers to show behind the bar, as `loss=0.1`. A `jax.Array`
        would make the loop wait for it.
    """
    twentieths = 20 * done // self._total
    if self._log and twentieths > self._logged:
      self._logged = twentieths
      logging.info("%s", self._line(done))
    if not self._bar.disable:
      if values:
        self._bar.set_postfix(values, refresh=False)
      self._bar.update(done - self._bar.n)

  def restart(self, done: int) -> None:
    """Forgets how long the first `done` items took, for the time left."""
    self._initial, self._start = done, time.monotonic()
    if not self._bar.disable:
      self._bar.initial = done
      self._bar.reset()
      self._bar.n = self._bar.last_print_n = done

  def clear(self) -> None:
    """Removes the bar, so that something else can be printed."""
    self._bar.clear()

  def close(self) -> None:
    """Draws the last state and ends the line."""
    if not self._bar.disable:
      logging.get_absl_handler().removeFilter(self._before_log)
    self._bar.close()

  def _before_log(self, record: python_logging.LogRecord) -> bool:
    del record
    self._bar.clear()
    return True

  def _line(self, done: int) -> str:
    seconds = max(time.monotonic() - self._start, 1e-9)
    rate = max(done - self._initial, 1) / seconds
    left = (self._total - done) / rate
    percent = 100 * done // self._total
    return (
      f"{self._description}: {done}/{self._total} {self._unit} ({percent}%), "
      f"{rate:.3g}/s, {left // 60:.0f}:{left % 60:02.0f} left"
    )
