"""Paths of file systems and of buckets, and what their errors become."""

import errno
import importlib.util
import logging
import pathlib

import pytest

import slot_attention_jax as sa
from slot_attention_jax import export_weights
from slot_attention_jax.predict import trained_model
from slot_attention_jax.runtime import storage, user_errors
from tests import bucket


def test_paths_of_file_systems_are_of_pathlib(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("HOME", str(tmp_path))
  for name in ("runs/a", pathlib.Path("runs/a"), "~/runs/a"):
    path = storage.to_path(name)
    assert path == tmp_path / "runs" / "a"
    assert isinstance(path, pathlib.Path)
    assert not storage.is_remote(path)


@pytest.mark.skipif(
  importlib.util.find_spec("gcsfs") is None, reason="needs gcsfs"
)
def test_paths_of_buckets_stay_what_they_are():
  path = storage.to_path("gs://bucket/runs/a/")
  assert str(path) == "gs://bucket/runs/a"
  assert storage.is_remote(path)
  assert storage.is_remote(path / "x.json")
  assert storage.to_path(path) == path
  assert (path / "x.json").name == "x.json"


@pytest.mark.parametrize(
  "name", ["s3://bucket/run", "gs://", "gs://bucket", "gs://bucket/", "gs:///a"]
)
def test_other_urls_are_errors(name):
  with pytest.raises(ValueError, match=r"Expected a path .* gs://BUCKET/"):
    storage.to_path(name)


def test_a_missing_extra_is_an_error_that_names_it(monkeypatch):
  find_spec = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name: None if name == "gcsfs" else find_spec(name),
  )
  with pytest.raises(
    ValueError,
    match=r'Expected gcsfs .*pip install "slot_attention_jax\[gcs\]"',
  ):
    storage.to_path("gs://bucket/run")


class ClientError(Exception):
  """As a client of a bucket raises it."""

  __module__ = "google.api_core.exceptions"

  def __init__(self, code=None):
    super().__init__(f"{code} POST https://storage.googleapis.com:\nno.")
    self.code = code


@pytest.mark.parametrize(
  ("error", "expected"),
  [
    (ClientError(403), errno.EACCES),
    (ClientError("401"), errno.EACCES),
    (ClientError(404), errno.ENOENT),
    (ClientError(503), errno.EIO),
    (ClientError(), errno.EIO),
    # As gcsfs raises them.
    (OSError("Forbidden: https://storage\nno"), errno.EACCES),
    (FileNotFoundError("b/bucket/o/run"), errno.ENOENT),
    (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
    (KeyError("a bug"), None),
    (OSError("anything"), None),
  ],
)
def test_clients_errors_have_the_numbers_of_the_system(error, expected):
  assert storage.error_number(error) == expected


def test_clients_errors_become_one_line_that_names_the_path():
  with (
    pytest.raises(PermissionError) as caught,
    storage.naming_errors("gs://bucket/run/a.json"),
  ):
    raise ClientError(403)
  assert user_errors.is_users(caught.value)
  text = user_errors.describe(caught.value)
  assert text.startswith("Cannot read or write gs://bucket/run/a.json: Permis")
  assert "403 POST https://storage.googleapis.com: no" in text
  assert text.endswith("Choose a directory that this user may use.")
  assert "\n" not in text
  with pytest.raises(KeyError), storage.naming_errors("gs://bucket/run"):
    raise KeyError


@pytest.mark.skipif(
  importlib.util.find_spec("gcsfs") is None, reason="needs gcsfs"
)
@pytest.mark.parametrize("name", ["gcsfs", "gcsfs.credentials", "fsspec.asyn"])
def test_clients_log_their_errors_in_one_line_and_others_whole(name, caplog):
  storage.to_path("gs://bucket/run")
  client = logging.getLogger(name)

  def log(error, message):
    caplog.clear()
    try:
      raise error
    except Exception:
      client.exception(message)
    (record,) = caplog.records
    return record.levelname, record.getMessage(), bool(record.exc_info)

  said = "503 POST https://storage.googleapis.com: no."
  kept = f"no retry: {said}"
  message = f"no retry:\n{ClientError(503)}"
  assert log(ClientError(503), message) == ("ERROR", kept, False)
  level, text, has_traceback = log(ClientError(503), "Cannot close.")
  assert (level, has_traceback) == ("ERROR", False)
  assert text.startswith("Cannot close: ClientError('503 POST https")
  # A bug is told with the place where it is.
  assert log(KeyError("x"), "failed") == ("ERROR", "failed", True)
  caplog.clear()
  client.warning("slow: %d s", 3)
  assert caplog.messages == ["slow: 3 s"]


@pytest.mark.skipif(
  importlib.util.find_spec("gcsfs") is None, reason="needs gcsfs"
)
def test_a_refused_read_logs_no_traceback(monkeypatch, caplog):
  with (
    bucket.refusing(401, "no access") as url,
    bucket.clients_use(url, monkeypatch),
    pytest.raises(PermissionError, match=r"access.*gs://bucket/run/a\.json"),
  ):
    storage.read_text(storage.to_path("gs://bucket/run/a.json"))
  assert any("non-retriable" in message for message in caplog.messages)
  assert not any(record.exc_info for record in caplog.records)


def test_move_replaces_a_file(tmp_path):
  source, target = tmp_path / "a", tmp_path / "b"
  source.write_text("new")
  target.write_text("old")
  assert storage.size(source) == 3
  storage.move(source, target)
  assert target.read_text() == "new"
  assert not source.exists()


def test_what_must_be_local_is_refused_in_a_bucket(tmp_path, capsys):
  from slot_attention_jax.data import cache
  from slot_attention_jax.predict import command_line

  with pytest.raises(ValueError, match=r"as data\.cache_dir, got gs://bucket"):
    cache.build_or_load(
      "gs://bucket/cache",
      fingerprint={},
      num_examples=1,
      arrays={"x": ((), "int32")},
      examples=lambda: iter(()),
      label="x",
    )
  for images, output in [("gs://b/i", "o"), (str(tmp_path), "gs://b/o")]:
    (tmp_path / "a.png").write_bytes(b"")
    arguments = ["--model=quickstart", f"--images={images}"]
    with pytest.raises(SystemExit):
      command_line.main([*arguments, f"--output={output}"])
    error = capsys.readouterr().err
    assert "Error: Expected a path of a file system as --" in error


@pytest.mark.skipif(
  importlib.util.find_spec("gcsfs") is None, reason="needs gcsfs"
)
def test_outputs_in_buckets_out_of_reach_are_errors_at_once(
  tmp_path, monkeypatch
):
  def no_client():
    raise ClientError("no network")

  monkeypatch.setattr(storage, "client", no_client)
  for write in (
    lambda: sa.write_report(tmp_path, "gs://bucket/a.html"),
    lambda: export_weights.export_weights(str(tmp_path), "a", "gs://bucket/w"),
  ):
    with pytest.raises(OSError, match=r"no network.*gs://bucket") as info:
      write()
    assert user_errors.is_users(info.value)
    assert "Check the disk or" in user_errors.describe(info.value)


@pytest.mark.skipif(
  importlib.util.find_spec("gcsfs") is None, reason="needs gcsfs"
)
def test_a_missing_bucket_of_another_path_than_a_workdir_is_not_called_one(
  tmp_path, monkeypatch
):
  class Client:
    def get_bucket(self, name, **kwargs):
      raise FileNotFoundError(name)

  monkeypatch.setattr(storage, "client", Client)
  for read in (
    lambda: trained_model.load("gs://bucket/run"),
    lambda: sa.write_report(["gs://bucket/run"], tmp_path / "a.html"),
  ):
    with pytest.raises(ValueError, match=r"gs://bucket\), or correct the path"):
      read()
