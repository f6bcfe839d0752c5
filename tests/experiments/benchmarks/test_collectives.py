"""Tests of counting collectives in a compiled program."""

import functools

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import collectives
from slot_attention_jax.runtime import mesh as mesh_lib


def compiled_text(function, *shapes):
  mesh = mesh_lib.create_mesh()
  mapped = functools.partial(
    jax.shard_map,
    mesh=mesh,
    in_specs=jax.P(),
    out_specs=jax.P(),
    check_vma=False,
  )
  arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return jax.jit(mapped(function)).lower(*arrays).compile().as_text()


def test_a_collective_in_a_loop_counts_once_per_iteration():
  def function(x):
    def iteration(x, _):
      return jnp.sin(jax.lax.psum(x, mesh_lib.AXIS)), None

    x, _ = jax.lax.scan(iteration, x, length=3)
    return jax.lax.psum(x.sum(), mesh_lib.AXIS)

  found = collectives.count_collectives(compiled_text(function, (5, 7)))
  assert found == {"all-reduce": {"count": 4, "bytes": 3 * 5 * 7 * 4 + 4}}


def test_bytes_of_a_collective_with_several_results():
  def function(x, y):
    return jax.lax.psum((x, y), mesh_lib.AXIS)

  found = collectives.count_collectives(compiled_text(function, (5,), (2, 3)))
  assert found["all-reduce"]["bytes"] == 4 * (5 + 6)
  assert collectives.count_collectives(compiled_text(jnp.sin, (5,))) == {}


def test_a_loop_of_unknown_length_raises():
  def function(x):
    return jax.lax.while_loop(
      lambda x: x.sum() < 9, lambda x: jax.lax.psum(x, mesh_lib.AXIS), x
    )

  with pytest.raises(ValueError, match="loops of known length"):
    collectives.count_collectives(compiled_text(function, (5,)))
