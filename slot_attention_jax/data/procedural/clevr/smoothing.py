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
  shifts = jnp.array([(0, 1), (2, 1), (1, 0), (1, 2)], jnp.int32)

  # A loop instead of four terms, so that XLA computes the image once and not
  # again for every neighbor that reads it.
  def one(i, state):
    across, within, other, found = state
    y, x = shifts[i, 0], shifts[i, 1]
    color = jax.lax.dynamic_slice(colors, (0, y, x), (3, h, w))
    index = jax.lax.dynamic_slice(indices, (y, x), (h, w))
    # An object whose outline reaches into the pixel from the side.
    match = (index == seen.beside_index) & (seen.beside > 0.0) & ~within
    across = jnp.where(match[None], color, across)
    within |= match
    # What lies behind the outline of the pixel's own object.
    match = (index != seen.index) & (index != _OUTSIDE) & ~found
    other = jnp.where(match[None], color, other)
    return across, within, other, found | match

  nowhere = jnp.zeros((h, w), bool)
  across, within, other, _ = jax.lax.fori_loop(
    0, 4, one, (image, nowhere, image, nowhere)
  )
  image = image + (1.0 - seen.cover)[None] * (other - image)
  share = jnp.where(within, seen.beside, 0.0)
  return image + share[None] * (across - image)
