"""PSNR against its formula in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax import losses
from slot_attention_jax.metrics import reconstruction


def test_psnr_matches_its_definition_on_gray_levels():
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (3, 8, 9, 3)).astype(np.float32)
  noisy = images + 0.1 * rng.standard_normal(images.shape).astype(np.float32)
  actual = reconstruction.psnr(jnp.asarray(noisy), jnp.asarray(images))
  # As others have it, of images in [0, 255].
  a, b = (
    (x.astype(np.float64).clip(-1, 1) + 1) * 127.5 for x in (noisy, images)
  )
  mse = np.square(a - b).mean(axis=(1, 2, 3))
  np.testing.assert_allclose(actual, 10 * np.log10(255**2 / mse), atol=1e-3)


def test_exact_images_have_100_db_and_values_are_clipped():
  images = jnp.array([[[[1.0, -1.0]]], [[[0.5, 0.0]]]])
  assert reconstruction.psnr(images, images).tolist() == [100.0, 100.0]
  assert float(reconstruction.psnr(3 * images, images)[0]) == 100.0
  # Unclipped the error is 2 of a range of 2.
  unclipped = reconstruction.psnr(3 * images, images, clip=False)
  assert float(unclipped[0]) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("clip", [False, True])
def test_psnr_of_each_image_for_any_range_and_dtype(clip):
  images = jax.random.uniform(jax.random.key(0), (4, 6, 5, 3), minval=-1)
  noise = jax.random.normal(jax.random.key(1), images.shape)
  scale = jnp.array([0.01, 0.1, 0.5, 1.0])[:, None, None, None]
  noisy = images + scale * noise
  psnr = jax.jit(
    functools.partial(reconstruction.psnr, clip=clip),
    static_argnames="data_range",
  )
  actual = psnr(noisy, images)
  each = [psnr(a[None], b[None])[0] for a, b in zip(noisy, images, strict=True)]
  np.testing.assert_allclose(actual, each, rtol=1e-6)
  assert (np.diff(actual) < 0).all()
  # Decibels are of the ratio to the range, whatever the unit.
  np.testing.assert_allclose(
    psnr(127.5 * noisy, 127.5 * images, data_range=255.0), actual, atol=1e-4
  )
  # What is in bfloat16 is compared in float32.
  rounded = noisy.astype(jnp.bfloat16), images.astype(jnp.bfloat16)
  low = psnr(*rounded)
  same = psnr(*(x.astype(jnp.float32) for x in rounded))
  assert low.dtype == jnp.float32
  np.testing.assert_array_equal(low, same)


def test_unclipped_psnr_is_the_loss_in_decibels():
  images = jax.random.uniform(jax.random.key(0), (4, 6, 5, 3), minval=-1)
  noisy = images + jax.random.normal(jax.random.key(1), images.shape)
  loss = np.asarray(losses.reconstruction_loss(noisy, images), np.float64)
  actual = reconstruction.psnr(noisy, images, clip=False)
  np.testing.assert_allclose(actual, 10 * np.log10(4 / loss), atol=1e-4)
  clipped = reconstruction.psnr(noisy, images)
  assert (clipped > actual).all()


def test_wrong_shapes_and_ranges_are_errors():
  with pytest.raises(ValueError, match=r"\(2, 4\) and \(2, 5\)"):
    reconstruction.psnr(jnp.zeros((2, 4)), jnp.zeros((2, 5)))
  for data_range in (0.0, -2.0, float("nan")):
    with pytest.raises(ValueError, match="positive data_range"):
      reconstruction.psnr(
        jnp.zeros((2, 4)), jnp.zeros((2, 4)), data_range=data_range
      )
