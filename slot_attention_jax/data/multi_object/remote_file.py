"""Web files, and those of public Google Cloud buckets, as streams that resume.

The files have gigabytes and are converted as they come, so what is needed is a
stream that resumes where a connection broke. Of the libraries tried, fsspec and
smart_open raise an error there; pooch and huggingface_hub try again, but need
the whole file on disk.
"""

import http.client
import io
import itertools
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from absl import logging

_TIMEOUT = 60.0  # Seconds without a byte.
_FIRST_PAUSE = 1.0  # Seconds, doubled with each attempt.
_MAY_PASS = (408, 429)  # Timed out, too many requests.


def is_remote(path: str) -> bool:
  """Whether a path is one that `RemoteFile` reads."""
  return path.startswith(("gs://", "https://", "http://"))


class RemoteFile(io.RawIOBase):
  """Reads a web file from its beginning to its end.

  A connection that breaks is made again, from the byte that is next.

  Args:
    url: `https://...`, or `gs://BUCKET/PATH` of a public bucket, which is read
      over HTTPS.
    attempts: how many connections in a row may fail.

  Raises:
    FileNotFoundError: if there is no such file.
    OSError: if it cannot be had, also from `read`.
  """

  def __init__(self, url: str, *, attempts: int = 6):
    if url.startswith("gs://"):
      url = f"https://storage.googleapis.com/{url.removeprefix('gs://')}"
    self.url = url
    self._attempts = attempts
    self._position = 0
    self._size: int | None = None
    self._etag: str | None = None
    self._response: Any = None
    self._connected = False  # At least once.
    self._persist(self._connect)

  @property
  def size(self) -> int | None:
    """Bytes of the whole file; None if the server does not say."""
    return self._size

  @property
  def position(self) -> int:
    """Bytes that were read."""
    return self._position

  def readable(self) -> bool:
    """True."""
    return True

  def read(self, size: int = -1) -> bytes:
    """Reads up to `size` bytes; none only at the end of the file."""
    if not size or self._position == self._size:
      return b""
    data = self._persist(lambda: self._read_once(size))
    self._position += len(data)
    return data

  def close(self) -> None:
    """Ends the connection."""
    self._disconnect()
    super().close()

  def _disconnect(self) -> None:
    if self._response is not None:
      self._response.close()
      self._response = None

  def _persist(self, action: Callable[[], Any]) -> Any:
    """Does what needs the connection, again after what may pass."""
    for failures in itertools.count(1):
      try:
        return action()
      except FileNotFoundError:
        raise
      except (OSError, http.client.HTTPException) as error:
        self._disconnect()
        # A busy server is worth waiting for; no network at all, or the name of
        # no server, is not.
        answered = isinstance(error, urllib.error.HTTPError)
        may_pass = self._connected or answered
        if failures >= self._attempts or not may_pass:
          raise OSError(
            f"The connection to {self.url} broke {failures} times in a row "
            f"after {self._position} bytes ({error}). Try again later, or "
            "download the file and name it with --source."
          ) from error
        pause = _FIRST_PAUSE * 2 ** (failures - 1)
        logging.warning(
          "%s after %d bytes of %s; again in %g s.",
          error,
          self._position,
          self.url,
          pause,
        )
        time.sleep(pause)
    raise AssertionError

  def _read_once(self, size: int) -> bytes:
    response = self._response or self._connect()
    data = response.read(None if size < 0 else size)
    if not data and self._size not in (None, self._position):
      raise http.client.IncompleteRead(b"")
    return data

  def _connect(self) -> Any:
    request = urllib.request.Request(self.url)
    if self._position:
      request.add_header("Range", f"bytes={self._position}-")
    try:
      response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
      error.close()
      if error.code < 500 and error.code not in _MAY_PASS:
        raise FileNotFoundError(
          f"Expected a file at {self.url}, the server says {error.code} "
          f"{error.reason}. Check --source, --name and --variant."
        ) from error
      raise
    etag = response.headers.get("ETag")
    length = response.headers.get("Content-Length")
    size = None if length is None else self._position + int(length)
    whole = response.status == 206 and (etag, size) == (self._etag, self._size)
    if self._position and not whole:
      response.close()
      raise FileNotFoundError(
        f"{self.url} cannot be read on from byte {self._position}: the file "
        "changed or the server does not do so. Download it and name it with "
        "--source."
      )
    self._size, self._etag = size, etag
    self._response, self._connected = response, True
    return response
