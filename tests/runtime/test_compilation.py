"""What is kept of compiled programs."""

import os

import jax
import pytest

from slot_attention_jax.runtime import compilation

_VARIABLE = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


@pytest.fixture
def updates(monkeypatch):
  found = {}
  monkeypatch.setattr(jax.config, "update", found.__setitem__)
  monkeypatch.delenv(_VARIABLE, raising=False)
  return found


def test_quick_programs_are_kept(updates):
  compilation.keep_programs("~/programs")
  assert updates == {
    "jax_compilation_cache_dir": os.path.expanduser("~/programs"),
    "jax_persistent_cache_min_compile_time_secs": 0.1,
  }


def test_the_environment_decides_what_is_worth_keeping(updates, monkeypatch):
  monkeypatch.setenv(_VARIABLE, "5")
  compilation.keep_programs("programs")
  assert updates == {"jax_compilation_cache_dir": "programs"}


def test_without_a_directory_nothing_is_kept(updates):
  compilation.keep_programs("")
  assert not updates
