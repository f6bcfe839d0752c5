"""The curve from light to the values of pixels."""

import jax
import numpy as np

from slot_attention_jax.data.procedural.clevr import srgb


def test_values_are_those_of_the_standard():
  light = np.concatenate([np.linspace(-0.1, 1.1, 9999), [0.0, 0.0031308, 1.0]])
  got = jax.jit(srgb.to_srgb)(np.float32(light))
  inside = light.clip(0, 1)
  expected = np.where(
    inside <= 0.0031308, 12.92 * inside, 1.055 * inside ** (1 / 2.4) - 0.055
  )
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
