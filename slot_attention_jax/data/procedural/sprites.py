"""The shapes of dSprites: squares, ellipses and hearts."""

import jax
import jax.numpy as jnp

SHAPES = ("square", "ellipse", "heart")

# Lengths are fractions of the canvas, at scale 1, fitted to the images in
# dSprites' `dsprites.gif`. On average a square differs from those in 0.2 of its
# 353 pixels, an ellipse in 1.2 of 274, a heart in 3.5 of 219.
_SQUARE_SIDE = 0.3
_ELLIPSE_AXES = (0.2, 0.1125)  # Semi-axes along x and y.
# The right half of a heart is a union of three parts: a disc, the lobe; below
# the disc's center the points left of a steep line and above a line at 45
# degrees; between the lobes the points below the notch.
_LOBE_X, _LOBE_Y, _LOBE_RADIUS = 0.075, -0.071, 0.074
_TIP = 0.1315  # x + y <= tip.
_FLANK_SLOPE, _FLANK = 2.15, 0.275  # slope x + y <= flank.
_NOTCH = -0.087


def contains(shape: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
  """Whether points lie in an upright sprite of scale 1, centered at the origin.

  Args:
    shape: [O] int32, index into `SHAPES`.
    u: [O, H, W], x of the points, to the right, as fractions of the canvas.
    v: [O, H, W], y of the points, downwards, as fractions of the canvas.

  Returns:
    [O, H, W] bool.
  """
  u = jnp.abs(u)  # All three shapes are symmetric.
  square = jnp.maximum(u, jnp.abs(v)) <= _SQUARE_SIDE / 2.0
  a, b = _ELLIPSE_AXES
  ellipse = (u / a) ** 2 + (v / b) ** 2 <= 1.0
  disc = (u - _LOBE_X) ** 2 + (v - _LOBE_Y) ** 2 <= _LOBE_RADIUS**2
  # The disc's right edge bounds the upper end of the flank.
  body = (u + v <= _TIP) & (_FLANK_SLOPE * u + v <= _FLANK)
  body &= u <= _LOBE_X + _LOBE_RADIUS
  between = (u <= _LOBE_X) & (v >= _NOTCH)
  heart = jnp.where(v >= _LOBE_Y, body, disc | between)
  shape = shape[:, None, None]
  return jnp.where(shape == 0, square, jnp.where(shape == 1, ellipse, heart))
