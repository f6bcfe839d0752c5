"""Attention as masks: the order of the grid, sums, and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.metrics import masks


@pytest.fixture(scope="module")
def attention():
  logits = jax.random.normal(jax.random.key(0), (2, 3, 4 * 6))
  return jax.nn.softmax(4 * logits, axis=1)


def test_masks_sum_to_1_over_the_slots(attention):
  maps = jax.jit(masks.attention_masks, static_argnums=(1, 2))(
    attention, (4, 6), (16, 12)
  )
  assert maps.shape == (2, 3, 16, 12)
  np.testing.assert_allclose(maps.sum(axis=1), 1.0, atol=1e-6)
  assert float(maps.min()) >= 0.0


def test_masks_of_the_grid_size_are_not_resized(attention):
  maps = masks.attention_masks(attention, (4, 6), (4, 6))
  for row in range(4):
    for column in range(6):
      np.testing.assert_array_equal(
        maps[:, :, row, column], attention[:, :, 6 * row + column]
      )


def test_upsampling_is_bilinear_with_half_pixel_centers(attention):
  maps = masks.attention_masks(attention, (4, 6), (12, 18))
  grid = np.asarray(attention).reshape(2, 3, 4, 6)
  # The center of every cell, and a third of the way to the next.
  np.testing.assert_allclose(maps[:, :, 1::3, 1::3], grid, atol=1e-6)
  between = grid[..., :-1] * 2 / 3 + grid[..., 1:] / 3
  np.testing.assert_allclose(maps[:, :, 1::3, 2:-1:3], between, atol=1e-6)


def test_images_are_independent_and_slots_permute(attention):
  order = jnp.array([2, 0, 1])
  maps = masks.attention_masks(attention, (4, 6), (9, 13))
  permuted = masks.attention_masks(attention[:, order], (4, 6), (9, 13))
  np.testing.assert_allclose(permuted, maps[:, order], atol=1e-6)
  one = masks.attention_masks(attention[1:], (4, 6), (9, 13))
  np.testing.assert_allclose(one, maps[1:], atol=1e-6)


def test_downsampling_keeps_the_sum(attention):
  maps = masks.attention_masks(attention, (4, 6), (2, 3))
  np.testing.assert_allclose(maps.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.thorough
def test_attention_of_the_model_on_the_grid_of_its_encoder():
  model = sa.SlotAttentionClassifier.from_preset(
    "clevr",
    encoder_channels=(4,),
    encoder_kernel_sizes=(5,),
    encoder_strides=(4,),
    encoder_mlp_sizes=(4,),
    mlp_hidden_size=None,
    slot_size=8,
    num_slots=3,
  )
  images = jax.random.normal(jax.random.key(0), (2, 18, 26, 3))
  rngs = {"params": jax.random.key(1), "slots": jax.random.key(2)}
  out, _ = jax.jit(model.init_with_output)(rngs, images)
  grid = model.feature_grid((18, 26))
  maps = masks.attention_masks(out.attention[:, -1], grid, (18, 26))
  assert (grid, maps.shape) == ((5, 7), (2, 3, 18, 26))
  np.testing.assert_allclose(maps.sum(axis=1), 1.0, atol=1e-5)


def test_a_grid_that_does_not_fit_is_an_error(attention):
  with pytest.raises(ValueError, match=r"5 x 5 = 25 inputs, got \(2, 3, 24\)"):
    masks.attention_masks(attention, (5, 5), (10, 10))
  with pytest.raises(ValueError, match="one iteration"):
    masks.attention_masks(jnp.zeros((2, 3, 3, 24)), (4, 6), (8, 12))
