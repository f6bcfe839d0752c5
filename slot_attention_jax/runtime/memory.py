"""How much memory of the host is there."""

import pathlib

_SYSTEM = pathlib.Path("/proc/meminfo")
_GROUP = pathlib.Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
  """The memory that this process can still take without swapping.

  Returns:
    The smaller of what the machine and the container have left; None if it is
    not known, as elsewhere than on Linux.
  """
  known = [n for n in (_of_machine(), _of_container()) if n is not None]
  return min(known, default=None)


def _of_machine() -> int | None:
  try:
    lines = _SYSTEM.read_text().splitlines()
    (kilobytes,) = (x.split()[1] for x in lines if x.startswith("MemAvailable"))
    return 1024 * int(kilobytes)
  except (OSError, ValueError, IndexError):
    return None


def _of_container() -> int | None:
  """Of control groups of version 2; None if there is no limit."""
  try:
    most = int((_GROUP / "memory.max").read_text())
    used = int((_GROUP / "memory.current").read_text())
    rows = (_GROUP / "memory.stat").read_text().split()
    files = dict(zip(rows[::2], rows[1::2], strict=True)).get("inactive_file")
    # The system takes back what it keeps of files.
    return most - used + int(files or 0)
  except (OSError, ValueError):
    return None
