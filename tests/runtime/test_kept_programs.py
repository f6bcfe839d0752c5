"""A second start runs the programs that the first one kept."""

import collections
import os
import threading
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from slot_attention_jax.runtime import (
  executables,
  fingerprint,
  kept_programs,
  platform,
  program_store,
  surroundings,
)
from slot_attention_jax.runtime import mesh as mesh_lib

LEAST_SECONDS = "jax_persistent_cache_min_compile_time_secs"
CONFIG = {"seed": 1, "eval": {"seed": 2, "size": 3}, "rate": 0.5}


@pytest.fixture
def start(monkeypatch, tmp_path):
  """Starts the command anew, as far as programs are concerned."""
  known = fingerprint._KNOWN | {"tests"}
  monkeypatch.setattr(fingerprint, "_KNOWN", known)
  monkeypatch.setattr(surroundings, "_IMPORTED", float("inf"))
  # Tests that run side by side are no script.
  monkeypatch.setattr(surroundings, "own_files", lambda *p: tuple(map(str, p)))
  # What XLA has read from its cache is not kept: nothing gets into that.
  before = jax.config.values[LEAST_SECONDS]
  jax.config.update(LEAST_SECONDS, float("inf"))

  def keep(*of_config, **changes):
    config = ml_collections.ConfigDict(CONFIG)
    config.update_from_flattened_dict(changes)
    return program_store.keep(str(tmp_path), config, *of_config)

  yield keep
  program_store.stop()
  jax.config.update(LEAST_SECONDS, before)


@pytest.fixture
def source(monkeypatch, tmp_path):
  """The one file of the package, as far as programs are concerned."""
  path = tmp_path / "package" / "a.py"
  path.parent.mkdir()
  path.write_text("x = 1\n")
  monkeypatch.setattr(surroundings, "_PACKAGE", path.parent)
  return path


@pytest.fixture
def events():
  """Counts what JAX and kept programs do."""
  counts = collections.Counter()

  def listen(event, *_, **unused_labels):
    counts[event.rsplit("/", 1)[-1]] += 1

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield counts
  jax.monitoring.unregister_event_duration_listener(listen)


TRACED = "jaxpr_trace_duration"
LOWERED = "jaxpr_to_mlir_module_duration"
COMPILED = "backend_compile_duration"
LOADED = "load_duration"


def make(factor=2.0, **options):
  def scale(x):
    return {"y": jnp.sin(factor * x) @ x.T, "x": x}

  return kept_programs.jit(scale, **options)


def x():
  return jnp.asarray(np.linspace(0, 1, 12).reshape(3, 4), jnp.float32)


def files(tmp_path, suffix):
  found = (tmp_path / "programs").iterdir()
  return sorted(p for p in found if p.name.endswith(suffix))


def test_a_second_start_neither_traces_nor_lowers(start, events):
  expected = jax.jit(make()._parts[0])(x())
  assert start()
  first = make()(x())
  start()
  program, argument = make(), x()
  events.clear()
  second = program(argument)
  assert events[LOADED] == 1
  assert not events[TRACED] + events[LOWERED] + events[COMPILED]
  third = program(argument)
  assert events[LOADED] == 1
  for got in (first, second, third):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for name in expected:
      np.testing.assert_array_equal(got[name], expected[name])


def misses(events, program, argument):
  """Whether a program is traced for an argument."""
  events.clear()
  program(argument)
  return bool(events[TRACED])


@pytest.mark.parametrize(
  "change",
  [
    {"factor": 3.0},
    {"out_shardings": jax.sharding.SingleDeviceSharding(jax.devices()[1])},
    {"donate_argnums": 0},
    {"compiler_options": {"xla_backend_optimization_level": "1"}},
  ],
)
def test_another_program_misses(start, events, change):
  start()
  make()(x())
  argument = x()
  assert misses(events, make(**change), argument)
  argument = x()
  assert not misses(events, make(**change), argument)
  assert not misses(events, make(), x())


@pytest.mark.parametrize(
  "argument",
  [
    lambda: x()[:2],
    lambda: x().astype(jnp.bfloat16),
    lambda: np.asarray(x()),
    lambda: jax.device_put(x(), jax.devices()[1]),
    lambda: jax.device_put(x(), jax.devices()[0]),  # Committed.
  ],
)
def test_another_argument_misses(start, events, argument):
  start()
  make()(x())
  other = argument()
  assert misses(events, make(), other)
  start()
  assert not misses(events, make(), other)


def test_the_environment_counts(start, events, monkeypatch):
  start()
  make()(x())
  argument = x()
  monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + " ")
  assert misses(events, make(), argument)
  assert not misses(events, make(), argument)


def test_options_of_jax_count(start, events):
  start()
  make()(x())
  argument = x()
  with jax.default_matmul_precision("bfloat16"):
    assert misses(events, make(), argument)
  assert not misses(events, make(), argument)


def test_the_mesh_and_the_platform_in_the_context_count(start, events):
  start()
  argument = x()
  make()(argument)
  with jax.set_mesh(mesh_lib.create_mesh()):
    assert misses(events, make(), argument)
    with platform.only("cpu"):
      assert misses(events, make(), argument)


def test_the_config_counts_but_for_its_seeds(start, events):
  start()
  argument = x()
  make()(argument)
  start(seed=5)
  assert not misses(events, make(), argument)
  start(**{"eval.seed": 5})
  assert not misses(events, make(), argument)
  start(**{"eval.size": 5})
  assert misses(events, make(), argument)


def test_a_byte_of_the_sources_counts(start, events, source, tmp_path):
  argument = x()
  start()
  make()(argument)
  source.write_text("x = 2\n")
  start()
  assert misses(events, make(), argument)
  # But what is compiled is the same.
  assert events[LOADED]
  assert not events[COMPILED]
  assert not misses(events, make(), argument)
  assert len(files(tmp_path, ".exe")) == 1
  assert len(files(tmp_path, ".key")) == 2


def test_sources_that_change_while_it_runs_keep_nothing(
  start, source, monkeypatch, tmp_path
):
  start()
  source.write_text("x = 2\n")
  make()(x())
  assert not files(tmp_path, "")
  monkeypatch.setattr(surroundings, "_IMPORTED", 0.0)
  assert not start()


def test_what_a_config_file_may_have_done_counts(start, events, tmp_path):
  """It is code, and can change the package."""
  path = tmp_path / "mine.py"
  path.write_text("x = 1\n")
  argument = x()
  assert start(path, "small,seed=1")
  make()(argument)
  start(path, "small, seed = 2")
  assert not misses(events, make(), argument)
  start(path, "large")
  assert misses(events, make(), argument)
  path.write_text("x = 2\n")
  start(path, "small,seed=1")
  assert misses(events, make(), argument)
  path.unlink()
  assert not start(path)


def test_once_sources_have_changed_nothing_is_loaded(start, events, source):
  """What is imported from now on is new."""
  argument = x()
  start()
  make()(argument)
  start()
  source.write_text("x = 2\n")
  assert misses(events, make(), argument)


@pytest.mark.parametrize("suffix", [".key", ".exe"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_file_is_replaced(start, events, tmp_path, suffix, damage):
  start()
  argument = x()
  expected = make()(argument)["y"]
  (path,) = files(tmp_path, suffix)
  data = path.read_bytes()
  changed = {"cut": data[:-9], "changed": data[:-9] + b"x" * 9}
  if damage == "gone":
    path.unlink()
  else:
    path.write_bytes(changed[damage])
  start()
  assert misses(events, make(), argument)
  np.testing.assert_array_equal(make()(argument)["y"], expected)
  assert not misses(events, make(), argument)


def test_what_cannot_be_loaded_is_compiled(start, events, monkeypatch):
  start()
  argument = x()
  expected = make()(argument)["y"]

  def fail(*_, **__):
    raise RuntimeError("another version")

  load = executables.serialize_executable
  monkeypatch.setattr(load, "deserialize_and_load", fail)
  start()
  events.clear()
  np.testing.assert_array_equal(make()(argument)["y"], expected)
  assert events[COMPILED]
  monkeypatch.setattr(load, "serialize", fail)
  np.testing.assert_array_equal(make(5.0)(argument)["x"], argument)
  monkeypatch.setattr(executables, "outside_calls", fail)
  np.testing.assert_array_equal(make(6.0)(argument)["x"], argument)


def test_a_disk_that_cannot_be_written_to_costs_nothing_else(
  start, monkeypatch
):
  start()

  def fail(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(kept_programs.program_files, "write", fail)
  assert make()(x())["y"].shape == (3, 3)


def test_donation_is_kept(start, events):
  start()
  for _ in range(2):
    events.clear()
    argument = jnp.ones((64, 64))
    kept_programs.jit(_double, donate_argnums=0)(argument)
    assert argument.is_deleted()
    start()
  assert not events[COMPILED]


def _double(x):
  return 2 * x


def test_other_arguments_than_the_first_are_compiled(start):
  start()
  program = make()
  for size in (3, 2, 3):
    got = program(x()[:size])["y"]
    assert got.shape == (size, size)
  assert program(np.asarray(x()))["y"].shape == (3, 3)


def test_within_another_program_nothing_is_loaded(start, tmp_path):
  start()
  program = make()
  got = jax.jit(lambda x: program(x)["y"] + 1)(x())
  np.testing.assert_allclose(got, jnp.sin(2 * x()) @ x().T + 1, rtol=1e-6)
  assert jax.grad(lambda x: program(x)["y"].sum())(x()).shape == (3, 4)
  assert not files(tmp_path, "")


def test_typed_keys_and_several_devices(start, events):
  mesh = mesh_lib.create_mesh()
  split = mesh_lib.batch_sharding(mesh)

  def draw(key, batch):
    axis = jax.lax.axis_index("data")
    key = jax.random.fold_in(key, axis)
    total = jax.lax.psum(batch.sum(), "data")
    return key[None], jax.random.normal(key, batch.shape) + total

  def run():
    def local(key, batch):
      specs = {"in_specs": (jax.P(), jax.P("data")), "out_specs": jax.P("data")}
      return jax.shard_map(draw, check_vma=False, **specs)(key, batch)

    program = kept_programs.jit(
      local, in_shardings=(mesh_lib.replicated(mesh), split)
    )
    key = jax.device_put(jax.random.key(3), mesh_lib.replicated(mesh))
    batch = jax.device_put(jnp.arange(8.0), split)
    events.clear()
    return mesh_lib.under_mesh(program, mesh)(key, batch)

  expected = run()
  for _ in range(2):
    start()
    got = run()
    for a, b in zip(got, expected, strict=True):
      assert a.sharding == b.sharding
      assert a.dtype == b.dtype
    np.testing.assert_array_equal(
      *(jax.random.key_data(o[0]) for o in (got, expected))
    )
    np.testing.assert_array_equal(got[1], expected[1])
  assert events[LOADED]
  assert not events[TRACED] + events[LOWERED] + events[COMPILED]


def test_a_program_that_calls_lapack(start, events):
  start()
  matrix = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)))
  factors = kept_programs.jit(_factors)(matrix)
  start()
  events.clear()
  again = kept_programs.jit(_factors)(matrix)
  assert events[LOADED]
  assert not events[COMPILED]
  np.testing.assert_array_equal(again, factors)


def _factors(x):
  return jnp.linalg.qr(x)[0]


def test_a_program_that_calls_python_is_not_kept(start, tmp_path):
  start()
  assert kept_programs.jit(_call)(jnp.float32(2)) == 4
  assert not files(tmp_path, "")


def _call(x):
  return jax.pure_callback(lambda x: 2 * x, x, x)


def test_code_of_others_is_not_kept(start, tmp_path, monkeypatch):
  monkeypatch.setattr(fingerprint, "_KNOWN", fingerprint._KNOWN - {"tests"})
  start()
  assert make()(x())["y"].shape == (3, 3)
  assert not files(tmp_path, "")


def test_the_command_line_asks_for_it(tmp_path):
  assert make()(x())["y"].shape == (3, 3)
  assert not program_store.keep("", ml_collections.ConfigDict(CONFIG))
  assert not list(tmp_path.iterdir())


def test_one_of_several_processes_keeps_nothing(start, monkeypatch, tmp_path):
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  assert not start()
  assert not list(tmp_path.iterdir())


def test_on_accelerators_nothing_is_kept(start, monkeypatch, tmp_path):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert not start()
  assert not list(tmp_path.iterdir())


def test_in_a_bucket_nothing_is_kept(start):
  config = ml_collections.ConfigDict(CONFIG)
  assert not program_store.keep("gs://bucket/cache", config)


def test_a_directory_of_others_keeps_nothing(start, tmp_path):
  (tmp_path / "programs").mkdir()
  (tmp_path / "programs").chmod(0o777)
  assert not start()


def test_while_jax_debugs_nothing_is_kept(start, tmp_path):
  start()
  with jax.debug_nans(True):
    make()(x())
  assert not files(tmp_path, "")


def test_threads_compile_a_program_once(start, events):
  start()
  program, argument = make(), x()
  events.clear()
  threads = [
    threading.Thread(target=program, args=(argument,)) for _ in range(4)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert events[COMPILED] == 1


def test_what_xla_has_read_from_its_cache_is_not_kept(start, tmp_path):
  """Written again, it would lack its functions."""
  factor = 2 + time.time() % 1000  # No other program of this cache.
  jax.config.update(LEAST_SECONDS, 0.0)
  expected = make(factor)(x())["y"]
  start()
  for _ in range(2):
    np.testing.assert_array_equal(make(factor)(x())["y"], expected)
  assert not files(tmp_path, "")
  assert jax.config.values[LEAST_SECONDS] == 0.0


def test_what_is_kept_does_not_get_into_the_cache_of_xla(start, tmp_path):
  jax.config.update(LEAST_SECONDS, 0.0)
  factor = 3002 + time.time() % 1000
  start()
  make(factor)(x())
  (executable,) = files(tmp_path, ".exe")
  executable.unlink()
  make(factor)(x())
  assert len(files(tmp_path, ".exe")) == 1
