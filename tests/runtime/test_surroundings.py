import os
import sys
import time
import types

import jax
import pytest

from slot_attention_jax.runtime import fingerprint, surroundings


def digest():
  return fingerprint.of(surroundings.describe())


def test_nothing_changes_by_itself():
  assert digest() == digest()


@pytest.mark.parametrize(
  "name", ["XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_ANYTHING", "NVIDIA_TF32_X"]
)
def test_variables_of_the_environment_count(monkeypatch, name):
  before = digest()
  monkeypatch.setenv(name, os.environ.get(name, "") + " --xla_dump_to=")
  assert digest() != before


def test_other_variables_do_not_count(monkeypatch):
  before = digest()
  monkeypatch.setenv("HOME", "/nowhere")
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/nowhere")
  assert digest() == before


@pytest.mark.parametrize(
  "context",
  [
    lambda: jax.default_matmul_precision("highest"),
    lambda: jax.enable_x64(True),
    lambda: jax.threefry_partitionable(False),
    lambda: jax.default_prng_impl("rbg"),
    lambda: jax.numpy_rank_promotion("warn"),
    lambda: jax.default_device(jax.devices()[1]),
  ],
)
def test_options_of_jax_count_also_those_of_a_thread(context):
  before = digest()
  with context():
    assert digest() != before
  assert digest() == before


def test_versions_and_devices_count(monkeypatch):
  before = digest()
  version = surroundings._version
  with monkeypatch.context() as patch:
    change = {"optax": ".1"}
    patch.setattr(
      surroundings, "_version", lambda n: version(n) + change.get(n, "")
    )
    assert digest() != before
  with monkeypatch.context() as patch:
    devices = jax.devices()
    patch.setattr(jax, "devices", lambda: devices[:2])
    assert digest() != before


def test_the_processor_counts(monkeypatch):
  before = digest()
  monkeypatch.setattr(surroundings, "_processor", lambda: ["flags=mmx"])
  assert digest() != before


@pytest.fixture
def package(tmp_path):
  (tmp_path / "part").mkdir()
  (tmp_path / "part" / "a.py").write_text("x = 1\n")
  (tmp_path / "b.py").write_text("y = 1\n")
  (tmp_path / "text.md").write_text("y = 1\n")
  return tmp_path


def test_every_byte_of_the_sources_counts(package):
  files = surroundings.sources(package)
  assert [f[0] for f in files] == ["b.py", "part/a.py"]
  before = surroundings.sources_digest(files, package)
  assert before == surroundings.sources_digest(files, package)
  (package / "part" / "a.py").write_text("x = 2\n")
  assert surroundings.sources(package) != files
  assert surroundings.sources_digest(files, package) != before


def test_a_new_file_counts(package):
  before = surroundings.sources(package)
  (package / "c.py").touch()
  after = surroundings.sources(package)
  assert after != before
  digests = {surroundings.sources_digest(f, package) for f in (before, after)}
  assert len(digests) == 2


def test_sources_that_are_newer_than_the_process_are_seen(package, monkeypatch):
  monkeypatch.setattr(surroundings, "_IMPORTED", time.time() + 60)
  assert not surroundings.changed_since_import(surroundings.sources(package))
  monkeypatch.setattr(surroundings, "_IMPORTED", time.time())
  assert surroundings.changed_since_import(surroundings.sources(package))
  # So are those that have the time of another file.
  for path in package.rglob("*.py"):
    os.utime(path, (1e9, 1e9))
  assert surroundings.changed_since_import(surroundings.sources(package))


def test_the_process_began_before_this_test():
  assert time.time() - 86_400 < surroundings._IMPORTED < time.time() - 0.1


def test_code_of_ones_own_is_found(tmp_path, monkeypatch):
  names = ("s.py", "m.py", "c.py", "p.py")
  script, module, config, profiled = (tmp_path / name for name in names)
  for path in (script, module, config, profiled):
    path.touch()
  monkeypatch.setattr(sys, "argv", [str(profiled), "--x.py"])
  for name, path in (("__main__", script), ("mine", module)):
    made = types.ModuleType(name)
    made.__file__ = str(path)
    monkeypatch.setitem(sys.modules, name, made)
  found = surroundings.own_files(config)
  assert {str(p) for p in (script, module, config, profiled)} <= set(found)
  others = [jax.__file__, types.__file__, surroundings.__file__]
  assert not set(others) & set(found)
  before = surroundings.sources(own=found)
  module.write_text("x = 1")
  assert surroundings.sources(own=found) != before
  assert len(before) == len(surroundings.sources()) + len(found)


def test_a_change_of_an_installed_package_is_found(tmp_path, monkeypatch):
  before = surroundings.installed_files()
  assert {"jax", "jax.numpy", "numpy"} <= {x[0] for x in before}
  assert not any(x[0].startswith("slot_attention_jax") for x in before)
  copy = tmp_path / "relu.py"
  copy.write_text("x = 1")
  monkeypatch.setattr(jax.nn, "__file__", str(copy))
  after = surroundings.installed_files()
  assert after != before
  os.utime(copy, (1e9, 1e9))
  assert surroundings.installed_files() != after


def test_a_script_in_no_file_is_refused(monkeypatch):
  monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
  with pytest.raises(ValueError, match="in a file"):
    surroundings.own_files()


def test_the_package_itself_is_found():
  names = [f[0] for f in surroundings.sources()]
  assert "runtime/surroundings.py" in names
  assert "main.py" in names


def test_what_only_says_that_it_is_a_module_is_left_out(monkeypatch):
  class Library:
    __slots__ = ()

    @property
    def __class__(self):
      return types.ModuleType

  assert isinstance(Library(), types.ModuleType)
  monkeypatch.setitem(sys.modules, "some_library", Library())
  assert "some_library" not in dict(surroundings._files_of_modules())
  surroundings.installed_files()
