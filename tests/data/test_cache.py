"""The cache survives interruptions, damage, changes and company."""

import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import types as builtin_types
import zlib

import google_crc32c
import numpy as np
import pytest

from slot_attention_jax.data import cache
from slot_attention_jax.runtime import signals

_ARRAYS = {"x": ((2,), np.float32), "name": ((), "S8")}


def _examples(size, scale=1.0):
  for i in range(size):
    yield {"x": np.full(2, scale * i), "name": f"n{i}".encode()}


def _build(directory, *, size=5, scale=1.0, examples=None, fingerprint=None):
  return cache.build_or_load(
    directory,
    fingerprint=fingerprint or {"scale": scale},
    num_examples=size,
    arrays=_ARRAYS,
    examples=examples or (lambda: _examples(size, scale)),
    label="numbers",
  )


def _forbidden():
  raise AssertionError("The cache was built although it could be loaded.")


def _check(cached, size=5, scale=1.0):
  expected = scale * np.repeat(np.arange(size, dtype=np.float32)[:, None], 2, 1)
  np.testing.assert_array_equal(cached.arrays["x"], expected)
  assert cached.arrays["name"].tolist() == [b"n%d" % i for i in range(size)]


def _directories(directory):
  return sorted(p.name for p in pathlib.Path(directory).iterdir() if p.is_dir())


def test_builds_once_and_loads(tmp_path):
  first = _build(tmp_path / "new" / "place")
  second = _build(tmp_path / "new" / "place", examples=_forbidden)
  _check(first)
  _check(second)
  assert first.directory == second.directory
  assert isinstance(second.arrays["x"], np.memmap)
  with pytest.raises(ValueError, match="read-only"):
    second.arrays["x"][0] = 1.0


def test_fingerprint_decides(tmp_path):
  _check(_build(tmp_path, scale=1.0), scale=1.0)
  _check(_build(tmp_path, scale=2.0), scale=2.0)
  _check(_build(tmp_path, scale=1.0, examples=_forbidden), scale=1.0)
  assert len(_directories(tmp_path)) == 2


def test_number_of_examples_decides(tmp_path):
  _check(_build(tmp_path, size=5), size=5)
  _check(_build(tmp_path, size=4), size=4)


def test_stale_fingerprint_is_rebuilt(tmp_path, caplog):
  path = _build(tmp_path).directory / "metadata.json"
  metadata = json.loads(path.read_text())
  metadata["fingerprint"]["scale"] = 7.0
  path.write_text(json.dumps(metadata))
  _check(_build(tmp_path, scale=1.0))
  assert "Rebuilding" in caplog.text
  _check(_build(tmp_path, examples=_forbidden))


def _truncate(directory):
  with (directory / "x.npy").open("r+b") as file:
    file.truncate(file.seek(0, os.SEEK_END) - 4)


def _flip(directory):
  with (directory / "x.npy").open("r+b") as file:
    file.seek(-3, os.SEEK_END)
    byte = file.read(1)[0]
    file.seek(-3, os.SEEK_END)
    file.write(bytes([byte ^ 1]))


def _remove(directory):
  (directory / "name.npy").unlink()


def _spoil_metadata(directory):
  (directory / "metadata.json").write_text("{")


@pytest.mark.parametrize(
  "damage",
  [_truncate, _flip, _remove, _spoil_metadata],
  ids=lambda f: f.__name__,
)
def test_damage_is_rebuilt(tmp_path, caplog, damage):
  damage(_build(tmp_path).directory)
  _check(_build(tmp_path))
  assert "Rebuilding" in caplog.text
  _check(_build(tmp_path, examples=_forbidden))
  assert len(_directories(tmp_path)) == 1


def test_interrupted_build_starts_again(tmp_path, caplog):
  def interrupted():
    for i, example in enumerate(_examples(5)):
      if i == 3:
        os.kill(os.getpid(), signal.SIGTERM)
      yield example

  with pytest.raises(signals.Stopped) as stopped, signals.handled():
    _build(tmp_path, examples=interrupted)
  assert stopped.value.code == 143
  assert "Ended by SIGTERM. What was being done is left out" in caplog.text
  assert _directories(tmp_path) == []
  _check(_build(tmp_path))


def _killed(directory):
  def examples():
    yield from _examples(3)
    os.kill(os.getpid(), signal.SIGKILL)

  _build(directory, examples=examples)


@pytest.mark.thorough
def test_killed_build_leaves_nothing_behind(tmp_path):
  process = multiprocessing.get_context("spawn").Process(
    target=_killed, args=(tmp_path,)
  )
  process.start()
  process.join()
  assert process.exitcode == -signal.SIGKILL
  (leftover,) = _directories(tmp_path)
  assert ".tmp-" in leftover
  _check(_build(tmp_path))
  (name,) = _directories(tmp_path)
  assert ".tmp-" not in name


def _slow(directory, barrier, results):
  def examples():
    # One file per build, to count them.
    (directory / f"built-{os.getpid()}").touch()
    for example in _examples(5):
      time.sleep(0.1)
      yield example

  barrier.wait()
  results.put(_build(directory, examples=examples).arrays["x"].tolist())


@pytest.mark.thorough
def test_two_processes_build_one_cache(tmp_path):
  context = multiprocessing.get_context("spawn")
  barrier, results = context.Barrier(2), context.Queue()
  processes = [
    context.Process(target=_slow, args=(tmp_path, barrier, results))
    for _ in range(2)
  ]
  for process in processes:
    process.start()
  values = [results.get(timeout=60) for _ in processes]
  for process in processes:
    process.join()
  assert values[0] == values[1] == [[i, i] for i in range(5)]
  assert len(list(tmp_path.glob("built-*"))) == 1
  _check(_build(tmp_path, examples=_forbidden))


@pytest.fixture
def unwritable(tmp_path):
  """A finished cache whose files and directories nobody here may write."""
  # The root user may write everything, and pytest's directories are private.
  root = pathlib.Path(tempfile.mkdtemp())
  directory = _build(root).directory
  for path in (*directory.iterdir(), *root.glob("*.lock")):
    path.chmod(0o444)
  for path in (directory, root):
    path.chmod(0o555)
  user = os.geteuid()
  if not user:
    os.seteuid(65534)
  yield root
  os.seteuid(user)
  for path in (root, directory):
    path.chmod(0o755)
  shutil.rmtree(root)


def test_a_cache_that_cannot_be_written_is_read(unwritable):
  with pytest.raises(PermissionError):
    (unwritable / "file").touch()
  _check(_build(unwritable, examples=_forbidden))


def test_reading_takes_no_lock(tmp_path, monkeypatch):
  _build(tmp_path)

  def lock(path):
    raise AssertionError(f"{path} was locked.")

  monkeypatch.setattr(cache, "_lock", lock)
  _check(_build(tmp_path, examples=_forbidden))


def test_caches_of_earlier_versions_are_read(tmp_path):
  # They have the checksums of zlib alone, and the same names and fingerprints.
  directory = _build(tmp_path).directory
  assert directory.name == "numbers-f0824fadd2456295"
  path = directory / "metadata.json"
  metadata = json.loads(path.read_text())
  for file, record in metadata["files"].items():
    content = (directory / file).read_bytes()
    assert record.pop("crc32c") == google_crc32c.value(content)
    assert record == {"size": len(content), "crc32": zlib.crc32(content)}
  path.write_text(json.dumps(metadata))
  _check(_build(tmp_path, examples=_forbidden))
  _flip(directory)
  with pytest.raises(AssertionError, match="was built although"):
    _build(tmp_path, examples=_forbidden)


def test_leftovers_are_found_whatever_the_name(tmp_path):
  def build():
    return cache.build_or_load(
      tmp_path,
      fingerprint={},
      num_examples=5,
      arrays=_ARRAYS,
      examples=lambda: _examples(5),
      label="photos[1]*",
    )

  directory = build().directory
  leftover = directory.with_name(f"{directory.name}.tmp-abc")
  directory.rename(leftover)
  assert build().directory == directory
  assert not leftover.exists()


@pytest.mark.thorough
def test_the_package_works_where_there_is_no_fcntl(tmp_path):
  code = """
    import sys
    import warnings
    sys.modules["fcntl"] = None  # As on Windows.
    import numpy as np
    import slot_attention_jax
    from slot_attention_jax.data import cache, prepare
    cached = cache.build_or_load(
      sys.argv[1], fingerprint={}, num_examples=2, arrays={"x": ((), np.int32)},
      examples=lambda: iter([{"x": 3}, {"x": 4}]), label="numbers")
    print(cached.arrays["x"].tolist(), slot_attention_jax.__name__)
    """
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
    capture_output=True,
    text=True,
    check=False,
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == "[3, 4] slot_attention_jax"


@pytest.mark.parametrize(("size", "got"), [(4, "got 4"), (6, "got more")])
def test_wrong_number_of_examples(tmp_path, size, got):
  with pytest.raises(ValueError, match=got):
    _build(tmp_path, examples=lambda: _examples(size))
  assert _directories(tmp_path) == []


def test_wrong_shape(tmp_path):
  with pytest.raises(ValueError, match=r"expected x \(2,\), got \(3,\)"):
    _build(tmp_path, examples=lambda: iter([{"x": np.zeros(3), "name": b"n"}]))


def test_nothing_to_build(tmp_path):
  with pytest.raises(ValueError, match="at least 1 example"):
    _build(tmp_path, size=0)


def test_full_disk(tmp_path, monkeypatch):
  monkeypatch.setattr(
    cache.shutil,
    "disk_usage",
    lambda path: builtin_types.SimpleNamespace(free=10),
  )
  with pytest.raises(OSError, match="SLOT_ATTENTION_JAX_CACHE"):
    _build(tmp_path, examples=_forbidden)


def test_default_directory(monkeypatch, tmp_path):
  monkeypatch.setenv("SLOT_ATTENTION_JAX_CACHE", str(tmp_path / "named"))
  assert _build(None).directory.parent == tmp_path / "named"
  monkeypatch.delenv("SLOT_ATTENTION_JAX_CACHE")
  monkeypatch.setenv("HOME", str(tmp_path))
  expected = tmp_path / ".cache" / "slot_attention_jax"
  assert cache.default_directory() == expected
