"""Work ahead of its use, in threads and in order: batches, decoded images."""

import collections
import concurrent.futures
import itertools
import os
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def parallel_map(
  function: Callable[[Any], T],
  items: Iterable[Any],
  *,
  workers: int | None = None,
  ahead: int | None = None,
  name: str = "parallel_map",
) -> Generator[T, None, None]:
  """Like `map`, but in threads; results come in order.

  Threads help where `function` releases the interpreter lock, as Pillow and
  NumPy do in their loops.

  Args:
    function: called once for each item, in any of the threads.
    items: what it is called with; may be endless.
    workers: number of threads; None for one per CPU, at least two.
    ahead: how many results may wait while one is used; None for four per
      thread.
    name: of the threads.

  Yields:
    What `function` returned. An exception in it is raised here, in the turn of
    its item. The threads end when the generator is closed, dropped or done.
  """
  workers = workers or max(2, os.cpu_count() or 1)
  ahead = 4 * workers if ahead is None else ahead
  pool = concurrent.futures.ThreadPoolExecutor(workers, name)
  pending: collections.deque[concurrent.futures.Future[T]] = collections.deque()
  try:
    for item in items:
      pending.append(pool.submit(function, item))
      if len(pending) > ahead:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)


def prefetch(
  batch: Callable[[int], T],
  start: int,
  depth: int = 2,
  stop: int | None = None,
) -> Generator[tuple[int, T], None, None]:
  """Yields `(step, batch(step))` for `start, start + 1, ...`.

  A thread calls `batch` up to `depth` steps ahead, so that reading on the host
  and the transfer overlap with the step on the device.

  Args:
    batch: makes the batch of a step, e.g. `dataset.batch`.
    start: the first step.
    depth: how many batches may wait. With 0 there is no thread and each batch
      is made when it is asked for: programs that run on the devices of several
      processes must start in the same order in all of them.
    stop: the step after the last; no later batch is made. None: endless.

  Returns:
    A generator. An exception in `batch` is raised in the turn of its step.

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
  numbered = itertools.count(start) if stop is None else range(start, stop)
  if not depth:
    return ((step, batch(step)) for step in numbered)
  return parallel_map(
    lambda step: (step, batch(step)),
    numbered,
    workers=1,
    ahead=depth,
    name="prefetch",
  )
