"""Files that grow while a program runs, also in a bucket.

An object in a bucket cannot be appended to: it is written anew, as a whole, at
each `flush` and every half minute.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable
from typing import Protocol

from slot_attention_jax.runtime import files, storage

_EVERY_SECONDS = 30.0


class AppendedFile(Protocol):
  """A file of bytes that is only appended to."""

  size: int
  """Bytes so far."""

  def write(self, data: bytes) -> None:
    """Appends bytes."""

  def flush(self) -> None:
    """Returns when what was written is in the file, where it was opened."""

  def close(self) -> None:
    """Flushes; nothing is written afterwards."""


def open_file(path: storage.Path, new: bool = False) -> AppendedFile:
  """Opens a file to append to it.

  Args:
    path: the file; it and its directory are made if they do not exist.
    new: whether there must be none of this name yet.

  Returns:
    The file.

  Raises:
    OSError: if it cannot be written.

  Example:
    >>> import pathlib, tempfile
    >>> from slot_attention_jax.runtime import appended
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "log"
    >>> file = appended.open_file(path)
    >>> file.write(b"a line")
    >>> path.read_text()
    'a line'
    >>> file.close()
  """
  if storage.is_remote(path):
    return _ObjectFile(path)
  return _LocalFile(path, new)


class _LocalFile(AppendedFile):
  """What is written is in the file even if the process is killed."""

  def __init__(self, path: storage.Path, new: bool):
    self._path = path
    with files.naming_errors(path):
      path.parent.mkdir(parents=True, exist_ok=True)
      # Not buffered: each write is one to the file.
      self._file = open(path, "xb" if new else "ab", buffering=0)  # noqa: SIM115
      self.size = os.fstat(self._file.fileno()).st_size

  def write(self, data: bytes) -> None:
    self.flush()
    self.size += len(data)
    with files.naming_errors(self._path):
      while data:  # A disk that gets full takes a part, then refuses.
        data = data[self._file.write(data) :]

  def flush(self) -> None:
    """Raises FileNotFoundError if the file is no longer where it was."""
    # Bytes would go to a file without a name, and be lost.
    with contextlib.suppress(FileNotFoundError):
      there = os.stat(self._path)
      if os.path.samestat(there, os.fstat(self._file.fileno())):
        return
    raise FileNotFoundError(
      errno.ENOENT,
      f"Expected {self._path}, which this run writes, found it gone: its "
      "directory was removed or moved. Nothing is written any more. Put it "
      "back, then run the same command again.",
    )

  def close(self) -> None:
    with files.naming_errors(self._path):
      self._file.close()


class _ObjectFile(AppendedFile):
  """What was written since the last flush is lost if the process is killed."""

  def __init__(
    self, path: storage.Path, clock: Callable[[], float] = time.monotonic
  ):
    self._path, self._clock = path, clock
    with storage.naming_errors(path):
      there = path.exists()
      self._content = bytearray(path.read_bytes() if there else b"")
    self.size = len(self._content)
    self._uploaded, self._last = self.size if there else -1, clock()
    self.flush()

  def write(self, data: bytes) -> None:
    self._content += data
    self.size += len(data)
    if self._clock() - self._last >= _EVERY_SECONDS:
      self.flush()

  def flush(self) -> None:
    if self._uploaded == self.size:
      return
    with storage.naming_errors(self._path):
      self._path.write_bytes(bytes(self._content))
    self._uploaded, self._last = self.size, self._clock()

  def close(self) -> None:
    self.flush()
