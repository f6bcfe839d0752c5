"""Damage of every kind to a checkpoint: none silently wrong, none raw."""

import collections
import contextlib
import gc
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slot_attention_jax.runtime import user_errors
from slot_attention_jax.training import checkpoints, sound_checkpoints
from slot_attention_jax.training import state as state_lib
from tests.training import test_sound_checkpoints as sound

ROOT = pathlib.Path(__file__).parents[2]


def other_model():
  params = {"params": {"w": jnp.ones((3, 4)), "c": jnp.ones(2)}}
  state = state_lib.create(params, optax.adam(1e-3), jax.random.key(5))
  return state.replace(step=jnp.int32(3))


def save(directory):
  """A run with checkpoints of steps 1 and 2, and one of another model."""
  for name, states in {
    "run": [sound.state_at(1), sound.state_at(2)],
    "other": [other_model()],
  }.items():
    with checkpoints.Checkpointer(directory / name) as checkpointer:
      for state in states:
        checkpointer.save(state, sound.CONFIG)


def files_of(path):
  return sorted(p for p in path.rglob("*") if p.is_file())


def directories_of(run):
  return sorted(p for p in (run / "2").rglob("*") if p.is_dir())


def a_file(run, rng):
  found = files_of(run / "2")
  return rng.choices(found, [1 + p.stat().st_size for p in found])[0]


def truncate(run, other, rng):
  path = a_file(run, rng)
  os.truncate(path, rng.randrange(path.stat().st_size + 1))


def flip(run, other, rng):
  path = a_file(run, rng)
  content = bytearray(path.read_bytes() or b"\0")
  for _ in range(rng.choice([1, 2, 8])):
    content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
  path.write_bytes(bytes(content))


def blank(run, other, rng):
  """A block of zeros, as a crash leaves one that was not written."""
  path = a_file(run, rng)
  content = path.read_bytes()
  start = rng.randrange(len(content) + 1)
  path.write_bytes(content[:start] + bytes(len(content) - start))


def extend(run, other, rng):
  with a_file(run, rng).open("ab") as file:
    file.write(rng.randbytes(rng.randrange(1, 100)))


def delete(run, other, rng):
  rng.choice(files_of(run / "2")).unlink()


def half_delete(run, other, rng):
  found = files_of(run / "2")
  for path in rng.sample(found, len(found) // 2):
    path.unlink()


def delete_directory(run, other, rng):
  shutil.rmtree(rng.choice(directories_of(run)))


def replace_file(run, other, rng):
  """A file becomes one from elsewhere in the run."""
  path = a_file(run, rng)
  others = [p for p in files_of(run) if p != path]
  path.write_bytes(rng.choice(others).read_bytes())


def foreign_file(run, other, rng):
  """A file becomes the one of the same place in another model's checkpoint."""
  path = a_file(run, rng)
  there = other / "3" / path.relative_to(run / "2")
  path.write_bytes(there.read_bytes() if there.exists() else b"foreign")


def foreign_item(run, other, rng):
  """An item becomes that of another model, its checksums perhaps too."""
  for name in rng.sample(["params", "train", "checksums"], rng.choice([1, 2])):
    shutil.rmtree(run / "2" / name)
    shutil.copytree(other / "3" / name, run / "2" / name)


def foreign_checkpoint(run, other, rng):
  """The checkpoint of another model, as the last one or in place of it."""
  name = rng.choice(["2", "3"])
  shutil.rmtree(run / name, ignore_errors=True)
  shutil.copytree(other / "3", run / name)


def foreign_entries(run, other, rng):
  """What does not belong there."""
  kind = rng.choice(["file", "empty", "file in it", "name", "link"])
  if kind == "file":
    (run / "3").write_bytes(rng.randbytes(9))
  elif kind == "empty":
    (run / "3").mkdir()
  elif kind == "file in it":
    (run / "2" / "notes.txt").write_text("mine")
  elif kind == "name":
    (run / rng.choice(["best", "2.bak", "02", "-1", "3.tmp"])).mkdir()
  else:
    (run / "3").symlink_to(rng.choice(["2", "nowhere"]))


def file_for_directory(run, other, rng):
  path = rng.choice(directories_of(run))
  shutil.rmtree(path)
  path.write_bytes(b"")


KINDS = (
  truncate,
  flip,
  blank,
  extend,
  delete,
  half_delete,
  delete_directory,
  replace_file,
  foreign_file,
  foreign_item,
  foreign_checkpoint,
  foreign_entries,
  file_for_directory,
)


def outcome(run):
  """What a training that resumes makes of the directory."""
  try:
    with checkpoints.Checkpointer(run) as checkpointer:
      sound_checkpoints.set_damaged_aside(checkpointer)
      step = checkpointer.latest_step()
      state = checkpointer.restore(jax.eval_shape(sound.init))
      config = checkpointer.restore_config()
  except Exception as error:
    return "refused" if user_errors.is_users(error) else f"raw: {error!r}"
  expected = sound.state_at(int(state.step))
  same = jax.tree.map(
    lambda a, b: np.array_equal(*map(numbers, (a, b))), state, expected
  )
  if not all(jax.tree.leaves(same)) or config != sound.CONFIG:
    return "silently wrong"
  return "the one before" if step == 1 else "without effect"


def numbers(leaf):
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf)


def damage(directory, count, seed=0):
  """Damages a checkpoint in `count` ways; returns outcomes by kind."""
  save(directory)
  rng = random.Random(seed)
  counts = collections.defaultdict(collections.Counter)
  for i in range(count):
    kind = KINDS[i % len(KINDS)]
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
      run = pathlib.Path(temporary) / "run"
      shutil.copytree(directory / "run", run)
      kind(run, directory / "other", rng)
      counts[kind.__name__][outcome(run)] += 1
  gc.collect()
  return {name: dict(values) for name, values in counts.items()}


def check(counts):
  print(counts)
  total = collections.Counter()
  for values in counts.values():
    total.update(values)
  print(dict(total))
  assert set(total) <= {"refused", "the one before", "without effect"}, counts
  assert total["the one before"]
  assert total["refused"]


# Orbax leaves coroutines behind when it cannot read.
@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damage_of_each_kind_is_found_or_without_effect(tmp_path):
  check(damage(tmp_path, len(KINDS)))


@pytest.mark.slow
def test_300_damages_are_found_or_without_effect(tmp_path):
  program = (
    "import pathlib, sys; from tests.training import test_damaged_checkpoints "
    "as t; t.check(t.damage(pathlib.Path(sys.argv[1]), 300))"
  )
  result = subprocess.run(
    [sys.executable, "-c", program, str(tmp_path)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    check=False,
  )
  with contextlib.suppress(IndexError):
    print(result.stdout.splitlines()[-1])
  assert result.returncode == 0, result.stderr[-3000:]
