"""Tests of damaged checkpoints: none is used, none is lost, all are named."""

import os
import pathlib
import random
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slot_attention_jax.training import (
  checkpoint_digests,
  checkpoints,
  sound_checkpoints,
  trained_run,
)
from slot_attention_jax.training import state as state_lib

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = {"seed": 1, "model": {"sizes": [1, 2]}}


def init():
  params = {"params": {"w": jnp.zeros((4, 3)), "b": jnp.array([-0.0, 1.0])}}
  return state_lib.create(params, optax.adam(1e-3), jax.random.key(5))


def state_at(step):
  state = init()
  params = jax.tree.map(lambda x: x + step, state.params)
  return state.replace(step=jnp.int32(step), params=params)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A run with three checkpoints, of which the second is the best."""
  run = tmp_path_factory.mktemp("saved") / "run"
  with checkpoints.Checkpointer(
    run / "checkpoints", best_metric="score"
  ) as checkpointer:
    for step, score in {1: 0.5, 2: 0.9, 3: 0.7}.items():
      checkpointer.save(state_at(step), CONFIG, {"score": score})
  return run


@pytest.fixture
def run(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / "run")


def open_(run):
  return checkpoints.Checkpointer(run / "checkpoints", best_metric="score")


def swap(run, item, step, other):
  """Gives a checkpoint an item of another: intact files, other numbers."""
  target = run / "checkpoints" / str(step) / item
  shutil.rmtree(target)
  shutil.copytree(run / "checkpoints" / str(other) / item, target)


def replace(run, step, item, old, new):
  texts = {
    path: path.read_text()
    for path in (run / "checkpoints" / str(step) / item).iterdir()
  }
  changed = {p: t.replace(old, new) for p, t in texts.items() if old in t}
  assert changed
  for path, text in changed.items():
    path.write_text(text)


def test_what_is_intact_is_sound(run, caplog):
  with open_(run) as checkpointer:
    assert sound_checkpoints.newest_sound_step(checkpointer) == 3
    assert sound_checkpoints.best_sound_step(checkpointer) == 2
    assert checkpointer.ranked_steps() == [2, 3, 1]
    sound_checkpoints.set_damaged_aside(checkpointer)
    assert checkpointer.all_steps() == [1, 2, 3]
  assert not (run / sound_checkpoints.ASIDE).exists()
  assert not [r for r in caplog.records if r.levelname == "WARNING"]


@pytest.mark.parametrize(
  ("damage", "named"),
  [
    pytest.param(
      lambda run: swap(run, "params", 3, 2),
      "params/params/b has another",
      id="params",
    ),
    pytest.param(
      lambda run: replace(run, 3, "checksums", "{", "["),
      "its checksums cannot be read",
      id="checksums",
    ),
    pytest.param(
      lambda run: swap(run, "train", 3, 2),
      "train/step has another",
      id="train",
      marks=pytest.mark.thorough,
    ),
    pytest.param(
      lambda run: replace(run, 3, "config", '"seed": 1', '"seed": 3'),
      "config has another",
      id="config",
      marks=pytest.mark.thorough,
    ),
    pytest.param(
      lambda run: replace(run, 3, "checksums", '"config"', '"bonfig"'),
      "its checksums lack 'config'",
      id="checksums_of_less",
      marks=pytest.mark.thorough,
    ),
  ],
)
def test_a_training_resumes_from_the_one_before(damage, named, run, caplog):
  damage(run)
  with open_(run) as checkpointer:
    with pytest.raises(checkpoints.DamagedCheckpointError, match=named):
      checkpointer.check(3)
    sound_checkpoints.set_damaged_aside(checkpointer)
    assert checkpointer.all_steps() == [1, 2]
    restored = checkpointer.restore(jax.eval_shape(init))
    np.testing.assert_array_equal(
      restored.params["params"]["w"], state_at(2).params["params"]["w"]
    )
    # It goes on, and saves the same step again.
    assert checkpointer.save(state_at(3), CONFIG)
  aside = run / sound_checkpoints.ASIDE / "3"
  assert {"params", "train", "config"} <= {p.name for p in aside.iterdir()}
  text = caplog.text
  assert f"DAMAGED CHECKPOINT: Cannot read the checkpoint {run}" in text
  assert "THE CHECKPOINT OF STEP 2 IS USED INSTEAD" in text
  assert f"Moved the damaged {run / 'checkpoints' / '3'} to {aside}" in text


def test_an_evaluation_takes_the_one_before_and_moves_nothing(run, caplog):
  swap(run, "params", 3, 1)
  step, params = trained_run.restore_params(run, "last")
  assert step == 2
  np.testing.assert_array_equal(
    params["params"]["w"], state_at(2).params["params"]["w"]
  )
  assert "DAMAGED CHECKPOINT" in caplog.text
  assert (run / "checkpoints" / "3").is_dir()
  # What an evaluation does not read may be damaged.
  shutil.rmtree(run / "checkpoints" / "2" / "train")
  assert trained_run.restore_params(run, "last")[0] == 2


def test_an_evaluation_takes_the_second_best(run):
  swap(run, "params", 2, 1)
  assert trained_run.restore_params(run, "best", best_metric="score")[0] == 1


def test_metrics_that_changed_choose_no_checkpoint(run, caplog):
  replace(run, 1, "metrics", "0.5", "9.5")
  with open_(run) as checkpointer:
    assert sound_checkpoints.best_sound_step(checkpointer) == 2
  assert "Cannot read the metrics of checkpoint 1" in caplog.text


def test_if_none_is_sound_nothing_is_moved(run):
  for step in (1, 2, 3):
    replace(run, step, "config", '"seed": 1', '"seed": 3')
  with (
    open_(run) as checkpointer,
    pytest.raises(
      checkpoints.DamagedCheckpointError, match=r"got \[3, 2, 1\], all damaged"
    ),
  ):
    sound_checkpoints.set_damaged_aside(checkpointer)
  assert not (run / sound_checkpoints.ASIDE).exists()


def test_a_second_damaged_checkpoint_of_a_step_gets_another_name(run):
  (run / sound_checkpoints.ASIDE / "3").mkdir(parents=True)
  swap(run, "params", 3, 1)
  with open_(run) as checkpointer:
    sound_checkpoints.set_damaged_aside(checkpointer)
  assert (run / sound_checkpoints.ASIDE / "3-1" / "params").is_dir()


def test_checkpoints_of_versions_without_checksums_load_with_a_note(
  run, caplog
):
  for step in (1, 2, 3):
    shutil.rmtree(run / "checkpoints" / str(step) / checkpoint_digests.ITEM)
  with caplog.at_level("INFO", logger="absl"), open_(run) as checkpointer:
    assert sound_checkpoints.newest_sound_step(checkpointer) == 3
    checkpointer.restore(jax.eval_shape(init))
  assert "has no checksums, an earlier version saved it" in caplog.text


@pytest.mark.parametrize(
  "dtype", ["float32", "bfloat16", "float16", "int32", "bool"]
)
def test_any_flipped_bit_of_an_array_changes_its_digest(dtype):
  array = np.arange(6).astype(jnp.dtype(dtype)).reshape(2, 3)
  before = checkpoint_digests.digest_arrays({"w": array})
  for i in range(array.nbytes * 8):
    raw = bytearray(array.tobytes())
    raw[i // 8] ^= 1 << i % 8
    flipped = np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)
    assert checkpoint_digests.digest_arrays({"w": flipped}) != before
  assert checkpoint_digests.digest_arrays({"w": array.T}) != before


def flip_bits(directory, count):
  """Flips one bit at a time; prints how many flips were found, and used."""
  saved = directory / "checkpoints"
  with checkpoints.Checkpointer(saved) as checkpointer:
    for step in (1, 2):
      checkpointer.save(state_at(step), CONFIG)
  files = sorted(p for p in (saved / "2").rglob("*") if p.is_file())
  expected = jax.tree.map(np.asarray, state_at(2).params)
  counts = {"found": 0, "without effect": 0, "silently wrong": 0}
  rng = random.Random(0)
  for _ in range(count):
    path = rng.choices(files, [p.stat().st_size for p in files])[0]
    content = path.read_bytes()
    bit = rng.randrange(len(content) * 8)
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(damaged))
    with checkpoints.Checkpointer(saved) as checkpointer:
      step = sound_checkpoints.newest_sound_step(checkpointer)
      if step == 1:
        counts["found"] += 1
      else:
        state = checkpointer.restore(jax.eval_shape(init))
        same = jax.tree.map(np.array_equal, state.params, expected)
        same = all(jax.tree.leaves(same)) and int(state.step) == 2
        same = same and checkpointer.restore_config() == CONFIG
        counts["without effect" if same else "silently wrong"] += 1
    path.write_bytes(content)
  print(counts)
  assert not counts["silently wrong"]
  assert counts["found"]


@pytest.mark.slow
def test_300_flipped_bits_are_found_or_without_effect(tmp_path):
  # In another process, see test_checkpoints.
  program = (
    "import pathlib, sys; from tests.training import test_sound_checkpoints as "
    "t; t.flip_bits(pathlib.Path(sys.argv[1]), 300)"
  )
  result = subprocess.run(
    [sys.executable, "-c", program, str(tmp_path)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    check=False,
  )
  assert result.returncode == 0, result.stderr[-3000:]
