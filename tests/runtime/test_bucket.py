"""Files, appended files and locks in a bucket, against an emulator."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from slot_attention_jax.runtime import (
  appended,
  files,
  object_lock,
  storage,
)
from slot_attention_jax.training import run_lock, tensorboard_events, writers
from tests import bucket

pytestmark = bucket.needs_emulator


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
  with (
    pytest.MonkeyPatch.context() as monkeypatch,
    bucket.emulator(tmp_path_factory.mktemp("gcs")) as running,
    bucket.clients_use(running.url, monkeypatch),
  ):
    yield running


@pytest.fixture
def directory(emulator, request):
  return storage.open_path(f"gs://{bucket.NAME}/{request.node.name}")


@pytest.fixture
def short_lease(monkeypatch):
  monkeypatch.setattr(object_lock, "RENEWAL_SECONDS", 0.1)
  monkeypatch.setattr(object_lock, "LEASE_SECONDS", 1.0)
  monkeypatch.setattr(object_lock, "_POLL_SECONDS", 0.1)


def test_a_program_that_used_epath_before_gets_the_same_client(emulator):
  gpath = pytest.importorskip("etils.epath.gpath")
  with pytest.MonkeyPatch.context() as monkeypatch:
    monkeypatch.delenv("EPATH_USE_TF", raising=False)
    gpath._is_tf_installed.cache_clear()
    gpath._is_tf_installed()  # As any local path does.
  path = storage.open_path(f"gs://{bucket.NAME}/run")
  assert type(path._backend).__name__ == "_FileSystemSpecBackend"


def test_a_file_is_written_whole_or_not_at_all(emulator, directory):
  files.write_json(directory / "a.json", {"a": 1})
  assert files.read_json(directory / "a.json", "") == {"a": 1}
  with (
    contextlib.suppress(KeyError),
    files.atomic_write(directory / "a.json") as temporary,
  ):
    temporary.write_text("half")
    raise KeyError
  assert files.read_json(directory / "a.json", "") == {"a": 1}
  assert storage.size(directory / "a.json") == len('{\n  "a": 1\n}\n')
  files.save_png(directory / "images" / "1.png", np.zeros((2, 2, 3), np.uint8))
  storage.move(directory / "a.json", directory / "earlier" / "a.json")
  names = {p.name for p in directory.iterdir()}
  assert names == {"images", "earlier"}
  assert (directory / "earlier").is_dir()


def test_what_is_appended_is_there_after_a_flush(emulator, directory):
  path, name = directory / "log", f"{directory.name}/log"
  file = appended.open_file(path)
  assert emulator.read(name) == b""
  file.write(b"one ")
  assert emulator.read(name) == b""
  file.flush()
  assert emulator.read(name) == b"one "
  before = len(emulator.log.read_text())
  file.flush()  # Nothing new: no request.
  assert len(emulator.log.read_text()) == before
  file.write(b"two ")
  file.close()
  file = appended.open_file(path)
  file.write(b"three")
  file.close()
  assert emulator.read(name) == b"one two three"
  assert file.size == 13


def test_rows_after_the_checkpoint_are_dropped(emulator, directory):
  path = directory / "metrics.jsonl"
  writer = writers.JsonlWriter(path)
  for step in (1, 2, 3):
    writer.write_scalars(step, {"loss": 1.0 / step})
  writer.close()
  writer = writers.JsonlWriter(path)
  writer.truncate_after(2)
  writer.write_scalars(3, {"loss": 5.0})
  writer.close()
  rows = writers.read_rows(path)
  assert [row["step"] for row in rows] == [1, 2, 3]
  assert rows[-1]["loss"] == 5.0
  assert writers.has_metrics(path, 3, "loss")


def test_large_files_of_events_are_ended(emulator, directory, monkeypatch):
  monkeypatch.setattr(tensorboard_events, "_MOST_BYTES", 300)
  writer = tensorboard_events.TensorBoardWriter(directory)
  for step in range(20):
    writer.write_scalars(step, {"loss": 1.0})
    writer.flush()
  writer.close()
  names = emulator.names(f"{directory.name}/events.out.tfevents.")
  assert 2 < len(names) < 10
  content = b"".join(emulator.read(name) for name in names)
  assert content.count(b"loss") == 20
  assert content.count(b"brain.Event:2") == len(names)


def test_a_second_run_is_refused_while_the_first_renews(directory, short_lease):
  with run_lock.hold(directory):
    time.sleep(0.5)  # Renewed a few times.
    who = f"process {os.getpid()} on "
    with pytest.raises(ValueError, match=who), run_lock.hold(directory):
      pass
  with run_lock.hold(directory):  # Free again.
    pass
  assert not (directory / ".training.json").exists()


def test_a_lock_that_nobody_renews_is_taken_over(directory, short_lease):
  holder = {"host": "far", "machine": "another", "pid": 1, "token": "x"}
  files.write_json(directory / ".training.json", holder)
  began = time.monotonic()
  with run_lock.hold(directory):
    assert time.monotonic() - began >= 1.0
    path = directory / ".training.json"
    assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_lock_of_a_process_that_is_dead_is_taken_over_at_once(directory):
  with subprocess.Popen([sys.executable, "-c", ""]) as process:
    process.wait()
  holder = {"machine": object_lock._machine(), "pid": process.pid}
  files.write_json(directory / ".training.json", holder)
  began = time.monotonic()
  with run_lock.hold(directory):
    assert time.monotonic() - began < object_lock.LEASE_SECONDS / 2


def test_who_loses_the_lock_ends(directory, short_lease, monkeypatch):
  ended = threading.Event()
  monkeypatch.setattr(
    object_lock.processes, "exit_now", lambda reason: ended.set()
  )
  with object_lock.try_hold(directory / "lock", {}) as mine:
    assert mine
    files.write_json(directory / "lock", {"token": "another"})
    assert ended.wait(10)
  # It is not deleted: it is another's.
  assert files.read_json(directory / "lock", "") == {"token": "another"}


def test_a_renewal_whose_answer_was_lost_is_ones_own(directory):
  blob = object_lock._blob(directory / "lock")
  content = {"token": "mine"}
  assert object_lock._write(blob, content, 0)
  # The answer to the first try did not arrive: the second is refused.
  assert object_lock._write(blob, content, 0)
  assert not object_lock._write(blob, {"token": "other"}, 0)


def test_a_missing_bucket_is_an_error(emulator):
  with pytest.raises(ValueError, match="gcloud storage buckets create gs://no"):
    storage.open_path("gs://no-bucket/run")


def test_a_missing_permission_is_an_error(monkeypatch):
  with (
    bucket.refusing(403, "no storage.buckets.get access") as url,
    bucket.clients_use(url, monkeypatch),
    pytest.raises(PermissionError, match=r"storage\.buckets\.get access"),
  ):
    storage.open_path(f"gs://{bucket.NAME}/run")
