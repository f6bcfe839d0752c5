"""Tests of forms of a computation, of which a program needs one."""

import jax
import numpy as np
import pytest

from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.runtime import platform

X = np.arange(4.0, dtype=np.float32)


@pytest.fixture
def forms():
  """A function of two forms, and the names of those that were traced."""
  traced = []

  def form(name, factor):
    def run(x):
      traced.append(name)
      return factor * x

    return run

  def both(x):
    return platform.dependent(x, cpu=form("cpu", 2), default=form("other", 3))

  return both, traced


def test_without_a_mesh_all_forms_are_traced(forms):
  both, traced = forms
  np.testing.assert_array_equal(jax.jit(both)(X), 2 * X)
  assert set(traced) == {"cpu", "other"}


def test_under_a_mesh_its_platforms_form_alone_is_traced(forms):
  both, traced = forms
  step = mesh_lib.under_mesh(jax.jit(both), mesh_lib.create_mesh())
  np.testing.assert_array_equal(step(X), 2 * X)
  assert traced == ["cpu"]


def test_a_platform_without_a_form_of_its_own_gets_the_default(forms):
  both, traced = forms
  step = jax.jit(lambda x: platform.dependent(x, tpu=abs, default=both))
  assert float(mesh_lib.under_mesh(step, mesh_lib.create_mesh())(X)[1]) == 2
  assert traced == ["cpu"]


def test_exported_under_a_mesh_of_the_user_it_has_that_platforms_form(forms):
  both, _ = forms
  with jax.set_mesh(mesh_lib.create_mesh()):
    step = jax.jit(both)
    np.testing.assert_array_equal(step(X), 2 * X)
    exported = jax.export.export(step, platforms=["tpu"])(X)
  assert "dense<3.0" in exported.mlir_module()
  assert "dense<2.0" not in exported.mlir_module()


def test_lowered_for_another_platform_it_has_that_ones_form(forms):
  both, traced = forms
  mesh = mesh_lib.create_mesh()

  # The step divides its work by the mesh, too.
  def split(x):
    spec = jax.P(mesh_lib.AXIS)
    return jax.shard_map(both, in_specs=spec, out_specs=spec)(x)

  step = mesh_lib.under_mesh(jax.jit(split), mesh)
  x = jax.device_put(X, mesh_lib.batch_sharding(mesh))
  np.testing.assert_array_equal(step(x), 2 * X)  # What was traced is kept.
  assert traced == ["cpu"]
  text = step.lower(x, platforms=("tpu",)).as_text()
  assert "dense<3.0" in text
  assert "dense<2.0" not in text
