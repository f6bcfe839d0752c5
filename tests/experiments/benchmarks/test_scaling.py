"""What the benchmark of scaling counts in a compiled program."""

import functools

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import scaling
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


def test_a_collective_in_a_loop_counts_as_often_as_the_loop_turns():
  def function(x):
    def turn(x, _):
      return jnp.sin(jax.lax.psum(x, mesh_lib.AXIS)), None

    x, _ = jax.lax.scan(turn, x, length=3)
    return jax.lax.psum(x.sum(), mesh_lib.AXIS)

  found = scaling.collectives(compiled_text(function, (5, 7)))
  assert found == {"all-reduce": {"count": 4, "bytes": 3 * 5 * 7 * 4 + 4}}


def test_results_of_one_collective_are_added_up():
  def function(x, y):
    return jax.lax.psum((x, y), mesh_lib.AXIS)

  found = scaling.collectives(compiled_text(function, (5,), (2, 3)))
  assert found["all-reduce"]["bytes"] == 4 * (5 + 6)
  assert scaling.collectives(compiled_text(jnp.sin, (5,))) == {}


def test_a_loop_of_unknown_length_is_an_error():
  def function(x):
    return jax.lax.while_loop(
      lambda x: x.sum() < 9, lambda x: jax.lax.psum(x, mesh_lib.AXIS), x
    )

  with pytest.raises(ValueError, match="loops of known length"):
    scaling.collectives(compiled_text(function, (5,)))
