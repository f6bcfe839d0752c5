"""The curve from light to the values of pixels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import geometry

# A polynomial for q^(2 / 3) on [0.23, 1]: `to_srgb`.
_NODES = 0.615 + 0.385 * np.cos(np.pi * (np.arange(7) + 0.5) / 7)
_ROOT = np.polyfit(_NODES, _NODES ** (2 / 3), 6).astype(np.float32)


def to_srgb(light: jax.Array) -> jax.Array:
  """Converts linear light to sRGB values, clipped to [0, 1]; within 1e-5."""
  light = jnp.clip(light, 0.0, 1.0)
  # light^(1 / 2.4) = q q^(2 / 3), where q = light^(1 / 4) is in [0.23, 1]:
  # logarithms and powers are several times slower on a CPU.
  q = jnp.sqrt(jnp.sqrt(geometry.larger(light, 0.0031308)))
  root: Any = _ROOT[0]
  for coefficient in _ROOT[1:]:
    root = root * q + coefficient
  curve = 1.055 * q * root - 0.055
  return jnp.where(light <= 0.0031308, 12.92 * light, curve)
