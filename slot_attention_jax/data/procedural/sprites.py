"""Outlines of dSprites: squares, ellipses and hearts."""

import jax
import jax.numpy as jnp

SHAPES = ("square", "ellipse", "heart")

# Lengths are parts of the canvas, at scale 1, fitted to the pictures of
# dSprites' own `dsprites.gif`. On average a square differs from them in 0.2 of
# its 353 pixels, an ellipse in 1.2 of 274, a heart in 3.5 of 219.
_SQUARE_SIDE = 0.3
_ELLIPSE_AXES = (0.2, 0.1125)  # Half axes along x and y.
# A heart's right half: a disc for the lobe; under the disc's center what lies
# left of a steep line and above one of 45 degrees; a filling up to the notch.
_LOBE_X, _LOBE_Y, _LOBE_RADIUS = 0.075, -0.071, 0.074
_TIP = 0.1315  # x + y <= tip.
_FLANK_SLOPE, _FLANK = 2.15, 0.275  # slope x + y <= flank.
_NOTCH = -0.087


def contains(shape: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
  """Which points lie in an upright sprite of scale 1 around the origin.

  Takes `shape` [O] int32 and the points' x (to the right) and y (downwards)
  `u`, `v` [O, H, W] in parts of the canvas; returns [O, H, W] bool.
  """
  u = jnp.abs(u)  # All three are symmetric.
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
