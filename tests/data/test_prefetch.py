"""Prefetching keeps the order, passes errors on and ends its thread."""

import threading
import time

import pytest

from slot_attention_jax.data import prefetch


def _threads():
  return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_order_and_start():
  batches = prefetch.prefetch(lambda step: step * 10, start=7)
  assert [next(batches) for _ in range(3)] == [(7, 70), (8, 80), (9, 90)]
  assert len(_threads()) == 1
  batches.close()
  assert _threads() == []


def test_runs_ahead_by_depth_and_no_further():
  made = []
  enough = threading.Event()

  def batch(step):
    made.append(step)
    if step == 2:
      enough.set()
    return step

  batches = prefetch.prefetch(batch, start=0, depth=2)
  next(batches)
  assert enough.wait(10)  # Steps 1 and 2 are made while 0 is used.
  assert not threading.Event().wait(0.1)
  assert made == [0, 1, 2]
  batches.close()


@pytest.mark.parametrize("depth", [0, 2])
def test_makes_no_batch_after_the_last(depth):
  made = []
  batches = prefetch.prefetch(made.append, start=3, depth=depth, stop=5)
  assert [step for step, _ in batches] == made == [3, 4]


def test_error_comes_in_its_turn():
  def batch(step):
    if step == 2:
      raise RuntimeError("no batch 2")
    return step

  batches = prefetch.prefetch(batch, start=0, depth=4)
  assert next(batches) == (0, 0)
  assert next(batches) == (1, 1)
  with pytest.raises(RuntimeError, match="no batch 2"):
    next(batches)
  assert _threads() == []


def test_deleting_the_generator_ends_the_thread():
  batches = prefetch.prefetch(lambda step: step, start=0)
  next(batches)
  del batches
  assert _threads() == []


def test_depth():
  with pytest.raises(ValueError, match="at least 0, got -1"):
    prefetch.prefetch(lambda step: step, start=0, depth=-1)


def test_without_depth_batches_are_made_in_turn_by_the_caller():
  made = []

  def batch(step):
    made.append((step, threading.current_thread()))
    return step

  batches = prefetch.prefetch(batch, start=3, depth=0)
  assert next(batches) == (3, 3)
  assert made == [(3, threading.current_thread())]
  assert next(batches) == (4, 4)
  batches.close()
  assert _threads() == []


def test_parallel_map_keeps_the_order_and_few_items_under_way():
  taken, done = 0, 0

  def items():
    nonlocal taken
    for i in range(50):
      taken += 1
      assert taken - done <= 7
      yield i

  results = prefetch.parallel_map(
    lambda i: (time.sleep(0.002 * (i % 3)), i)[1], items(), workers=3, ahead=5
  )
  for expected in range(50):
    assert next(results) == expected
    done += 1
  with pytest.raises(StopIteration):
    next(results)


def test_errors_of_parallel_map_come_in_their_turn():
  results = prefetch.parallel_map(lambda i: 1 // i, iter([2, 1, 0, 1]))
  assert [next(results), next(results)] == [0, 1]
  with pytest.raises(ZeroDivisionError):
    next(results)
