"""A lock that is an object of a bucket, which has no locks of its own.

The object is made only if there is none, and rewritten every few seconds only
if nobody else has rewritten it (Cloud Storage's `ifGenerationMatch`). Who asks
for the lock and finds the object takes it over once it has seen no renewal for
`LEASE_SECONDS`: no clocks are compared. The holder ends its program if it finds
that another one took over.
"""

import contextlib
import json
import os
import pathlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from absl import logging

from slot_attention_jax.runtime import processes, storage, user_errors

RENEWAL_SECONDS = 5.0
"""How often the holder rewrites the object."""
# Less than other processes of a run on CPU wait for the one that asks.
LEASE_SECONDS = 24.0
"""How long an object without a renewal is believed to have a holder."""
_POLL_SECONDS = 1.0
# Of each request; nothing is tried again for longer than a lease.
_TIMEOUT = 10.0


@contextlib.contextmanager
def try_hold(
  path: storage.Path, holder: Mapping[str, Any], wait: bool = True
) -> Iterator[bool]:
  """Holds a lock until the context is left, if it is free.

  Args:
    path: of the object, `gs://...`.
    holder: JSON about who holds it, for messages.
    wait: whether to wait for the end of the lease of a holder of which nothing
      says that it is dead; else the lock is not free.

  Yields:
    Whether it is held.

  Raises:
    OSError: if the bucket cannot be written to.
  """
  with storage.naming_errors(path):
    blob = _blob(path)
    own = {"machine": _machine(), "token": secrets.token_hex(8)}
    content = {**holder, **own, "pid": os.getpid()}
    mine = _write(blob, content, 0) or _take_over(blob, path, content, wait)
  if not mine:
    yield False
    return
  ended = threading.Event()
  renewal = threading.Thread(
    target=_renew, args=(blob, path, content, ended), daemon=True
  )
  renewal.start()
  try:
    yield True
  finally:
    ended.set()
    renewal.join(_TIMEOUT)
    # Without it, the next run waits for the end of the lease.
    with contextlib.suppress(Exception):
      if _read(blob).get("token") == content["token"]:
        blob.delete(if_generation_match=blob.generation, timeout=_TIMEOUT)


def _blob(path: storage.Path) -> Any:
  bucket, _, name = os.fspath(path).removeprefix("gs://").partition("/")
  return storage.client().bucket(bucket).blob(name)


def _write(blob: Any, content: Mapping[str, Any], generation: int) -> bool:
  """Whether the object had this generation (0: none) and is written."""
  from google.api_core import exceptions

  try:
    blob.upload_from_string(
      json.dumps(content) + "\n",
      content_type="application/json",
      if_generation_match=generation,
      timeout=_TIMEOUT,
    )
  except exceptions.PreconditionFailed:
    # It may be what this process wrote, if the answer to that was lost.
    return _read(blob).get("token") == content["token"]
  return True


def _read(blob: Any) -> dict[str, Any]:
  """What the object says; empty if it is not there or no JSON object."""
  from google.api_core import exceptions

  try:
    blob.reload(timeout=_TIMEOUT)
    found = json.loads(blob.download_as_bytes(timeout=_TIMEOUT))
  except (exceptions.NotFound, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


def _take_over(blob, path, content, wait: bool) -> bool:
  """Whether the object that is there has no holder, and is taken over."""
  from google.api_core import exceptions

  found = _read(blob)
  seen = blob.generation
  if not _is_dead(found):
    if not wait:
      return False
    logging.warning(
      "%s is there, of a run on %s. It is taken over unless it is renewed "
      "within %.0f s.",
      *(path, found.get("host"), LEASE_SECONDS),
    )
    began = time.monotonic()
    while time.monotonic() - began < LEASE_SECONDS:
      time.sleep(_POLL_SECONDS)
      try:
        blob.reload(timeout=_TIMEOUT)
      except exceptions.NotFound:
        return _write(blob, content, 0)
      if blob.generation != seen:
        return False
  return _write(blob, content, seen)


def _renew(blob, path, content, ended: threading.Event) -> None:
  """Rewrites the object until the end; ends the program if it is lost."""
  while not ended.wait(RENEWAL_SECONDS):
    try:
      mine = _write(blob, content, blob.generation)
    except Exception as error:  # Of any client on the way there.
      logging.warning("Cannot renew %s: %s", path, error)
      continue
    if not mine and not ended.is_set():
      logging.error(
        "Expected %s to be held by this run, but another one took it over: "
        "this one had not renewed it for %.0f s. It ends, so that two do not "
        "write to one directory.",
        *(path, LEASE_SECONDS),
      )
      processes.exit_now(SystemExit(user_errors.EXIT_CODE))


def _is_dead(holder: Mapping[str, Any]) -> bool:
  """Whether the holder was a process of this machine that has ended."""
  pid = holder.get("pid")
  if not isinstance(pid, int) or holder.get("machine") != _machine():
    return False
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return bool(_machine())
  except OSError:
    return False
  return False


def _machine() -> str:
  """This boot of this machine and its processes' numbers; "" if unknown."""
  try:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
    return f"{boot.strip()}/{os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return ""
