"""Full, read-only and vanished disks: errors that name the path, no losses."""

import contextlib
import errno
import gc
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slot_attention_jax.data import cache, prepare
from slot_attention_jax.runtime import files, user_errors
from slot_attention_jax.training import (
  checkpoint_errors,
  checkpoints,
  run_lock,
  sound_checkpoints,
  writers,
)
from slot_attention_jax.training import state as state_lib
from tests.data.multi_object import masks_files

resource = pytest.importorskip("resource", reason="POSIX")


@contextlib.contextmanager
def full_disk(largest_file):
  """No file gets larger: writes fail like those to a disk without space."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def refused(*expected):
  """Expects an error of the user's, of one screen, that has all these texts."""
  with pytest.raises(OSError) as caught:  # noqa: PT011
    yield caught
  assert user_errors.is_users(caught.value)
  text = user_errors.describe(caught.value)
  assert len(text.splitlines()) <= 2
  assert all(part in text for part in expected), text


def init():
  params = {"w": jnp.zeros((64, 64)), "b": jnp.ones(3)}
  return state_lib.create(params, optax.adam(1e-3), jax.random.key(5))


def state_at(step):
  state = init()
  # Random numbers, which do not become small in files.
  w = jax.random.normal(jax.random.key(step), (64, 64))
  params = state.params | {"w": w}
  return state.replace(step=jnp.int32(step), params=params)


def save_on_full_disks(directory, limits):
  """Saves a third checkpoint on each; returns how many saves failed."""
  saved = directory / "saved"
  with checkpoints.Checkpointer(saved) as checkpointer:
    for step in (1, 2):
      checkpointer.save(state_at(step), {})
  failed = 0
  for limit in limits:
    run = shutil.copytree(saved, directory / f"at_{limit}")
    checkpointer = checkpoints.Checkpointer(run)
    try:
      with full_disk(limit):
        checkpointer.save(state_at(3), {})
        checkpointer.close()
    except OSError as error:
      problem = error
      with contextlib.suppress(OSError):
        checkpointer.close()
    else:
      problem = None
    if problem is not None:
      assert problem.errno == errno.EFBIG
      text = user_errors.describe(problem)
      assert f"Cannot save a checkpoint in {run}: File too large" in text
      assert "those of steps [1, 2] are complete. Free some space" in text
      failed += 1
    with checkpoints.Checkpointer(run) as checkpointer:
      step = sound_checkpoints.newest_sound_step(checkpointer)
      restored = checkpointer.restore(jax.eval_shape(init))
      np.testing.assert_array_equal(
        restored.params["w"], state_at(step).params["w"]
      )
      # With space again, it goes on as if nothing had been.
      checkpointer.save(state_at(4), {})
    assert step == 3 or not (run / "3").exists()
    shutil.rmtree(run)
    gc.collect()
  return failed


# Orbax leaves coroutines behind that end after their event loop.
leftovers = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.thorough
@leftovers
def test_a_save_on_a_full_disk_loses_no_checkpoint(tmp_path):
  assert save_on_full_disks(tmp_path, [2000, 10**6]) == 1


@leftovers
@pytest.mark.slow
def test_a_save_on_disks_that_are_full_at_20_places(tmp_path):
  limits = [int(1.7**i) for i in range(20)]  # 1 byte to 24 KB.
  assert 17 <= save_on_full_disks(tmp_path, limits) <= 19


@pytest.mark.parametrize("reachable", [True, False])
def test_a_save_that_a_bucket_refuses_says_what_is_left(reachable):
  class Directory:
    def __fspath__(self):
      return "gs://bucket/run/checkpoints"

    __str__ = __fspath__

    def iterdir(self):
      if not reachable:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
      return iter(())

  left = "none is left" if reachable else "which ones are complete cannot be"
  with (
    pytest.raises(OSError, match=f"{left}.*Check the network, then run"),
    checkpoint_errors.writing(Directory()),  # pyright: ignore
  ):
    raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")


def test_metrics_on_a_full_disk_name_their_file(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.symlink_to("/dev/full")
  writer = writers.JsonlWriter(path)
  for _ in range(2):
    with refused(f"Cannot read or write {path}: No space left", "Free some"):
      writer.write_scalars(1, {"loss": 0.5})
  writer.close()  # Nothing is left to be written.


def test_a_file_on_a_full_disk_stays_as_it_was(tmp_path):
  path = tmp_path / "config.json"
  files.write_json(path, {"a": 1})
  with (
    full_disk(100),
    refused(f"Cannot read or write {path}: File too large", "Free some"),
  ):
    files.write_json(path, {"a": "x" * 1000})
  assert files.read_json(path, "") == {"a": 1}
  assert os.listdir(tmp_path) == ["config.json"]


def build_cache(directory):
  return cache.build_or_load(
    directory,
    fingerprint={},
    num_examples=500,
    arrays={"x": ((100,), np.uint8)},
    examples=lambda: ({"x": np.full(100, i % 7, np.uint8)} for i in range(500)),
    label="numbers",
  )


@pytest.mark.parametrize("limit", [0, 1000, 40000])
def test_a_cache_on_a_full_disk_leaves_nothing(limit, tmp_path):
  with full_disk(limit), refused(f"write {tmp_path}", "File too large", "Free"):
    build_cache(tmp_path)
  assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == []
  assert build_cache(tmp_path).arrays["x"][8, 0] == 1


@pytest.mark.thorough
def test_a_preparation_on_a_full_disk_leaves_nothing(tmp_path, capsys):
  source = tmp_path / "tetrominoes_train.tfrecords"
  masks_files.write_scenes(source, "tetrominoes", "", [3] * 200)
  directory = tmp_path / "data"
  arguments = ["--name=tetrominoes", f"--source={source}"]
  with full_disk(10_000), pytest.raises(SystemExit) as ended:
    prepare.main([*arguments, f"--data_dir={directory}"])
  assert ended.value.code == user_errors.EXIT_CODE
  error = capsys.readouterr().err.splitlines()[-1]
  assert error.startswith(f"Error: Cannot read or write {directory}")
  assert "File too large. Free some space" in error
  assert not [p for p in directory.rglob("*") if p.suffix != ".lock"]


def test_metrics_of_a_directory_that_is_gone_are_an_error(tmp_path):
  run = tmp_path / "run"
  writer = writers.JsonlWriter(run / "metrics.jsonl")
  writer.write_scalars(1, {"loss": 0.5})
  writer.flush()
  run.rename(tmp_path / "elsewhere")
  with refused(f"Expected {run / 'metrics.jsonl'}, which this run writes"):
    writer.flush()
  # Another file in its place is not it either.
  files.write_json(run / "metrics.jsonl", {})
  with refused("found it gone"):
    writer.flush()
  writer.close()


@pytest.mark.skipif(not pathlib.Path("/proc").is_dir(), reason="no /proc")
def test_a_run_in_a_directory_that_cannot_be_written_to():
  # There the root user cannot write, either.
  with refused("/proc"), run_lock.hold(pathlib.Path("/proc/run")):
    pass
