"""The position embedding: a learned projection of a grid of positions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from slot_attention_jax.modules import initializers


def position_grid(height: int, width: int) -> np.ndarray:
  """Distances of every cell to the four borders.

  Args:
    height: H, rows of the grid, >= 1.
    width: W, columns of the grid, >= 1.

  Returns:
    [H, W, 4] float32 in [0, 1]: y, x, 1 - y, 1 - x, where y and x run from 0
    to 1 inclusive (`build_grid` of the reference).

  Example:
    >>> from slot_attention_jax.modules import position
    >>> position.position_grid(2, 2)[1, 0].tolist()
    [1.0, 0.0, 0.0, 1.0]
  """
  rows = np.linspace(0.0, 1.0, height)
  columns = np.linspace(0.0, 1.0, width)
  grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
  return np.concatenate([grid, 1.0 - grid], axis=-1).astype(np.float32)


class SoftPositionEmbed(nn.Module):
  r"""Adds a learned linear map of the position grid to a feature map.

  .. math:: y_{ij} = x_{ij} + W g_{ij} + b, \quad
    g_{ij} = [i, j, 1 - i, 1 - j] \in [0, 1]^4

  The grid has the size of the inputs, so the same parameters work at any
  resolution.

  Attributes:
    dtype: dtype of the computation; None: that of inputs and parameters.
    param_dtype: dtype of the parameters `dense/kernel` [4, C], `dense/bias`.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import slot_attention_jax as sa
    >>> module = sa.SoftPositionEmbed()
    >>> x = jnp.zeros((2, 8, 8, 64))
    >>> params = module.init(jax.random.key(0), x)
    >>> module.apply(params, x).shape
    (2, 8, 8, 64)

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020; `SoftPositionEmbed` of the
    reference implementation.
  """

  dtype: Any = None
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Adds the embedding.

    Args:
      inputs: [B, H, W, C].

    Returns:
      [B, H, W, C].

    Raises:
      ValueError: if the inputs do not have four axes.
    """
    if inputs.ndim != 4:
      raise ValueError(f"Expected inputs [B, H, W, C], got {inputs.shape}.")
    _, h, w, c = inputs.shape
    embedding = nn.Dense(
      c,
      kernel_init=initializers.glorot_uniform(self),
      dtype=self.dtype or inputs.dtype,
      param_dtype=self.param_dtype,
      name="dense",
    )(position_grid(h, w))  # [H, W, C]
    return inputs + embedding[None]
