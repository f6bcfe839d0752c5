"""Batches made one or two steps ahead, in a thread, or in turn."""

import itertools
import queue
import threading
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")


def prefetch(
  batch: Callable[[int], T], start: int, depth: int = 2
) -> Generator[tuple[int, T], None, None]:
  """Yields `(step, batch(step))` for `start, start + 1, ...` without end.

  A thread calls `batch` up to `depth` steps ahead, so that reading on the host
  and the transfer overlap with the step on the device. The thread ends when
  the generator is closed or no longer referenced.

  Args:
    batch: makes the batch of a step, e.g. `dataset.batch`.
    start: the first step.
    depth: how many batches may wait. With 0 there is no thread and each batch
      is made when it is asked for: programs that run on the devices of several
      processes must start in the same order in all of them.

  Yields:
    The step and its batch. An exception in `batch` is raised here, in the turn
    of the step that it belongs to.

  Raises:
    ValueError: if `depth` is negative.

  Example:
    >>> from slot_attention_jax.data import prefetch
    >>> batches = prefetch.prefetch(lambda step: step**2, start=3)
    >>> next(batches), next(batches)
    ((3, 9), (4, 16))
    >>> batches.close()
  """
  if depth < 0:
    raise ValueError(f"Expected a prefetch depth of at least 0, got {depth}.")
  if not depth:
    return ((step, batch(step)) for step in itertools.count(start))
  return _generate(batch, start, depth)


def _generate(
  batch: Callable[[int], T], start: int, depth: int
) -> Generator[tuple[int, T], None, None]:
  """The generator of `prefetch`, apart so that errors are raised at once."""
  ready: queue.Queue = queue.Queue()
  # Counts the places that are free. The queue itself has no bound, so that the
  # thread never blocks where it cannot be told to stop.
  free = threading.Semaphore(depth)
  stop = threading.Event()

  def produce() -> None:
    step = start
    while True:
      free.acquire()
      if stop.is_set():
        return
      try:
        ready.put((step, batch(step), None))
      except BaseException as error:
        ready.put((step, None, error))
        return
      step += 1

  thread = threading.Thread(target=produce, name="prefetch", daemon=True)
  thread.start()
  try:
    while True:
      step, value, error = ready.get()
      if error is not None:
        raise error
      free.release()
      yield step, value
  finally:
    stop.set()
    free.release()
    thread.join()
