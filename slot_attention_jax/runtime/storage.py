"""Where the files of a run lie: on a file system, or in a bucket.

`gs://BUCKET/...` is Google Cloud Storage, by etils.epath and gcsfs (extra
`gcs`); every other path is pathlib's. Both are used alike but for what buckets
lack: an object is written whole, and is not appended to, renamed or locked.
`move` here, `files.atomic_write`, `appended` and `object_lock` stand in.
"""

import contextlib
import errno
import importlib.util
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from etils import epath

  Path = pathlib.Path | epath.Path
else:
  Path = pathlib.Path

_SCHEME = "gs://"
_NEEDED = ("fsspec", "gcsfs", "google.cloud.storage")
# What a client's HTTP status says; others are of servers that have trouble.
_NUMBERS = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT}
# Packages that raise errors of their own on the way to a bucket.
_CLIENTS = ("aiohttp", "gcsfs", "google", "requests", "urllib3")
# Loggers that tell an error with its traceback before they raise it.
_LOUD = (
  "gcsfs",
  "gcsfs.credentials",
  "gcsfs.zonal_file",
  "fsspec",
  "fsspec.asyn",
  "fsspec.prefetcher",
)
# It tells of every file that it opens.
_TALKATIVE = "fsspec.caching"


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Whether a path is one in a bucket.

  Example:
    >>> from slot_attention_jax.runtime import storage
    >>> storage.is_remote("gs://bucket/run"), storage.is_remote("runs/a")
    (True, False)
  """
  return os.fspath(path).startswith(_SCHEME)


def to_path(name: str | os.PathLike[str]) -> Path:
  """The path of that name, absolute; nothing is read.

  Args:
    name: of a file system, where `~` is the home directory, or `gs://...`.

  Returns:
    A path of pathlib or, of a bucket, of etils.epath.

  Raises:
    ValueError: on a URL of another kind, or without a bucket; if the extra
      `gcs` is not installed.

  Example:
    >>> from slot_attention_jax.runtime import storage
    >>> storage.to_path("runs/a").is_absolute()
    True
    >>> storage.to_path("s3://bucket/run")
    Traceback (most recent call last):
      ...
    ValueError: Expected a path of a file system or gs://BUCKET/..., got ...
  """
  text = os.fspath(name)
  if "://" not in text:
    return pathlib.Path(text).expanduser().absolute()
  bucket, _, rest = text.removeprefix(_SCHEME).partition("/")
  if not is_remote(text) or not bucket or not rest.strip("/"):
    raise ValueError(
      f"Expected a path of a file system or {_SCHEME}BUCKET/..., got {text}. "
      "Mount other storage on every host and give the path of the mount, see "
      "docs/launch.md."
    )
  missing = [n for n in _NEEDED if not _is_installed(n)]
  if missing:
    raise ValueError(
      f"Expected {' and '.join(missing)} for {text}, which is not installed. "
      'Install it with pip install "slot_attention_jax[gcs]".'
    )
  _prepare()
  from etils import epath

  return epath.Path(text.rstrip("/"))


def to_local_path(name: str | os.PathLike[str], what: str) -> pathlib.Path:
  """The path of that name on a file system, as given but for `~`.

  Args:
    name: of a file system.
    what: what the path is for, for the message.

  Returns:
    The path.

  Raises:
    ValueError: on a URL, or on an empty name, as of an unset variable.

  Example:
    >>> from slot_attention_jax.runtime import storage
    >>> storage.to_local_path("gs://bucket/a", "--images")
    Traceback (most recent call last):
      ...
    ValueError: Expected a path of a file system as --images, got gs://...
  """
  if "://" in os.fspath(name):
    raise ValueError(
      f"Expected a path of a file system as {what}, got {name}. Copy the files "
      "there, or mount the storage and give the path of the mount."
    )
  if not os.fspath(name):
    raise ValueError(
      f"Expected a path as {what}, got an empty one. Give '.' for the current "
      "directory."
    )
  return pathlib.Path(name).expanduser()


def _is_installed(name: str) -> bool:
  try:
    return importlib.util.find_spec(name) is not None
  except ModuleNotFoundError:  # Of the package that it is in.
    return False


def _prepare() -> None:
  """Makes epath use gcsfs, and gcsfs remember no listings and log less.

  Where TensorFlow is installed, epath would use its client: another one than on
  hosts without it. A listing that is remembered lacks what other processes
  have written since.
  """
  os.environ.setdefault("EPATH_USE_TF", "0")
  import fsspec.config
  from etils.epath import gpath

  # What epath found out when another library used it first.
  found: Any = getattr(gpath, "_is_tf_installed", None)
  if hasattr(found, "cache_clear"):
    found.cache_clear()

  for name in ("gcs", "gs"):
    fsspec.config.conf.setdefault(name, {}).setdefault(
      "use_listings_cache", False
    )
  for name in _LOUD:
    logging.getLogger(name).addFilter(_without_traceback)
  talkative = logging.getLogger(_TALKATIVE)
  if talkative.level == logging.NOTSET:  # As the user has not set it.
    talkative.setLevel(logging.WARNING)


def _without_traceback(record: logging.LogRecord) -> bool:
  """Makes a record of a client's error one line; of others the traceback stays.

  The error is raised, too: what the package says of it comes last.
  """
  error = record.exc_info[1] if record.exc_info else None
  if error is not None and error_number(error) is not None:
    message = record.getMessage()
    if str(error) not in message or not str(error):
      message = f"{message.rstrip('.')}: {error!r}"
    record.msg, record.args = " ".join(message.split()), ()
    record.exc_info = record.exc_text = None
  return True


def open_path(name: str | os.PathLike[str], what: str = "--workdir") -> Path:
  """`to_path`, and makes sure that the bucket is there and may be read.

  Otherwise the first that reads or writes there would try for minutes.

  Args:
    name: of a directory or file, which need not exist.
    what: what the path is for, for the message.

  Returns:
    The path.

  Raises:
    ValueError: as `to_path`; if there is no such bucket.
    OSError: if the bucket cannot be reached, for half a minute, or read.
  """
  path = to_path(name)
  if not is_remote(path):
    return path
  bucket = os.fspath(path).removeprefix(_SCHEME).partition("/")[0]
  from google.cloud.storage import retry

  try:
    with naming_errors(f"{_SCHEME}{bucket}"):
      # Orbax asks the same.
      client().get_bucket(bucket, retry=retry.DEFAULT_RETRY.with_timeout(30))
  except FileNotFoundError as error:
    raise ValueError(
      f"Expected the bucket {_SCHEME}{bucket}, found none of this name. "
      f"Create it (gcloud storage buckets create {_SCHEME}{bucket}), or "
      f"correct {what}."
    ) from error
  return path


def client() -> Any:
  """A client of Google Cloud Storage with the credentials of this machine."""
  from google.cloud import storage

  # A bucket's name says all; the client need not know the project.
  project = os.environ.get("GOOGLE_CLOUD_PROJECT", "unknown")
  return storage.Client(project=project)


def move(source: Path, target: Path) -> None:
  """Moves a file; in a bucket it is there twice for a moment.

  Args:
    source: the file.
    target: where it goes; what is there is replaced. Its directory exists.
  """
  if not is_remote(source):
    source.replace(target)
    return
  with naming_errors(target):
    target.write_bytes(source.read_bytes())
    source.unlink()


def read_text(path: Path) -> str:
  """The text of a file; bytes that are no UTF-8 become U+FFFD."""
  with naming_errors(path):
    return path.read_bytes().decode("utf-8", errors="replace")


def size(path: Path) -> int:
  """Bytes of a file."""
  if is_remote(path):
    return path.stat().length  # pyright: ignore
  return path.stat().st_size  # pyright: ignore


@contextlib.contextmanager
def naming_errors(path: str | os.PathLike[str]) -> Iterator[None]:
  """Raises OSError, naming a path, for what clients of buckets raise.

  Args:
    path: what is written or read within the context.

  Raises:
    OSError: with a number, what the client says, and the path.
  """
  try:
    yield
  except Exception as error:
    number = error_number(error)
    if number is None or (isinstance(error, OSError) and error.filename):
      raise
    said = str(error).strip().replace("\n", " ")[:200].rstrip(". ")
    text = os.strerror(number) + (f" ({said})" if said else "")
    raise OSError(number, text, os.fspath(path)) from error


def error_number(error: BaseException) -> int | None:
  """The number of the system's error that a client's error amounts to.

  Args:
    error: any exception.

  Returns:
    `errno.EACCES` of missing permissions and credentials, `errno.ENOENT` of
    what is not there, `errno.EIO` of other errors of clients; None: none of
    these.
  """
  if isinstance(error, OSError) and error.errno:
    return error.errno
  if isinstance(error, FileNotFoundError):  # gcsfs gives no number.
    return errno.ENOENT
  if isinstance(error, OSError) and str(error).startswith("Forbidden"):
    return errno.EACCES
  if type(error).__module__.partition(".")[0] not in _CLIENTS:
    return None
  if type(error).__name__ == "DefaultCredentialsError":
    return errno.EACCES
  with contextlib.suppress(TypeError, ValueError):
    return _NUMBERS.get(int(getattr(error, "code", 0) or 0), errno.EIO)
  return errno.EIO
