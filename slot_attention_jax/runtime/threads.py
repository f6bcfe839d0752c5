"""Work on the host in threads, in order."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterator
from typing import Any


def map_in_order(
  function: Callable[[Any], Any], items: Iterator[Any]
) -> Iterator[Any]:
  """Like `map`, in threads and in order, with few items under way.

  Args:
    function: called once for each item, in any of the threads. Threads gain
      where it lets go of the interpreter's lock, as Pillow and NumPy do in
      their loops.
    items: what it is called with.

  Yields:
    What it returned, in the order of the items; what it raised is raised.
  """
  workers = max(2, os.cpu_count() or 1)
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    pending: collections.deque = collections.deque()
    for item in items:
      pending.append(pool.submit(function, item))
      if len(pending) >= 4 * workers:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
