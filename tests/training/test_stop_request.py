"""When several processes ask each other whether to stop."""

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from slot_attention_jax.runtime import signals
from slot_attention_jax.training import stop_request


@pytest.fixture
def others(monkeypatch):
  """Makes this the second of two processes; what the first says."""
  said = {"number": 0, "gap": 1, "asked": []}

  def process_allgather(values):
    said["asked"].append(values.tolist())
    return np.stack([np.asarray([said["number"], said["gap"]]), values])

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(multihost_utils, "process_allgather", process_allgather)
  return said


def test_processes_ask_at_steps_that_process_0_chooses(others):
  now = 0.0
  stop = stop_request.StopRequest(2.0, clock=lambda: now)
  looks = []
  for step in range(1, 21):
    now += 0.25
    before = len(others["asked"])
    others["gap"] = 1 if step < 3 else 6
    assert stop.at_step(step) == 0
    looks += [step] * (len(others["asked"]) - before)
  assert looks == [1, 2, 3, 9, 15]
  # Its own wish: 2 s are 8 steps.
  assert others["asked"][1:] == [[0, 8]] * 4


def test_one_process_stops_all(others):
  stop = stop_request.StopRequest()
  assert stop.at_step(1) == 0
  others["number"] = 15
  assert stop.at_step(2) == 15
  assert stop.now() == 15


def test_a_single_process_asks_nobody(monkeypatch):
  stop = stop_request.StopRequest()
  assert (stop.at_step(5), stop.now()) == (0, 0)
  monkeypatch.setattr(signals, "received", lambda: 1)
  assert (stop.at_step(6), stop.now()) == (1, 1)
