"""Signals end a program in order; a second one ends it at once."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from slot_attention_jax.runtime import signals

NUMBERS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


def send(number):
  os.kill(os.getpid(), number)
  time.sleep(0.01)  # The interpreter handles it before the next statement.


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_what_is_done_like_an_exception(number, monkeypatch):
  # A shell that starts tests in the background has Ctrl-C ignored.
  monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
  before = signal.signal(number, signal.SIG_DFL)
  signal.signal(number, before)
  cleaned = []

  @contextlib.contextmanager
  def cleaning():
    try:
      yield
    finally:
      cleaned.append(True)

  with pytest.raises(SystemExit) as error, signals.handled(), cleaning():
    send(number)
  assert error.value.code == 128 + number
  assert cleaned
  assert signal.signal(number, before) is before
  assert not signals.received()


def test_a_deferred_signal_is_only_noted(caplog):
  with signals.handled():
    with signals.deferred():
      assert not signals.received()
      # As some senders do: to a process and to its group.
      send(signal.SIGTERM)
      send(signal.SIGTERM)
      send(signal.SIGHUP)
      assert signals.received() == signal.SIGTERM
    assert signals.name(signals.received()) == "SIGTERM"
  assert caplog.text.count("Received SIGTERM.") == 1


def test_an_ignored_signal_stays_ignored():
  """As `nohup` has it."""
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with signals.handled():
      send(signal.SIGHUP)
      assert not signals.received()
  finally:
    signal.signal(signal.SIGHUP, before)


BUSY = """
import ctypes, signal, time
from slot_attention_jax.runtime import signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # Tests may run under nohup.
with signals.handled(), signals.deferred():
  print("ready", flush=True)
  # Like a compilation: no Python code runs in the main thread.
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    ctypes.CDLL(None).sleep(60)
"""


def test_a_second_signal_ends_a_process_that_runs_no_python():
  with subprocess.Popen(
    [sys.executable, "-c", BUSY],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.3)
    assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == 129
    assert "Received SIGTERM." in process.stderr.read()
