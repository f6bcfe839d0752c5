"""Progress of a long loop on the host."""

import sys
import time

from absl import logging


class Progress:
  """One line that is rewritten on a terminal, a log line per 5% elsewhere.

  Args:
    label: what is done.
    total: how many items there are.
  """

  def __init__(self, label: str, total: int):
    self._label, self._total = label, total
    self._start = self._shown = time.monotonic()
    self._terminal = sys.stderr.isatty()
    self._twentieths = 0
    self._open = False  # Whether there is a line that does not end.

  def update(self, done: int) -> None:
    """Shows that `done` items are done, if it is time to."""
    now, last = time.monotonic(), done == self._total
    if self._terminal:
      if now - self._shown < 0.2 and not last:
        return
      self._shown = now
      self._open, end = not last, "\n" if last else ""
      sys.stderr.write(f"\r{self._line(done, now)}\x1b[K{end}")
      sys.stderr.flush()
    elif done * 20 // self._total > self._twentieths:
      self._twentieths = done * 20 // self._total
      logging.info("%s", self._line(done, now))

  def close(self) -> None:
    """Ends the line of what is not done, for what else is to be said."""
    if self._open:
      self._open = False
      sys.stderr.write("\n")

  def _line(self, done: int, now: float) -> str:
    rate = done / max(now - self._start, 1e-9)
    width = 24 * done // self._total
    bar = f"[{'#' * width}{'.' * (24 - width)}]"
    line = f"{self._label} {bar} {done}/{self._total}"
    if not done:
      return line  # There is no rate yet.
    left = (self._total - done) / rate
    return f"{line}, {rate:.0f}/s, {left // 60:.0f}:{left % 60:02.0f} left"
