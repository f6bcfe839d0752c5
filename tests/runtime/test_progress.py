"""Tests of the progress bar."""

import io
import logging

import pytest
from absl import logging as absl_logging

from slot_attention_jax.runtime import progress


class Terminal(io.StringIO):
  """A stream that is a terminal; `screen` is what stands on its lines."""

  def isatty(self):
    return True

  def screen(self):
    lines = []
    for line in self.getvalue().split("\n"):
      shown = ""
      for part in line.split("\r"):
        shown = part + shown[len(part) :]
      lines.append(shown.rstrip())
    return lines


@pytest.fixture
def terminal(monkeypatch):
  # Without the interval each update draws.
  monkeypatch.setattr(progress, "_DRAW_SECONDS", 0.0)
  return Terminal()


def test_a_terminal_gets_one_line_that_is_redrawn(terminal):
  with progress.Progress(
    5000, "Training", "steps", initial=100, stream=terminal
  ) as bar:
    assert terminal.screen()[0].startswith("Training:   2%|")
    bar.update(1000, loss=0.0123456)
    (line,) = terminal.screen()
    assert "20%" in line
    assert " 1000/5000 [" in line
    assert "steps/s" in line
    assert "loss=0.0123" in line
    bar.update(5000)
  line, end = terminal.screen()
  assert " 5000/5000 [" in line
  assert "loss=0.0123" in line
  assert end == ""


def test_the_bar_stays_if_the_loop_fails(terminal):
  def fail():
    with progress.Progress(4, "Preparing", stream=terminal) as bar:
      bar.update(1)
      raise OSError("disk full")

  with pytest.raises(OSError, match="disk full"):
    fail()
  assert " 1/4 [" in terminal.screen()[0]
  assert terminal.screen()[1:] == [""]


def test_the_bar_makes_way_for_log_lines(terminal):
  handler = absl_logging.get_absl_handler()
  record = logging.LogRecord("absl", logging.INFO, "x", 1, "hello", (), None)
  bar = progress.Progress(10, "Training", stream=terminal)
  bar.update(1)
  assert handler.filter(record)
  assert terminal.screen() == [""]
  terminal.write("a log line\n")
  bar.update(2)
  assert terminal.screen()[0] == "a log line"
  assert " 2/10 [" in terminal.screen()[1]
  bar.clear()
  assert terminal.screen() == ["a log line", ""]
  bar.close()
  length = len(terminal.getvalue())
  assert handler.filter(record)
  bar.update(3)
  assert len(terminal.getvalue()) == length


@pytest.mark.parametrize(("log", "lines"), [(False, 0), (True, 20)])
def test_elsewhere_nothing_is_drawn(log, lines, caplog):
  # Other tests leave the verbosity as they like it.
  caplog.set_level("INFO", logger=absl_logging.get_absl_logger().name)
  stream = io.StringIO()
  with progress.Progress(
    1000, "Preparing", "records", log=log, stream=stream
  ) as bar:
    for done in range(1, 1001):
      bar.update(done)
    bar.clear()
  assert stream.getvalue() == ""
  messages = [r.getMessage() for r in caplog.records]
  assert len(messages) == lines
  if log:
    assert messages[9].startswith("Preparing: 500/1000 records (50%), ")
    assert messages[-1].endswith("/s, 0:00 left")


def test_a_bar_within_another_leaves_no_trace(terminal):
  with progress.Progress(2, "Training", "steps", stream=terminal) as outer:
    outer.update(1)
    before = terminal.screen()[0]
    with progress.Progress(
      3, "Evaluating", "batches", leave=False, stream=terminal
    ) as inner:
      inner.update(2)
      assert "Evaluating" in terminal.getvalue()
    outer.update(2)
  assert before.startswith("Training:  50%")
  assert "Training: 100%" in terminal.getvalue().rsplit("Evaluating", 1)[1]


def test_the_time_left_leaves_out_what_came_before_a_restart(terminal):
  now = [0.0]
  with progress.Progress(110, "x", initial=10, stream=terminal) as bar:
    bar._bar._time = lambda: now[0]
    now[0] = 1000.0  # A long compilation.
    bar.restart(10)
    for done in range(20, 60, 10):
      now[0] += 1.0
      bar.update(done)
  # 60 of 110 are left, 10 a second.
  assert "50/110 [00:04<00:06, 10.00 items/s]" in terminal.getvalue()
