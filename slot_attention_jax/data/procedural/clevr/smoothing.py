"""Smooth edges: pixels that an outline cuts mix what lies on both sides."""

import jax
import jax.numpy as jnp

from slot_attention_jax.data.procedural.clevr import tiles

# The number of pixels outside of the picture, which no object has.
_OUTSIDE = -2


def smooth(picture: jax.Array, seen: tiles.Seen) -> jax.Array:
  """Mixes edge pixels with what lies across the edge, by coverage.

  Args:
    picture: [3, H, W] light at the centers of pixels.
    seen: `tiles.Seen` [H, W], what is seen there.

  Returns:
    [3, H, W].
  """
  h, w = seen.index.shape
  # A border of pixels that belong to no object.
  colors = jnp.pad(picture, ((0, 0), (1, 1), (1, 1)))
  numbers = jnp.pad(seen.index, 1, constant_values=_OUTSIDE)
  shifts = jnp.array([(0, 1), (2, 1), (1, 0), (1, 2)], jnp.int32)

  # A loop instead of four terms, so that XLA computes the picture once and not
  # again for every neighbor that reads it.
  def one(i, state):
    across, within, other, found = state
    y, x = shifts[i, 0], shifts[i, 1]
    color = jax.lax.dynamic_slice(colors, (0, y, x), (3, h, w))
    number = jax.lax.dynamic_slice(numbers, (y, x), (h, w))
    # An object whose outline reaches into the pixel from the side.
    match = (number == seen.beside_index) & (seen.beside > 0.0) & ~within
    across = jnp.where(match[None], color, across)
    within |= match
    # What lies behind the outline of the pixel's own object.
    match = (number != seen.index) & (number != _OUTSIDE) & ~found
    other = jnp.where(match[None], color, other)
    return across, within, other, found | match

  nowhere = jnp.zeros((h, w), bool)
  across, within, other, _ = jax.lax.fori_loop(
    0, 4, one, (picture, nowhere, picture, nowhere)
  )
  picture = picture + (1.0 - seen.cover)[None] * (other - picture)
  share = jnp.where(within, seen.beside, 0.0)
  return picture + share[None] * (across - picture)
