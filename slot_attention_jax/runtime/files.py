"""Atomic writes of files: JSON, PNG, anything."""

import contextlib
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from slot_attention_jax.runtime import json_kinds, storage


def jsonable(value: Any) -> Any:
  """Copies nested values; infinity and NaN, unknown to JSON, become text."""
  if isinstance(value, dict):
    return {k: jsonable(v) for k, v in value.items()}
  if isinstance(value, tuple | list):
    return [jsonable(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value


def read_json(
  path: Any,
  remedy: str,
  keys: Sequence[str] | json_kinds.Kinds = (),
  optional: json_kinds.Kinds | None = None,
) -> dict[str, Any]:
  """Reads a JSON object.

  Args:
    path: a path with `read_text`, local or of etils.epath.
    remedy: what to do if it is damaged, a sentence.
    keys: that the object must have, alone or with their kinds.
    optional: kinds of keys that it may lack.

  Returns:
    The object.

  Raises:
    OSError: if it cannot be opened.
    ValueError: if it is no JSON object with these keys, or their values are of
      another kind; it names the file.

  Example:
    >>> import pathlib, tempfile
    >>> from slot_attention_jax.runtime import files
    >>> path = pathlib.Path(tempfile.mkdtemp(), "config.json")
    >>> files.write_json(path, {"checkpoint": 3})
    >>> files.read_json(path, "Train again.", {"checkpoint": {"keep": int}})
    Traceback (most recent call last):
      ...
    ValueError: Expected .../config.json to have an object as 'checkpoint', ...
  """
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  # Nested a million times, JSON is too deep for Python.
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f"Expected {path} to be JSON, but it is damaged: {error}. {remedy}"
    ) from error
  if not isinstance(content, dict):
    raise ValueError(
      f"Expected {path} to be a JSON object, got {type(content).__name__}. "
      f"{remedy}"
    )
  if not isinstance(keys, Mapping):
    keys = dict.fromkeys(keys, object)
  problem = json_kinds.problem(content, keys, all_needed=True)
  if problem := problem or json_kinds.problem(content, optional or {}):
    raise ValueError(f"Expected {path} to have {problem}. {remedy}")
  return content


def write_json(path: storage.Path, content: dict[str, Any]) -> None:
  """Writes JSON atomically."""
  text = json.dumps(jsonable(content), indent=2, allow_nan=False)
  with atomic_write(path) as temporary:
    temporary.write_text(text + "\n")


@contextlib.contextmanager
def atomic_write(path: storage.Path) -> Iterator[pathlib.Path]:
  """Gives a temporary file, which replaces `path` at the end if nothing failed.

  Args:
    path: the file, local or in a bucket; its directory is made if it does not
      exist.

  Yields:
    Path of the temporary file, local, and in the same directory if `path` is
    local too.

  Raises:
    OSError: naming `path`, if it cannot be written; it is as it was then.
  """
  if storage.is_remote(path):
    with tempfile.TemporaryDirectory() as directory:
      temporary = pathlib.Path(directory) / path.name
      yield temporary
      with storage.naming_errors(path):
        path.write_bytes(temporary.read_bytes())
    return
  local = pathlib.Path(path)
  temporary = local.with_name(f".{local.name}.tmp")
  with naming_errors(path):
    local.parent.mkdir(parents=True, exist_ok=True)
    try:
      yield temporary
      temporary.replace(local)
    finally:
      with contextlib.suppress(OSError):  # What failed first is the reason.
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming_errors(path: str | os.PathLike[str]) -> Iterator[None]:
  """Gives a path to errors of the system that name none, as of a full disk.

  Args:
    path: what is written or read within the context.

  Raises:
    OSError: of the same kind, with a filename.

  Example:
    >>> import errno
    >>> from slot_attention_jax.runtime import files
    >>> with files.naming_errors("x.json"):
    ...   raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
      ...
    OSError: [Errno 28] No space left on device: 'x.json'
  """
  try:
    yield
  except OSError as error:
    if error.errno is None or error.filename is not None or not error.strerror:
      raise
    raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def save_png(path: str | storage.Path, image: np.ndarray) -> None:
  """Writes an image [H, W, 3] or [H, W] uint8 as PNG, atomically."""
  from PIL import Image

  path = storage.to_path(path) if isinstance(path, str) else path
  with atomic_write(path) as temporary:
    Image.fromarray(image).save(temporary, format="PNG")
