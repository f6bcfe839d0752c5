"""Files of the web, from a server on this machine that drops connections."""

import http.server
import threading

import pytest

from slot_attention_jax.data.multi_object import remote_file

DATA = bytes(i * 7 % 251 for i in range(50_000))


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves /file, and /short of which each answer ends after 20,000 bytes."""

  def do_GET(self):
    self.server.requests.append((self.path, self.headers.get("Range")))
    if self.path == "/busy" and len(self.server.requests) < 3:
      self.send_error(503)
      return
    if self.path == "/none":
      self.send_error(404)
      return
    if self.path == "/broken":
      self.send_error(503)
      return
    start = 0
    if self.headers.get("Range") and self.path != "/norange":
      start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
      self.send_response(206)
    else:
      self.send_response(200)
    longer = 1 if self.path == "/longer" and start else 0
    self.send_header("Content-Length", str(len(DATA) - start + longer))
    changed = self.path == "/changed" and start
    self.send_header("ETag", "two" if changed else "one")
    self.end_headers()
    data = DATA[start:]
    whole = self.path in ("/file", "/busy")
    self.wfile.write(data if whole else data[:20_000])

  def log_message(self, *args):
    pass


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setattr(remote_file, "_FIRST_PAUSE", 0.001)
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    server.requests = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()


def read_all(file, size):
  parts = []
  with file:
    while part := file.read(size):
      parts.append(part)
      assert len(part) <= size
  return b"".join(parts)


def test_a_file_is_read_whole(server):
  file = remote_file.RemoteFile(f"{server.url}/file")
  assert (file.size, file.position) == (len(DATA), 0)
  assert read_all(file, 1 << 14) == DATA
  assert file.position == len(DATA)
  assert server.requests == [("/file", None)]


def test_a_broken_connection_resumes_where_it_was(server, caplog):
  file = remote_file.RemoteFile(f"{server.url}/short")
  assert read_all(file, 1 << 14) == DATA
  assert server.requests == [
    ("/short", None),
    ("/short", "bytes=20000-"),
    ("/short", "bytes=40000-"),
  ]
  assert "after 20000 bytes" in caplog.text


def test_it_gives_up_after_some_attempts(server):
  file = remote_file.RemoteFile(f"{server.url}/short", attempts=3)
  file.read(100)
  file.url = f"{server.url}/broken"
  file._disconnect()
  with pytest.raises(OSError, match=r"broke 3 times .* 100 bytes.*--source"):
    file.read(100)
  assert [path for path, _ in server.requests].count("/broken") == 3
  file.close()


def test_a_missing_file_is_an_error_at_once(server):
  with pytest.raises(FileNotFoundError, match=r"404.*Check --source"):
    remote_file.RemoteFile(f"{server.url}/none")


def test_a_busy_server_is_waited_for(server):
  assert read_all(remote_file.RemoteFile(f"{server.url}/busy"), 1 << 16) == DATA
  assert [path for path, _ in server.requests] == ["/busy"] * 3
  with pytest.raises(OSError, match=r"/broken broke 2 times .* 0 bytes.*503"):
    remote_file.RemoteFile(f"{server.url}/broken", attempts=2)


@pytest.mark.parametrize("url", ["{dead}/file", "http://a b/file"])
def test_no_connection_is_an_error_at_once(url, server, monkeypatch):
  monkeypatch.setattr(remote_file, "_FIRST_PAUSE", 1e6)
  with http.server.HTTPServer(("127.0.0.1", 0), Handler) as other:
    dead = f"http://127.0.0.1:{other.server_port}"
  url = url.format(dead=dead)
  with pytest.raises(OSError, match=rf"connection to {url} .*--source"):
    remote_file.RemoteFile(url)


@pytest.mark.parametrize("path", ["changed", "longer", "norange"])
def test_parts_of_different_files_are_never_joined(path, server):
  file = remote_file.RemoteFile(f"{server.url}/{path}")
  with pytest.raises(FileNotFoundError, match="from byte 20000"):
    read_all(file, 1 << 14)


def test_buckets_are_read_over_https(monkeypatch):
  urls = []

  def connect(self):
    urls.append(self.url)

  monkeypatch.setattr(remote_file.RemoteFile, "_connect", connect)
  remote_file.RemoteFile("gs://bucket/a/b.tfrecords").close()
  assert urls == ["https://storage.googleapis.com/bucket/a/b.tfrecords"]
  assert remote_file.is_remote("gs://bucket")
  assert not remote_file.is_remote("/gs/bucket")
