"""Tests of checkpoints: exact, atomic, the right ones kept, clear errors."""

import logging
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging as absl_logging

from slot_attention_jax.training import checkpoints
from slot_attention_jax.training import state as state_lib

ROOT = pathlib.Path(__file__).parents[2]
TESTS = pathlib.Path(__file__).parent
CONFIG = {"seed": 1, "model": {"num_slots": 7, "sizes": [1, 2], "name": None}}


def init(width=3):
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adam(optax.cosine_decay_schedule(1e-3, 100)),
  )
  params = {
    "dense": {
      "kernel": jax.random.normal(jax.random.key(1), (4, width)),
      "bias": jnp.zeros(width),
    }
  }
  return state_lib.create(params, optimizer, jax.random.key(5))


@jax.jit
def make(step):
  """A state whose every number depends on the step."""
  state = jax.tree.map(lambda x: x + step.astype(x.dtype), init().params)
  return init().replace(step=step, params=state)


def state_at(step):
  return make(jnp.int32(step))


def replicated(num_devices, tree):
  mesh = jax.make_mesh(
    (num_devices,),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:num_devices],
  )
  sharding = jax.sharding.NamedSharding(mesh, jax.P())
  if any(isinstance(x, jax.Array) for x in jax.tree.leaves(tree)):
    return jax.device_put(tree, sharding)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
  )


def numbers(leaf):
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf)


def assert_same(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(numbers(a), numbers(b))


def fill(directory, steps, **options):
  """Saves the steps; a dict gives the metric of each."""
  metrics = steps if isinstance(steps, dict) else dict.fromkeys(steps)
  with checkpoints.Checkpointer(directory, **options) as checkpointer:
    for step, value in metrics.items():
      given = None if value is None else {"score": value}
      assert checkpointer.save(state_at(step), CONFIG, given)


def on_disk(directory):
  return sorted(int(path.name) for path in directory.iterdir())


@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 4), (4, 2)])
def test_restores_exactly_onto_another_number_of_devices(
  tmp_path, before, after
):
  state = replicated(before, state_at(3))
  with checkpoints.Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.save(state, CONFIG)
  abstract = replicated(after, jax.eval_shape(init))
  with checkpoints.Checkpointer(tmp_path) as checkpointer:
    restored = checkpointer.restore(abstract)
  assert_same(restored, state)
  for leaf in jax.tree.leaves(restored):
    assert len(leaf.sharding.device_set) == after
    assert leaf.committed
  # The randomness goes on where it was.
  np.testing.assert_array_equal(
    jax.random.normal(restored.key, (5,)), jax.random.normal(state.key, (5,))
  )


def test_restores_parameters_and_config_without_an_optimizer(tmp_path):
  state = replicated(4, state_at(2))
  with checkpoints.Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(state_at(1), {"seed": 0})
    checkpointer.save(state, CONFIG)
    assert checkpointer.restore_config(1) == {"seed": 0}
  with checkpoints.Checkpointer(tmp_path) as checkpointer:
    params = checkpointer.restore_params()
    assert_same(params, state.params)
    kernel = params["dense"]["kernel"]
    assert kernel.sharding.device_set == {jax.devices()[0]}
    abstract = replicated(2, jax.eval_shape(init).params)
    params = checkpointer.restore_params(abstract, step=1)
    assert_same(params, state_at(1).params)
    assert len(params["dense"]["kernel"].sharding.device_set) == 2
    assert checkpointer.restore_config() == CONFIG


@pytest.mark.thorough
def test_a_saved_state_may_be_donated_at_once(tmp_path):
  # On CPU NumPy arrays may share the memory of JAX arrays: what is being
  # written would change with them if the step reused it.
  def update(params):
    return jax.tree.map(lambda x: x + 1, params)

  step = jax.jit(update, donate_argnums=0)
  params = {f"layer_{i}": jnp.zeros((300, 300)) for i in range(40)}
  state = state_lib.create(params, optax.identity(), jax.random.key(0))
  state = replicated(4, state)
  with checkpoints.Checkpointer(tmp_path, keep=9) as checkpointer:
    for _ in range(4):
      state = state.replace(step=state.step + 1)
      assert checkpointer.save(state, {})
      old = state.params
      state = state.replace(params=step(old))
      assert old["layer_0"].is_deleted()
      for _ in range(20):
        state = state.replace(params=step(state.params))
    for i in range(4):
      for leaf in checkpointer.restore_params(step=i + 1).values():
        np.testing.assert_array_equal(leaf, np.full((300, 300), 21.0 * i))


@pytest.mark.parametrize(
  ("scores", "options", "kept", "best"),
  [
    # The latest alone.
    ({1: 0.9, 2: 0.1, 3: 0.2, 4: 0.3}, {"keep": 2}, [3, 4], None),
    # The latest, and the best.
    ({1: 0.1, 2: 0.9, 3: 0.2, 4: 0.3, 5: 0.4}, {"keep": 2}, [2, 4, 5], 2),
    # The smallest is the best.
    (
      {1: 0.5, 2: 0.1, 3: 0.6, 4: 0.7},
      {"keep": 1, "best_mode": "min"},
      [2, 4],
      2,
    ),
    # The later one of equals.
    ({1: 0.5, 2: 0.5, 3: 0.1, 4: 0.0}, {"keep": 1}, [2, 4], 2),
    # What has no finite metric is never the best, not even to fill up.
    (
      {1: np.nan, 2: None, 3: 0.2, 4: np.inf, 5: None},
      {"keep": 1, "keep_best": 2},
      [3, 5],
      3,
    ),
    ({1: np.nan, 2: None, 3: None}, {"keep": 1}, [3], None),
    ({1: 0.5, 2: 0.1}, {"keep": 1, "keep_best": 0}, [2], 2),
  ],
)
def test_keeps_the_latest_and_the_best(tmp_path, scores, options, kept, best):
  if len(options) > 1 or best is not None or 1 not in kept:
    options = {**options, "best_metric": "score"}
  if kept == [3, 4] and best is None:
    del options["best_metric"]
  # In two runs: the second must know the metrics of the first.
  half = len(scores) // 2
  fill(tmp_path, dict(list(scores.items())[:half]), **options)
  fill(tmp_path, dict(list(scores.items())[half:]), **options)
  assert on_disk(tmp_path) == kept
  with checkpoints.Checkpointer(tmp_path, **options) as checkpointer:
    assert checkpointer.all_steps() == kept
    assert checkpointer.latest_step() == kept[-1]
    assert checkpointer.best_step() == best


def test_saving_a_step_twice_keeps_the_first(tmp_path, caplog):
  absl_logging.get_absl_logger().setLevel(logging.INFO)
  with checkpoints.Checkpointer(tmp_path) as checkpointer:
    assert checkpointer.save(state_at(2), {"run": 1})
    assert not checkpointer.save(state_at(2), {"run": 2})
    checkpointer.wait()
    assert not checkpointer.save(state_at(2), {"run": 2}, force=True)
    with pytest.raises(
      ValueError, match=r"after those in .*\[2\], got 1\. Del"
    ):
      checkpointer.save(state_at(1), {"run": 2})
    assert checkpointer.save(state_at(1), {"run": 2}, force=True)
    checkpointer.wait()
    assert checkpointer.all_steps() == [1, 2]
    assert checkpointer.restore_config(2) == {"run": 1}
    assert checkpointer.latest_step() == 2
  # One line of ours for each repetition, none of Orbax's but for the warnings
  # of a slow machine.
  messages = [
    r.getMessage() for r in caplog.records if r.levelno == logging.INFO
  ]
  assert messages == [f"{tmp_path / '2'} exists, not saved again."] * 2


def test_reading_creates_and_removes_nothing(tmp_path):
  missing = tmp_path / "missing"
  with checkpoints.Checkpointer(missing) as checkpointer:
    assert checkpointer.all_steps() == []
    assert checkpointer.latest_step() is None
    assert checkpointer.best_step() is None
    with pytest.raises(FileNotFoundError, match=f"any in {missing} .*got none"):
      checkpointer.restore(jax.eval_shape(init))
  assert not missing.exists()
  directory = tmp_path / "run"
  fill(directory, [1])
  unfinished = directory / "2.orbax-checkpoint-tmp"
  unfinished.mkdir()
  with checkpoints.Checkpointer(directory) as checkpointer:
    assert checkpointer.latest_step() == 1
    checkpointer.restore_config()
    assert unfinished.exists()
    # It sees what another process saves.
    fill(directory, [3])
    assert checkpointer.latest_step() == 3
    with pytest.raises(FileNotFoundError, match=r"step 2 in .*got \[1, 3\]"):
      checkpointer.restore_params(step=2)
  assert not unfinished.exists()


def test_relative_directories_become_absolute(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with checkpoints.Checkpointer("run") as checkpointer:
    assert os.fspath(checkpointer.directory) == str(tmp_path / "run")
    checkpointer.save(state_at(1), {})
  assert on_disk(tmp_path / "run") == [1]


def test_restoring_other_arrays_names_them(tmp_path):
  fill(tmp_path, [1])
  with checkpoints.Checkpointer(tmp_path) as checkpointer:
    abstract = jax.eval_shape(lambda: init(width=8))
    with pytest.raises(ValueError, match="other arrays") as error:
      checkpointer.restore(abstract)
    text = str(error.value)
    assert text.startswith(f"{tmp_path / '1'}: params: ")
    assert "dense/kernel: expected float32[4, 8], got float32[4, 3]" in text
    params = dict(abstract.params, more=jax.ShapeDtypeStruct((2,), "float32"))
    with pytest.raises(ValueError, match=r"more: expected float32\[2\], got n"):
      checkpointer.restore_params(params)
    # The optimizer's arrays too, and their types: orbax would convert.
    abstract = jax.eval_shape(init)
    with pytest.raises(ValueError, match=r"step: expected int8\[\], got int32"):
      checkpointer.restore(
        abstract.replace(step=jax.ShapeDtypeStruct((), "int8"))
      )


def damage_each_file(tmp_path, keep_bytes):
  fill(tmp_path, [1, 2])
  expected = state_at(2)
  abstract = jax.eval_shape(init)
  found = 0
  for path in sorted((tmp_path / "2").rglob("*")):
    if not path.is_file():
      continue
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep_bytes)])
    error = None
    with checkpoints.Checkpointer(tmp_path) as checkpointer:
      assert checkpointer.latest_step() == 2
      try:
        # Either it reads exactly what was saved, or it says what to do.
        assert_same(checkpointer.restore(abstract), expected)
        assert_same(checkpointer.restore_params(), expected.params)
        assert checkpointer.restore_config() == CONFIG
      except ValueError as raised:
        error = raised
      # The others can be read.
      assert_same(checkpointer.restore(abstract, step=1), state_at(1))
    path.write_bytes(content)
    if error is not None:
      found += 1
      assert f"Cannot read the checkpoint {tmp_path / '2'}" in str(error)
      assert f"delete {tmp_path / '2'} and" in str(error)
      assert "before it is of step 1." in str(error)
      assert str(error).count("\n") == 0
      assert error.__cause__ is not None
  assert found >= 5, found


@pytest.mark.thorough
@pytest.mark.parametrize("keep_bytes", [0, 0.5])
def test_any_damaged_file_is_found(tmp_path, keep_bytes):
  # In another process: of the reads that orbax abandons when one of them fails,
  # coroutines on threads, Python complains for long afterwards.
  program = (
    "import pathlib, sys, test_checkpoints as t; "
    "t.damage_each_file(pathlib.Path(sys.argv[1]), float(sys.argv[2]))"
  )
  result = subprocess.run(
    [sys.executable, "-c", program, str(tmp_path), str(keep_bytes)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}"},
    check=False,
  )
  assert result.returncode == 0, result.stderr[-3000:]


def test_damaged_metrics_do_not_stop_a_run(tmp_path):
  fill(tmp_path, {1: 0.5, 2: 0.9}, best_metric="score")
  (tmp_path / "2" / "metrics" / "metrics").write_text('{"sco')
  with checkpoints.Checkpointer(
    tmp_path, best_metric="score", keep=1
  ) as checkpointer:
    assert checkpointer.best_step() == 1
    assert checkpointer.save(state_at(3), {})
  assert on_disk(tmp_path) == [1, 3]


KILLED = """
import jax, jax.numpy as jnp, optax, sys
from slot_attention_jax.training import checkpoints
from slot_attention_jax.training import state as state_lib
params = {f"layer_{i}": jnp.zeros((64, 64)) for i in range(20)}
state = state_lib.create(params, optax.adam(1.0), jax.random.key(0))
with checkpoints.Checkpointer(sys.argv[1], keep=2) as checkpointer:
  start = checkpointer.latest_step()
  if start is not None:
    state = checkpointer.restore(jax.eval_shape(lambda: state))
  assert int(state.step) == (start or 0)
  for leaf in jax.tree.leaves(state.params):
    assert (leaf == (start or 0)).all(), start
  while True:
    state = state.replace(
      step=state.step + 1, params=jax.tree.map(lambda x: x + 1, state.params))
    checkpointer.save(state, {"step": int(state.step)})
    print(int(state.step), flush=True)
"""


@pytest.mark.thorough
def test_killing_a_save_leaves_complete_checkpoints(tmp_path):
  # Each run checks what it restores and goes on; each is killed at another
  # moment of a save.
  latest = 0
  for delay in (0.0, 0.03):
    process = subprocess.Popen(
      [sys.executable, "-c", KILLED, str(tmp_path)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      cwd=ROOT,
    )
    for _ in range(4):
      line = process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    _, stderr = process.communicate()
    assert process.returncode == -signal.SIGKILL, stderr
    assert int(line) >= latest + 3
    with checkpoints.Checkpointer(tmp_path) as checkpointer:
      # `save` of step n waits for step n - 1.
      assert checkpointer.latest_step() >= int(line) - 1
      latest = checkpointer.latest_step()
      assert checkpointer.restore_config() == {"step": latest}
      for leaf in checkpointer.restore_params().values():
        np.testing.assert_array_equal(leaf, np.full((64, 64), latest))
  fill_state = state_lib.create({}, optax.identity(), jax.random.key(0))
  with checkpoints.Checkpointer(tmp_path, keep=1) as checkpointer:
    state = fill_state.replace(step=jnp.int32(latest + 1))
    checkpointer.save(state.replace(params={"a": jnp.zeros(1)}), {})
  # Nothing that was left unfinished is left over.
  assert on_disk(tmp_path) == [latest + 1]


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"keep": 0}, "keep >= 1.*keep=0"),
    ({"keep_best": -1}, "keep_best >= 0.*keep_best=-1"),
    ({"best_mode": "best"}, "max or min.*'best'"),
  ],
)
def test_options_out_of_range(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    checkpoints.Checkpointer(tmp_path, **options)


def test_save_rejects_configs_and_metrics_it_cannot_store(tmp_path):
  with checkpoints.Checkpointer(tmp_path, best_metric="ari") as checkpointer:
    with pytest.raises(ValueError, match=r"config that is JSON.*object"):
      checkpointer.save(state_at(1), {"optimizer": object()})
    with pytest.raises(ValueError, match=r"best_metric 'ari', got \['loss'\]"):
      checkpointer.save(state_at(1), {}, {"loss": 1.0})
  assert on_disk(tmp_path) == []


@pytest.mark.parametrize(
  ("path", "level", "text", "kept"),
  [
    ("/env/lib/orbax/checkpoint/_src/a.py", logging.INFO, "Saved.", False),
    ("/env/lib/orbax/checkpoint/_src/a.py", logging.WARNING, "Bad.", True),
    (
      "/env/lib/orbax/checkpoint/manager.py",
      logging.WARNING,
      "Requested `tracked_metric`; did not provide metrics.",
      False,
    ),
    # In a directory that happens to have the name.
    ("/x/orbax-env/slot_attention_jax/train.py", logging.INFO, "Step 1", True),
    ("/x/orbax/slot_attention_jax/train.py", logging.INFO, "Step 1", True),
  ],
)
def test_only_log_lines_of_orbax_are_dropped(tmp_path, path, level, text, kept):
  record = logging.LogRecord("absl", level, path, 1, text, (), None)
  with checkpoints.Checkpointer(tmp_path):
    assert bool(absl_logging.get_absl_logger().filter(record)) == kept
