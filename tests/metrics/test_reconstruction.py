"""PSNR against its formula in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.metrics import reconstruction


def test_psnr_by_its_definition_on_gray_levels():
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


def test_exact_ones_have_100_db_and_what_is_out_of_range_is_clipped():
  images = jnp.array([[[[1.0, -1.0]]], [[[0.5, 0.0]]]])
  assert reconstruction.psnr(images, images).tolist() == [100.0, 100.0]
  assert float(reconstruction.psnr(3 * images, images)[0]) == 100.0


def test_other_shapes_are_an_error():
  with pytest.raises(ValueError, match=r"\(2, 4\) and \(2, 5\)"):
    reconstruction.psnr(jnp.zeros((2, 4)), jnp.zeros((2, 5)))
