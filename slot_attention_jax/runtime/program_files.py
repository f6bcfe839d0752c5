"""Files of compiled programs: whole or not there, and not too many."""

import contextlib
import hashlib
import os
import pathlib
import stat

from slot_attention_jax.runtime import files

_MOST_BYTES = 1 << 30
_HEADER = b"slot_attention_jax 1\n"


def make_private(directory: pathlib.Path) -> None:
  """Makes a directory that only its owner can read or write.

  Args:
    directory: it may exist.

  Raises:
    OSError: if it cannot be made, or is another user's or open to others: what
      is loaded from it is run.
  """
  directory.mkdir(mode=0o700, parents=True, exist_ok=True)
  found = directory.stat()
  if hasattr(os, "getuid") and found.st_uid != os.getuid():
    raise PermissionError(f"{directory} is another user's")
  if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o022:
    raise PermissionError(f"{directory} can be written to by others")


def write(path: pathlib.Path, data: bytes) -> None:
  """Writes a file atomically, with a digest of what is in it."""
  with files.atomic_write(path) as temporary:
    temporary.write_bytes(_HEADER + hashlib.sha256(data).digest() + data)


def read(path: pathlib.Path) -> bytes:
  """Reads what `write` wrote, and notes that it was used.

  A damaged file is removed, as not every program can be written again.

  Args:
    path: of the file.

  Returns:
    The data.

  Raises:
    OSError: if it cannot be read.
    ValueError: if it is damaged.
  """
  content = path.read_bytes()
  start = len(_HEADER) + hashlib.sha256().digest_size
  data = content[start:]
  if content[:start] != _HEADER + hashlib.sha256(data).digest():
    with contextlib.suppress(OSError):
      path.unlink()
    raise ValueError(f"Expected {path} to be whole, but it is damaged.")
  with contextlib.suppress(OSError):
    os.utime(path)
  return data


def remove_oldest(directory: pathlib.Path, most: int = _MOST_BYTES) -> None:
  """Removes the files that were used longest ago, until the rest is small.

  Args:
    directory: of the files.
    most: bytes that may stay.
  """
  found = []
  for path in directory.iterdir():
    with contextlib.suppress(OSError):  # Another process removes some, too.
      status = path.stat()
      found.append((status.st_mtime_ns, status.st_size, path))
  total = 0
  for _, size, path in sorted(found, reverse=True):
    total += size
    if total > most:
      with contextlib.suppress(OSError):
        path.unlink()
