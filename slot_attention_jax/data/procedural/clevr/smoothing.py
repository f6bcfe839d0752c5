"""Antialiasing: pixels that an outline cuts blend what lies on both sides."""

import jax
import jax.numpy as jnp

from slot_attention_jax.data.procedural.clevr import tracing

# Index of pixels outside the image; no object has it.
_OUTSIDE = -2


def smooth(image: jax.Array, seen: tracing.Seen) -> jax.Array:
  """Blends edge pixels with what lies across the edge, by coverage.

  Args:
    image: [3, H, W] light at the centers of pixels.
    seen: [H, W], what is seen there.

  Returns:
    [3, H, W].
  """
  h, w = seen.index.shape
  # A border of pixels that belong to no object.
  colors = jnp.pad(image, ((0, 0), (1, 1), (1, 1)))
  indices = jnp.pad(seen.index, 1, constant_values=_OUTSIDE)

  within = found = jnp.zeros((h, w), bool)
  neighbors, across, behind = [], [], []
  for y, x in ((0, 1), (2, 1), (1, 0), (1, 2)):
    neighbors.append(colors[:, y : y + h, x : x + w])
    index = indices[y : y + h, x : x + w]
    # An object whose outline reaches into the pixel from the side.
    match = (index == seen.beside_index) & (seen.beside > 0.0) & ~within
    across.append(jnp.where(match, seen.beside, 0.0))
    within |= match
    # What lies behind the outline of the pixel's own object.
    match = (index != seen.index) & (index != _OUTSIDE) & ~found
    behind.append(jnp.where(match, 1.0 - seen.cover, 0.0))
    found |= match
  # The pixel is mixed with what is behind, and that with what is across: a sum
  # of five colors, whose weights do not depend on the color.
  rest = 1.0 - jnp.where(within, seen.beside, 0.0)
  total = (rest * jnp.where(found, seen.cover, 1.0))[None] * image
  for color, a, b in zip(neighbors, across, behind, strict=True):
    total += (a + rest * b)[None] * color
  return total
