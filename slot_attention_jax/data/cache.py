"""Arrays that are built once, kept on disk and memory-mapped."""

import contextlib
import dataclasses
import errno
import glob
import hashlib
import io
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from absl import logging

from slot_attention_jax.runtime import checksums, progress, storage
from slot_attention_jax.runtime import files as files_lib

_ENVIRONMENT = "SLOT_ATTENTION_JAX_CACHE"
# Part of every fingerprint: raise it when the files change their meaning.
_FORMAT = 1
_METADATA = "metadata.json"


@dataclasses.dataclass(frozen=True)
class Cache:
  """Arrays on disk with one row for each example.

  Attributes:
    directory: where the files are.
    fingerprint: everything that determined the contents.
    arrays: read-only memory-mapped arrays [N, ...] by name.
  """

  directory: pathlib.Path
  fingerprint: dict[str, Any]
  arrays: dict[str, np.ndarray]


def default_directory() -> pathlib.Path:
  """`$SLOT_ATTENTION_JAX_CACHE`, or else `~/.cache/slot_attention_jax`."""
  named = os.environ.get(_ENVIRONMENT)
  path = named or os.path.join("~", ".cache", "slot_attention_jax")
  return pathlib.Path(path).expanduser()


def build_or_load(
  directory: str | os.PathLike[str] | None,
  *,
  fingerprint: Mapping[str, Any],
  num_examples: int,
  arrays: Mapping[str, tuple[tuple[int, ...], Any]],
  examples: Callable[[], Iterator[Mapping[str, np.ndarray]]],
  label: str,
) -> Cache:
  """Loads the cache of this fingerprint, or builds it first.

  Each fingerprint has its own subdirectory, so data, sizes and crops never mix;
  subdirectories can be deleted at any time. A build goes to a temporary
  directory that is renamed when complete, so an interrupted one leaves nothing
  that could be taken for a cache. Files whose size, checksum or fingerprint
  differs from the recorded one are rebuilt. Of several processes one builds and
  the others wait for it. Reading a finished cache needs no write access.

  Args:
    directory: the directory of all caches; None for `default_directory()`.
    fingerprint: everything that determines the contents, JSON-able.
    num_examples: N, how many examples `examples` yields.
    arrays: shape (without N) and dtype of each array, by name.
    examples: starts an iterator over the N examples, each with one value for
      each array. It is called only if there is something to build.
    label: what is built, for names of directories and messages.

  Returns:
    The cache, its arrays mapped read-only.

  Raises:
    OSError: if the disk has too little free space.
    ValueError: if N or `arrays` is empty, or `examples` yields other than N
      examples or another shape.

  Example:
    >>> import tempfile
    >>> import numpy as np
    >>> from slot_attention_jax.data import cache
    >>> with tempfile.TemporaryDirectory() as directory:
    ...   squares = cache.build_or_load(
    ...     directory, fingerprint={"power": 2}, num_examples=4,
    ...     arrays={"x": ((), np.int32)},
    ...     examples=lambda: ({"x": i**2} for i in range(4)), label="squares")
    ...   squares.arrays["x"].tolist()
    [0, 1, 4, 9]
  """
  if num_examples < 1 or not arrays:
    raise ValueError(
      f"{label}: expected at least 1 example and 1 array, got {num_examples} "
      f"and {len(arrays)}."
    )
  root = storage.to_local_path(
    default_directory() if directory is None else directory, "data.cache_dir"
  ).absolute()
  specs = {k: ((num_examples, *s), np.dtype(d)) for k, (s, d) in arrays.items()}
  full = {
    "format": _FORMAT,
    "arrays": {k: [list(s), d.str] for k, (s, d) in specs.items()},
    **fingerprint,
  }
  # Through JSON, so that it compares equal with what is read back.
  full = json.loads(json.dumps(full, sort_keys=True))
  digest = hashlib.sha256(json.dumps(full, sort_keys=True).encode())
  path = root / f"{label}-{digest.hexdigest()[:16]}"

  # Without a lock: a finished cache appears at once and never changes, and its
  # reader may not be allowed to write here.
  cached = _load(path, full)
  if cached is not None:
    return cached
  root.mkdir(parents=True, exist_ok=True)
  with _lock(path):
    # Another process may have built it in the meantime.
    cached = _load(path, full)
    if cached is not None:
      return cached
    for leftover in root.glob(f"{glob.escape(path.name)}.tmp-*"):
      logging.info("Removing an interrupted build, %s.", leftover)
      shutil.rmtree(leftover)
    _build(path, full, specs, examples, label)
    cached = _load(path, full)
  if cached is None:
    raise OSError(
      f"The cache {path} is damaged right after it was written. Check the disk "
      f"or choose another place with data.cache_dir or ${_ENVIRONMENT}."
    )
  return cached


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> Iterator[None]:
  """Holds the lock of a build; the system frees it if the process dies."""
  import filelock

  lock = filelock.FileLock(f"{path}.lock")
  try:
    lock.acquire(timeout=0)
  except filelock.Timeout:
    logging.warning("Waiting for another process that builds %s.", path)
    lock.acquire()
  try:
    yield
  finally:
    lock.release()


def _load(path: pathlib.Path, fingerprint: dict[str, Any]) -> Cache | None:
  """The cache in `path`, or None, with the reason logged, if it is damaged."""
  if not path.exists():
    return None
  try:
    metadata = json.loads((path / _METADATA).read_text(encoding="utf-8"))
    if metadata["fingerprint"] != fingerprint:
      raise ValueError("it was built from something else")
    arrays = {}
    for name, (shape, dtype) in fingerprint["arrays"].items():
      file, record = path / f"{name}.npy", metadata["files"][f"{name}.npy"]
      if file.stat().st_size != record["size"]:
        raise ValueError(f"{file.name} has another size")
      if not checksums.matches(file, record):
        raise ValueError(f"{file.name} has the wrong checksum")
      array = np.load(file, mmap_mode="r")
      if list(array.shape) != shape or array.dtype != np.dtype(dtype):
        raise ValueError(f"{file.name} is {array.shape} {array.dtype}")
      arrays[name] = array
  except (OSError, ValueError, KeyError, TypeError) as error:
    logging.warning("Rebuilding the cache %s: %s.", path, error)
    return None
  return Cache(path, fingerprint, arrays)


def _build(
  path: pathlib.Path,
  fingerprint: dict[str, Any],
  specs: dict[str, tuple[tuple[int, ...], np.dtype]],
  examples: Callable[[], Iterator[Mapping[str, np.ndarray]]],
  label: str,
) -> None:
  """Builds the cache beside `path` and renames it; the caller has the lock."""
  if path.exists():  # Damaged; its space may be needed.
    shutil.rmtree(path)
  needed = sum(int(np.prod(s)) * d.itemsize for s, d in specs.values())
  free = shutil.disk_usage(path.parent).free
  if free < needed:
    raise OSError(
      errno.ENOSPC,
      f"The cache of {label} needs {needed / 1e9:.2f} GB and {path.parent} has "
      f"{free / 1e9:.2f} GB free. Free some, or choose another place with "
      f"data.cache_dir or ${_ENVIRONMENT}.",
    )
  temporary = pathlib.Path(
    tempfile.mkdtemp(prefix=f"{path.name}.tmp-", dir=path.parent)
  )
  try:
    with files_lib.naming_errors(temporary):
      files = _write(temporary, specs, examples, label)
    metadata = {"fingerprint": fingerprint, "files": files}
    file = temporary / _METADATA
    with file.open("w", encoding="utf-8") as opened:
      json.dump(metadata, opened, indent=2)
      opened.flush()
      os.fsync(opened.fileno())
    _sync(temporary)
    temporary.chmod(0o755)  # mkdtemp's 0o700 would lock out other users.
    temporary.rename(path)
    _sync(path.parent)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def _sync(directory: pathlib.Path) -> None:
  """Syncs the entries of a directory to disk, so that they survive a crash."""
  if os.name == "nt":  # Windows opens no directories.
    return
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _write(
  directory: pathlib.Path,
  specs: Mapping[str, tuple[tuple[int, ...], np.dtype]],
  examples: Callable[[], Iterator[Mapping[str, np.ndarray]]],
  label: str,
) -> dict[str, dict[str, int]]:
  """Writes the .npy files, a row per example; returns sizes and checksums."""
  total = next(iter(specs.values()))[0][0]
  updates = checksums.incremental()
  start = {"size": 0} | dict.fromkeys(updates, 0)
  records = {f"{name}.npy": dict(start) for name in specs}
  row = -1
  with contextlib.ExitStack() as stack:
    bar = stack.enter_context(
      progress.Progress(total, f"Preparing {label}", "examples", log=True)
    )
    # Plain writes raise on a full disk; a memory map would kill the process.
    files = {
      f: stack.enter_context((directory / f).open("wb")) for f in records
    }

    def write(file: str, data: bytes) -> None:
      files[file].write(data)
      record = records[file]
      record["size"] += len(data)
      for name, update in updates.items():
        record[name] = update(record[name], data)

    for name, (shape, dtype) in specs.items():
      header = io.BytesIO()
      np.lib.format.write_array_header_1_0(
        header,
        {"descr": dtype.str, "fortran_order": False, "shape": shape},
      )
      write(f"{name}.npy", header.getvalue())
    for row, example in enumerate(examples()):
      if row >= total:
        break
      for name, (shape, dtype) in specs.items():
        value = np.asarray(example[name], dtype)
        if value.shape != shape[1:]:
          raise ValueError(
            f"{label}: expected {name} {shape[1:]}, got {value.shape} in "
            f"example {row}."
          )
        write(f"{name}.npy", value.tobytes())
      bar.update(row + 1)
    for file in files.values():
      file.flush()
      os.fsync(file.fileno())
  if row + 1 != total:
    raise ValueError(
      f"{label}: expected {total} examples, got "
      f"{'more' if row >= total else row + 1}. Is the source complete? Prepare "
      "it again."
    )
  return records
