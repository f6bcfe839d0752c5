"""Several processes that run one program: start, agreement, exit."""

import contextlib
import logging as python_logging
import os
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from slot_attention_jax.runtime import signals, user_errors

_FLAGS = ("coordinator_address", "num_processes", "process_id")


def initialize(
  *,
  detect: bool = False,
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> bool:
  """Starts JAX's multi-process runtime; call it before anything else of JAX.

  Args:
    detect: whether to take the other arguments from the cluster's environment,
      as `jax.distributed.initialize` does: Cloud TPU, SLURM, Open MPI,
      Kubernetes.
    coordinator_address: `"host:port"` on which process 0 will listen.
    num_processes: number of processes.
    process_id: index of this process, from 0.

  Returns:
    Whether the runtime was started; not if there are no arguments.

  Raises:
    ValueError: if some but not all of the last three are given, they do not fit
      together, or no cluster is found.

  Example:
    >>> from slot_attention_jax.runtime import processes
    >>> processes.initialize()
    False
    >>> processes.initialize(num_processes=2)
    Traceback (most recent call last):
      ...
    ValueError: Expected all of coordinator_address, num_processes, ...
  """
  given = (coordinator_address, num_processes, process_id)
  if given == (None, None, None):
    if detect:
      _detect()
    return detect
  missing = [k for k, v in zip(_FLAGS, given, strict=True) if v is None]
  if coordinator_address is None or num_processes is None or process_id is None:
    raise ValueError(
      f"Expected all of {', '.join(_FLAGS)} or none, got no "
      f"{' and no '.join(missing)}. Give all processes the same first two and "
      "each its own process_id, or none of them and use --distributed."
    )
  host, _, port = coordinator_address.rpartition(":")
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise ValueError(
      "Expected a coordinator_address host:port of process 0, as "
      f"10.0.0.1:8476, got {coordinator_address!r}."
    )
  if not 0 <= process_id < num_processes:
    raise ValueError(
      f"Expected a process_id from 0 to {num_processes - 1}, got {process_id} "
      f"with num_processes={num_processes}."
    )
  jax.distributed.initialize(
    coordinator_address,
    num_processes,
    process_id,
    # Within a job of a cluster, too, the arguments decide.
    cluster_detection_method="deactivate",
  )
  return True


def _detect() -> None:
  try:
    jax.distributed.initialize()
  except ValueError as error:
    # JAX raises no error of its own where it detects no cluster.
    if "defined" not in str(error):
      raise
    raise ValueError(
      "Expected --distributed on a Cloud TPU or in a SLURM, Open MPI or "
      f"Kubernetes job, detected none of them ({error}) Elsewhere give each "
      "process --coordinator_address=HOST:PORT, --num_processes and "
      "--process_id; on a single machine omit --distributed."
    ) from error


def assert_equal_across_processes(what: str, value: Any, remedy: str) -> None:
  """Raises ValueError in all processes unless all have the same value.

  A difference would make the processes hang, or spoil the run much later. All
  processes must call this.

  Args:
    what: what the value is, for the message.
    value: equal values have equal `repr`.
    remedy: what to do, a sentence.
  """
  digest = np.uint32(zlib.crc32(repr(value).encode()))
  digests = np.ravel(multihost_utils.process_allgather(digest))
  if others := np.flatnonzero(digests != digests[0]).tolist():
    raise ValueError(
      f"Expected the same {what} in all {len(digests)} processes, but it "
      f"differs from that of process 0 in {others}; in this process, "
      f"{jax.process_index()}, it is {value}. {remedy}"
    )


def broadcast_from_process_0(answer: bool) -> bool:
  """Returns the answer of process 0; all processes must call this."""
  return bool(multihost_utils.broadcast_one_to_all(np.uint8(answer)))


def all_agree(answer: bool) -> bool:
  """Whether all processes answer True; all of them must call this."""
  if jax.process_count() == 1:
    return answer
  return bool(np.all(multihost_utils.process_allgather(np.uint8(answer))))


def wait_for_all(name: str) -> None:
  """Returns when all processes have called this with the same name."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def exit_together_on_error() -> Iterator[None]:
  """Ends this process at once if it fails, so that the others end as well.

  After an exception, JAX's shutdown would wait for the other processes, which
  wait for this one in a collective. If it ends at once, the others fail within
  seconds in the collective, or else after the coordinator's heartbeat timeout
  of 100 s. With a single process this does nothing.
  """
  try:
    yield
  except BaseException as error:
    stopped = isinstance(error, signals.Stopped)
    if jax.process_count() == 1 or (stopped and error.together):
      raise
    if stopped:
      exit_now(error)
    users = user_errors.is_users(error)
    logging.error(
      "Process %d of %d failed, %s: %s",
      jax.process_index(),
      jax.process_count(),
      type(error).__name__,
      user_errors.describe(error) if users else error,
      exc_info=not users or user_errors.FLAG in sys.argv,
    )
    exit_now(SystemExit(user_errors.EXIT_CODE if users else 1))


def exit_now(reason: SystemExit) -> None:
  """Ends the process without waiting for other processes or for threads."""
  python_logging.shutdown()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(int(reason.code or 0))
