"""Signals that ask a program to end: SIGTERM, SIGHUP and Ctrl-C.

The first one ends the program as an exception does, or, `deferred`, is noted
for a loop that saves first. A second one, a second or more later, ends the
process at once, whatever it is doing.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

from absl import logging

_NAMES = ("SIGTERM", "SIGHUP", "SIGINT")
# Some senders signal a process and its group: that counts once.
_ONE_SENDER_SECONDS = 1.0


class Stopped(SystemExit):
  """Ends the program because of a signal.

  Attributes:
    number: of the signal; the exit status is 128 more, as of a shell: 143 for
      SIGTERM, 129 for SIGHUP, 130 for Ctrl-C.
    together: whether all processes of the run end with it.
  """

  def __init__(self, number: int, together: bool = False):
    super().__init__(128 + number)
    self.number = number
    self.together = together


class _Received:
  """The first signal, and whether someone looks at it."""

  number: int = 0
  deferred: bool = False


_received = _Received()


def name(number: int) -> str:
  """Returns the name of a signal, as `"SIGTERM"`."""
  return signal.Signals(number).name


def received() -> int:
  """The number of the first signal that was received; 0 if there was none."""
  return _received.number


@contextlib.contextmanager
def handled() -> Iterator[None]:
  """Handles signals as this module says until the context is left.

  Signals that are ignored, as by `nohup`, stay so. In a thread other than the
  main one, which cannot handle signals, this does nothing.

  Raises:
    Stopped: in the main thread, when a signal comes that is not `deferred`. A
      long call of a library is finished first.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  _received.number, _received.deferred = 0, False
  # The interpreter writes the number of a signal at once, also while the main
  # thread is in a compilation of minutes and runs no handler.
  reader, writer = socket.socketpair()
  writer.setblocking(False)
  known = [getattr(signal, n) for n in _NAMES if hasattr(signal, n)]
  before = {
    number: signal.signal(number, _handle)
    for number in known
    if signal.getsignal(number) not in (signal.SIG_IGN, None)
  }
  old = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
  watcher = threading.Thread(
    target=_watch, args=(reader, set(before)), name="signals", daemon=True
  )
  watcher.start()
  try:
    yield
  except Stopped as stopped:
    if not stopped.together:
      logging.warning(
        "Ended by %s. What was being done is left out, what was finished is "
        "kept: run the same command again.",
        name(stopped.number),
      )
    raise
  finally:
    signal.set_wakeup_fd(old)
    for number, handler in before.items():
      signal.signal(number, handler)
    writer.close()
    watcher.join()
    reader.close()
    _received.number = 0


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """Only notes a signal within this context, for who asks `received`."""
  _received.deferred = True
  try:
    yield
  finally:
    _received.deferred = False


def _handle(number: int, unused_frame: object) -> None:
  if _received.number:
    return
  _received.number = number
  if not _received.deferred:
    raise Stopped(number)


def _watch(reader: socket.socket, numbers: set[int]) -> None:
  """Says that a signal came; ends the process at the second one."""
  first = None
  while data := reader.recv(1):
    if data[0] not in numbers:
      continue
    if first is None:
      first = time.monotonic()
      logging.warning(
        "Received %s. What is being done is ended in order; another signal "
        "ends the process at once.",
        name(data[0]),
      )
    elif time.monotonic() - first >= _ONE_SENDER_SECONDS:
      os._exit(128 + data[0])
