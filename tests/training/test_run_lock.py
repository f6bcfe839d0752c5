"""One training at a time in a directory, whatever became of the last one."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from slot_attention_jax.training import run_lock

# As `run_lock` does it, without the seconds that importing JAX takes.
HOLDER = """
import filelock, sys, time
lock = filelock.FileLock(sys.argv[1] + "/.training.lock")
lock.acquire(timeout=0)
open(sys.argv[1] + "/.training.json", "w").write(sys.argv[2])
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    (
      '{"pid": 12, "host": "far", "since": "2026-01-02"}',
      "process 12 on far since 2026-01-02",
    ),
    ("{", "a process holds"),
    ("[]", "a process holds"),
  ],
)
def test_a_held_directory_is_refused_until_the_holder_is_killed(
  text, expected, tmp_path
):
  command = [sys.executable, "-c", HOLDER, str(tmp_path), text]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout.readline() == "held\n"
    with (
      pytest.raises(ValueError, match=f"{expected}.*--workdir"),
      run_lock.hold(tmp_path),
    ):
      pass
    assert (tmp_path / ".training.json").read_text() == text
    process.send_signal(signal.SIGKILL)
  with run_lock.hold(tmp_path):
    pass


def test_the_holder_says_who_it_is(tmp_path):
  who = f"process {os.getpid()} on {socket.gethostname()} since 20"
  with (
    run_lock.hold(tmp_path / "run"),
    pytest.raises(ValueError, match=who),
    run_lock.hold(tmp_path / "run"),
  ):
    pass
  # Free again, also after an error.
  with pytest.raises(KeyError), run_lock.hold(tmp_path / "run"):
    raise KeyError
  with run_lock.hold(tmp_path / "run"):
    pass
  assert not (tmp_path / "run" / ".training.json").exists()


def test_without_locks_of_the_file_system_a_run_goes_on(
  tmp_path, monkeypatch, caplog
):
  import filelock

  def acquire(self, timeout):
    raise OSError(run_lock.errno.ENOLCK, "No locks available")

  monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
  with run_lock.hold(tmp_path):
    pass
  assert "nothing keeps a second training out" in caplog.text


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(OSError, match="file"), run_lock.hold(tmp_path / "file"):
    pass
