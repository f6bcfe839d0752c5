"""One training at a time in a directory."""

import contextlib
import datetime
import errno
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging

from slot_attention_jax.runtime import (
  files,
  object_lock,
  processes,
  storage,
)

_LOCK = ".training.lock"
# Not in the lock's own file, which those that ask for the lock may empty.
_HOLDER = ".training.json"
# What a file system without locks says.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def hold(path: storage.Path) -> Iterator[None]:
  """Holds the directory of a run, so that no other training uses it.

  The lock is the operating system's: it is free once the process has ended, how
  ever that was. In a bucket it is an object, see `object_lock`. Process 0 holds
  it for all processes of the run, which must all call this.

  Args:
    path: the directory, made if it does not exist.

  Raises:
    ValueError: in all processes, if another training holds it.
    OSError: in process 0, if the directory cannot be written to.

  Example:
    >>> import pathlib, tempfile
    >>> from slot_attention_jax.training import run_lock
    >>> path = pathlib.Path(tempfile.mkdtemp())
    >>> with run_lock.hold(path), run_lock.hold(path):
    ...   pass
    Traceback (most recent call last):
      ...
    ValueError: Expected no other training in ...
  """
  with contextlib.ExitStack() as stack:
    mine = True
    if jax.process_index() == 0:
      mine = stack.enter_context(_try_lock(path))
    if not processes.broadcast_from_process_0(mine):
      raise ValueError(
        f"Expected no other training in {path}, {_describe_holder(path)}. Wait "
        "for it, stop it, or give another directory with --workdir."
      )
    yield


@contextlib.contextmanager
def _try_lock(path: storage.Path) -> Iterator[bool]:
  """Whether the lock was free; if so it is held until the end."""
  if storage.is_remote(path):
    with object_lock.try_hold(path / _HOLDER, _about_this_run()) as mine:
      yield mine
    return
  import filelock

  path.mkdir(parents=True, exist_ok=True)
  lock = filelock.FileLock(path / _LOCK)
  try:
    lock.acquire(timeout=0)
  except filelock.Timeout:
    yield False
    return
  except (OSError, NotImplementedError) as error:
    if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
      raise
    logging.warning(
      "The file system of %s has no locks (%s): nothing keeps a second "
      "training out of it.",
      *(path, error),
    )
    yield True
    return
  try:
    files.write_json(path / _HOLDER, _about_this_run())
    yield True
  finally:
    (path / _HOLDER).unlink(missing_ok=True)
    lock.release()


def _about_this_run() -> dict[str, Any]:
  return {
    "host": socket.gethostname(),
    "pid": os.getpid(),
    "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "processes": jax.process_count(),
  }


def _describe_holder(path: storage.Path) -> str:
  holder: dict[str, Any] = {}
  with contextlib.suppress(OSError, ValueError):
    holder = json.loads((path / _HOLDER).read_text(encoding="utf-8"))
  if not isinstance(holder, dict) or "pid" not in holder:
    return f"but a process holds {path / _LOCK}"
  return (
    f"but one runs there: process {holder['pid']} on {holder.get('host')} "
    f"since {holder.get('since')}"
  )
