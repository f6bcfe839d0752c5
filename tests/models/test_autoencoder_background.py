"""The autoencoder whose slot 0 paints a background."""

import jax
import numpy as np
import pytest

from slot_attention_jax import models
from slot_attention_jax.modules import background

PAPER = models.SlotAttentionAutoEncoder(
  resolution=(8, 8),
  num_slots=3,
  num_iterations=2,
  slot_size=8,
  mlp_hidden_size=8,
  encoder_channels=(4,),
  encoder_kernel_sizes=(3,),
  encoder_strides=(2,),
  encoder_mlp_sizes=(8,),
  broadcast_size=(4, 4),
  decoder_channels=(4,),
  decoder_kernel_sizes=(3, 3),
  decoder_strides=(2, 1),
)
MODEL = PAPER.clone(background=background.SmoothBackground(grid=2))


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


IMAGES, NOISE = normal(0, 2, 8, 8, 3), normal(1, 2, 3, 8)


@pytest.fixture(scope="module")
def params():
  return jax.jit(MODEL.init)(jax.random.key(0), IMAGES, noise=NOISE)


def test_slot_0_paints_the_background(params):
  output = jax.jit(MODEL.apply)(params, IMAGES, noise=NOISE)
  np.testing.assert_allclose(output.masks.sum(axis=1), 1, atol=1e-6)
  # Linear along rows and columns, unlike the others.
  for axis in (1, 2):
    assert np.abs(np.diff(output.images[:, 0], 2, axis=axis)).max() < 1e-6
    assert np.abs(np.diff(output.images[:, 1:], 2, axis=axis + 1)).max() > 1e-3
  more = jax.jit(MODEL.apply)(params, IMAGES, noise=normal(1, 2, 5, 8))
  assert more.masks.shape == (2, 5, 8, 8, 1)


def test_the_background_alone_is_a_scene(params):
  slots = normal(2, 2, 3, 8)
  image, images, masks = jax.jit(
    lambda slots: MODEL.apply(params, slots, method="decode")
  )(slots[:, :1])
  assert (images.shape, masks.shape) == ((2, 1, 8, 8, 3), (2, 1, 8, 8, 1))
  np.testing.assert_array_equal(masks, 1)
  np.testing.assert_array_equal(image, images[:, 0])
  _, expected, _ = MODEL.apply(params, slots, method="decode")
  np.testing.assert_allclose(images, expected[:, :1], atol=1e-6)


def test_the_other_slots_are_decoded_as_without_a_background(params):
  output = jax.jit(MODEL.apply)(params, IMAGES, noise=NOISE)
  tree = dict(params["params"])
  assert set(tree.pop("background")) == {"dense_0", "dense_1"}
  paper = jax.jit(PAPER.apply)({"params": tree}, IMAGES, noise=NOISE)
  np.testing.assert_allclose(output.slots, paper.slots, atol=1e-6)
  np.testing.assert_allclose(
    output.images[:, 1:],
    background.COLOR_LIMIT * np.tanh(paper.images[:, 1:]),
    atol=1e-5,
  )
  # Log ratios of masks are differences of logits.
  got, expected = (
    np.log(m[:, 1]) - np.log(m[:, 2]) for m in (output.masks, paper.masks)
  )
  np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.thorough
def test_other_initial_parameters_do_not_depend_on_the_background(params):
  plain = jax.jit(PAPER.init)(jax.random.key(0), IMAGES, noise=NOISE)["params"]
  other = params["params"]
  assert set(other) - set(plain) == {"background"}
  jax.tree.map(
    np.testing.assert_array_equal, plain, {k: other[k] for k in plain}
  )
