"""Tests of shapes, which are found without what they do not depend on."""

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.models import autoencoder
from slot_attention_jax.runtime import platform, shapes


def model():
  return autoencoder.SlotAttentionAutoEncoder(
    resolution=(8, 8), num_slots=2, num_iterations=2, slot_size=4,
    mlp_hidden_size=4,
    encoder_channels=(3,), encoder_kernel_sizes=(3,), encoder_strides=(2,),
    encoder_mlp_sizes=(4,), broadcast_size=(2, 2), decoder_channels=(3,),
    decoder_kernel_sizes=(3, 3), decoder_strides=(2, 2),
  )  # fmt: skip


def test_they_are_those_that_jax_finds():
  rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
  expected = jax.eval_shape(model().init, rngs, images)
  assert shapes.of(model().init, rngs, images) == expected


def test_no_program_gets_what_was_traced_for_shapes():
  @jax.jit
  def inner(x):
    x = platform.dependent(x, cpu=lambda x: 2 * x, default=lambda x: 3 * x)
    return x + shapes.only()

  def outer(x):
    return inner(x)

  x = np.ones(3, np.float32)
  assert shapes.of(outer, x) == jax.ShapeDtypeStruct((3,), jnp.float32)
  np.testing.assert_array_equal(jax.jit(outer)(x), 2.0)
