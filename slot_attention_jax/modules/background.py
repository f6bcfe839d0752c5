"""A background without detail: what slot 0 may paint, and no more.

The paper's decoder lets every slot paint anything, including parts of the
background, and nothing makes the slots leave it to one of them. Here slot 0
gets an image that is too smooth for any object, and one alpha logit everywhere.
What is left to the other slots is what stands out against it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from slot_attention_jax.modules import initializers

COLOR_LIMIT = 1.05
"""Largest absolute value of a color in front of a background."""


class SmoothBackground(nn.Module):
  """Decodes a slot to an image that a coarse grid of colors determines.

  An MLP computes the colors of a grid of `grid` by `grid` points, the outermost
  of which lie in the corners of the image. The image is interpolated linearly
  between them; with a grid of 1 it has a single color. It can show a wall or a
  floor in any light, but no object.

  Attributes:
    grid: points along each side.
    hidden_size: hidden size of the MLP.
    output_channels: C.
    dtype: dtype of the matrix products; None: that of inputs and parameters.
    param_dtype: dtype of the parameters.
    logit: the alpha logit of the background, in every pixel. The other slots'
      begin near 0: with 0 all slots share the first images evenly, and the
      background may end up with any of them; with 3 the background has most of
      them, and the others get what it cannot paint.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules import background
    >>> module = background.SmoothBackground(grid=3)
    >>> slots = jnp.zeros((2, 64))
    >>> params = module.init(jax.random.key(0), slots, (28, 28))
    >>> module.apply(params, slots, (28, 28)).shape
    (2, 28, 28, 3)
  """

  grid: int = 1
  hidden_size: int = 64
  output_channels: int = 3
  dtype: Any = None
  param_dtype: Any = jnp.float32
  logit: float = 0.0

  @nn.compact
  def __call__(
    self, slots: jax.Array, resolution: tuple[int, int]
  ) -> jax.Array:
    """Decodes slots.

    Args:
      slots: [B, D].
      resolution: (H, W) of the image, in pixels.

    Returns:
      Images [B, H, W, C].

    Raises:
      ValueError: if the grid has no point.
    """
    if self.grid < 1:
      raise ValueError(f"Expected a grid of at least 1, got {self.grid}.")
    n, c = self.grid, self.output_channels
    x = slots
    for i, features in enumerate((self.hidden_size, n * n * c)):
      x = nn.relu(x) if i else x
      x = nn.Dense(
        features,
        kernel_init=initializers.glorot_uniform(self),
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f"dense_{i}",
      )(x)
    rows, columns = (
      jnp.asarray(_interpolation(size, n), x.dtype) for size in resolution
    )
    return jnp.einsum("hi,wj,bijc->bhwc", rows, columns, x.reshape(-1, n, n, c))


def _interpolation(size: int, num_points: int) -> np.ndarray:
  """Weights [size, num_points] of linear interpolation from end to end."""
  positions = np.linspace(0, num_points - 1, size)[:, None]
  return np.maximum(0, 1 - np.abs(positions - np.arange(num_points)))


def put_behind(
  background: jax.Array,
  images: jax.Array,
  alpha_logits: jax.Array,
  logit: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
  """Puts a background behind the images of the other slots, as slot 0.

  The others' colors are bounded, smoothly. Otherwise an almost transparent
  object could make up for it by a color far outside of [-1, 1], and leave its
  pixels to the background.

  Args:
    background: [B, H, W, C].
    images: [B, K - 1, H, W, C] of the other slots.
    alpha_logits: [B, K - 1, H, W, 1] of the other slots.
    logit: alpha logit of slot 0, in every pixel.

  Returns:
    A pair (images [B, K, H, W, C], alpha logits [B, K, H, W, 1]).
  """
  images = COLOR_LIMIT * jnp.tanh(images)
  images = jnp.concatenate(
    [background[:, None].astype(images.dtype), images], axis=1
  )
  return images, jnp.pad(
    alpha_logits, ((0, 0), (1, 0)) + ((0, 0),) * 3, constant_values=logit
  )
