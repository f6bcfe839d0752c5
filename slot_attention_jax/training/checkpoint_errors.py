"""What Orbax raises on damaged checkpoints and disks, in words of this package.

Its layers, and tensorstore below them, raise many kinds of errors.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from etils import epath

from slot_attention_jax.runtime import storage, user_errors

# As tensorstore writes them, of file systems and of buckets.
_CODE = re.compile(r"\[os_error_code='(\d+)'\]")
_STATUS = re.compile(
  r"\b(PERMISSION_DENIED|UNAUTHENTICATED|NOT_FOUND|UNAVAILABLE|"
  r"DEADLINE_EXCEEDED)\b"
)
_NUMBERS = {
  "PERMISSION_DENIED": errno.EACCES,
  "UNAUTHENTICATED": errno.EACCES,
  "NOT_FOUND": errno.ENOENT,
}
# Orbax writes it last, where it cannot rename.
_COMPLETE = "commit_success.txt"


class DamagedCheckpointError(ValueError):
  """A checkpoint that cannot be read, or is not as it was saved."""


@contextlib.contextmanager
def reading(path: epath.Path, before: int | None) -> Iterator[None]:
  """Raises DamagedCheckpointError if a checkpoint cannot be read.

  Args:
    path: of the checkpoint.
    before: step of the checkpoint before it, for the message.

  Raises:
    OSError: if its bucket cannot be reached or read, which says nothing about
      the checkpoint.
  """
  try:
    yield
  except Exception as error:
    if isinstance(error, MemoryError | PermissionError):
      raise
    if storage.is_remote(path):
      number = _os_error(error, remote=True)
      if number in (errno.EACCES, errno.EIO):
        said = str(error).strip().partition("\n")[0][:150]
        text = f"{os.strerror(number)} ({said})"
        raise OSError(number, text, os.fspath(path)) from error
    reason = str(error).strip().partition("\n")[0][:150]
    raise DamagedCheckpointError(
      f"Cannot read the checkpoint {path}, it may be damaged: "
      f"{type(error).__name__}: {reason}. If it is, delete {path} and start "
      f"again; the checkpoint before it is of step {before}."
    ) from error


@contextlib.contextmanager
def writing(directory: epath.Path) -> Iterator[None]:
  """Raises OSError, with a message, if the disk refuses a checkpoint.

  Args:
    directory: of all checkpoints.
  """
  try:
    yield
  except Exception as error:
    number = _os_error(error, storage.is_remote(directory))
    if number is None:
      raise
    what = "network" if storage.is_remote(directory) else "disk"
    remedy = user_errors.REMEDIES.get(
      number, f" Check the {what}, then run the same command again."
    )
    steps = _complete(directory)
    left = f"those of steps {steps} are complete" if steps else "none is left"
    if steps is None:
      left = "which ones are complete cannot be read"
    raise OSError(
      number,
      f"Cannot save a checkpoint in {directory}: {os.strerror(number)}; {left}."
      f"{remedy}",
    ) from error


def _complete(directory: epath.Path) -> list[int] | None:
  """Steps whose checkpoints are complete; None if that cannot be read.

  Others have longer names or, in a bucket, no file that says so.
  """
  remote = storage.is_remote(directory)
  try:
    return sorted(
      int(p.name)
      for p in directory.iterdir()
      if p.name.isdigit() and (not remote or (p / _COMPLETE).exists())
    )
  except Exception as error:
    if storage.error_number(error) is None:
      raise
    return None


def _os_error(error: BaseException | None, remote: bool) -> int | None:
  """The number of the system's error behind an error; None if there is none."""
  while error is not None:
    if isinstance(error, OSError) and error.errno:
      return error.errno
    if found := _CODE.search(str(error)):
      return int(found[1])
    if remote:
      if (number := storage.error_number(error)) is not None:
        return number
      if found := _STATUS.search(str(error)):
        return _NUMBERS.get(found[1], errno.EIO)
    error = error.__cause__ or error.__context__
  return None
