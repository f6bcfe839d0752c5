"""A stand-in for the Hugging Face Hub: what up- and downloads need of it."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from urllib import parse


class Hub:
  """Repositories by name, each a dict of files; and what it was asked."""

  def __init__(self):
    self.repositories = {}
    self.requests = []
    self.url = ""

  def commit(self, name):
    """The commit of a repository, a digest of what it holds."""
    files = self.repositories[name]
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
  hub: Hub

  def log_message(self, *args):
    pass

  def _answer(self, status, content=b"", **headers):
    if not isinstance(content, bytes):
      content = json.dumps(content).encode()
      headers["Content-Type"] = "application/json"
    self.send_response(status)
    length = headers.pop("length", len(content))
    for name, value in headers.items():
      self.send_header(name.replace("_", "-"), value)
    self.send_header("Content-Length", str(length))
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(content)

  def _resolve(self):
    self.hub.requests.append((self.command, self.path))
    path = parse.unquote(self.path.partition("?")[0])
    match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
    name, revision, file = match.groups() if match else ("", "", "")
    if name not in self.hub.repositories:
      return self._answer(401, X_Error_Code="RepoNotFound")
    commit = self.hub.commit(name)
    if revision not in ("main", commit):
      return self._answer(404, X_Error_Code="RevisionNotFound")
    content = self.hub.repositories[name].get(file)
    headers = {"X_Repo_Commit": commit}
    if content is None:
      return self._answer(404, X_Error_Code="EntryNotFound", **headers)
    digest = hashlib.sha256(content).hexdigest()
    return self._answer(200, content, ETag=f'"{digest}"', **headers)

  do_GET = do_HEAD = _resolve

  def do_POST(self):
    self.hub.requests.append((self.command, self.path))
    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
    if self.path == "/api/repos/create":
      if "Authorization" not in self.headers:
        return self._answer(401, {"error": "Invalid username or password."})
      asked = json.loads(body)
      name = f"{asked.get('organization', 'me')}/{asked['name']}"
      exists = name in self.hub.repositories
      self.hub.repositories.setdefault(name, {})
      answer = {"url": f"{self.hub.url}/{name}", "id": name, "name": name}
      return self._answer(409 if exists else 200, answer)
    if self.path == "/api/validate-yaml":
      return self._answer(200, {"errors": [], "warnings": []})
    name = re.match(r"/api/models/([^/]+/[^/]+)/", self.path)[1]
    if "/preupload/" in self.path:
      modes = [
        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
        for f in json.loads(body)["files"]
      ]
      return self._answer(200, {"files": modes})
    for line in body.splitlines():
      item = json.loads(line)
      if item["key"] == "file":
        value = item["value"]
        content = base64.b64decode(value["content"])
        self.hub.repositories[name][value["path"]] = content
    commit = self.hub.commit(name)
    answer = {
      "success": True,
      "commitOid": commit,
      "commitUrl": f"{self.hub.url}/{name}/commit/{commit}",
    }
    return self._answer(200, answer)


@contextlib.contextmanager
def running():
  """A hub that answers on a port of this machine."""
  hub = Hub()
  handler = type("Handler", (_Handler,), {"hub": hub})
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
  hub.url = f"http://127.0.0.1:{server.server_port}"
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  try:
    yield hub
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
