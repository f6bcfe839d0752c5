"""Where in the image the attention of each slot lies."""

import jax
import jax.numpy as jnp

from slot_attention_jax.modules import position

# They keep the division and the roots, and their gradients, finite for a slot
# without attention; below attention of 0.001 they count.
_EPSILON = 1e-6
_WEIGHT_EPSILON = 1e-12


def attention_moments(
  attention: jax.Array, grid: tuple[int, int], power: int = 4
) -> jax.Array:
  r"""Center, spread and area of each slot's attention.

  With :math:`x_n` the position of input n and p the power,

  .. math::
    w_{kn} = \frac{A_{kn}^p}{\sum_n A_{kn}^p}, \quad
    c_k = \sum_n w_{kn} x_n, \quad
    s_k = \sqrt{\sum_n w_{kn} (x_n - c_k)^2}, \quad
    r_k = \sqrt{\textstyle\frac{1}{N} \sum_n A_{kn}}

  With the fourth power, the center is that of the inputs that the slot has
  almost to itself. With the first it would be nearer to the middle of the
  image, as every slot has a little attention everywhere.

  Args:
    attention: [..., N] attention of slots, floats in [0, 1].
    grid: (h, w), with h * w = N: where the inputs lie, row by row.
    power: p, >= 1; the models have 4.

  Returns:
    [..., 5]: the center (y, x), from -1 to 1, with the corners of the grid at
    the corners of this square; the spread (y, x), from 0.001 to 1; and r, the
    root of the area, from 0.001 to 1. At least float32. A slot whose attention
    is below 0.001 everywhere is drawn to the middle.

  Raises:
    ValueError: if N is not the size of the grid, or the attention not floats.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules import attention_moments
    >>> attention = jnp.zeros((1, 3, 3)).at[0, 0, 1].set(1.0)  # Top, middle.
    >>> moments = attention_moments.attention_moments(
    ...   attention.reshape(1, 9), (3, 3))
    >>> [round(float(x), 3) for x in moments[0]]
    [-1.0, 0.0, 0.001, 0.001, 0.333]
  """
  height, width = grid
  if attention.shape[-1] != height * width:
    raise ValueError(
      f"Expected attention [..., {height * width}], for a grid of {height} x "
      f"{width} inputs, got {attention.shape}."
    )
  if not jnp.issubdtype(attention.dtype, jnp.floating):
    raise ValueError(
      f"Expected attention of floats in [0, 1], got {attention.dtype}."
    )
  dtype = jnp.promote_types(jnp.float32, attention.dtype)
  attention = attention.astype(dtype)
  points = position.position_grid(height, width)[..., :2].reshape(-1, 2)
  points = jnp.asarray(2 * points - 1, dtype)
  weights = attention**power
  weights /= jnp.sum(weights, axis=-1, keepdims=True) + _WEIGHT_EPSILON
  moments = [_moments_along_axis(weights, points[:, axis]) for axis in range(2)]
  centers, spreads = zip(*moments, strict=True)
  area = jnp.sqrt(jnp.mean(attention, axis=-1) + _EPSILON)
  return jnp.stack([*centers, *spreads, area], axis=-1)


def _moments_along_axis(
  weights: jax.Array, points: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Center and spread [...] of weights [..., N] at points [N].

  Sums of products, and of squares of differences: matrix products would round
  on accelerators, and a difference of squares lose the spread of small objects.
  """
  points = points.reshape((1,) * (weights.ndim - 1) + points.shape)
  center = jnp.sum(weights * points, axis=-1, keepdims=True)
  variance = jnp.sum(weights * (points - center) ** 2, axis=-1)
  return center[..., 0], jnp.sqrt(variance + _EPSILON)
