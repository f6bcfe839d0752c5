"""The spatial broadcast decoder: slots to images and alpha masks."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from slot_attention_jax.modules import (
  convolution,
  encoder,
  position,
  shard_types,
)


class SpatialBroadcastDecoder(nn.Module):
  """Decodes each slot on its own, from a grid that repeats the slot.

  Attributes:
    broadcast_size: (h, w) of the grid that each slot is repeated on.
    channels: output channels of each transposed convolution but the last, with
      ReLU after each.
    kernel_sizes: side of each kernel, the last layer's included.
    strides: stride of each transposed convolution, the last layer's included.
    output_channels: channels of the decoded image; one more is the alpha
      logit.
    output_size: (H, W) that decoded images are cropped to, at the bottom and
      at the right; None: all of them, the grid times the strides. So images
      whose sides are no multiples of the stride get a grid that covers them,
      as the encoder's does.
    dtype: dtype of the computation; None: that of inputs and parameters.
    param_dtype: dtype of the parameters.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import slot_attention_jax as sa
    >>> decoder = sa.SpatialBroadcastDecoder(
    ...   broadcast_size=(8, 8), channels=(32,), kernel_sizes=(5, 3),
    ...   strides=(2, 1))
    >>> slots = jnp.zeros((2, 7, 64))
    >>> params = jax.jit(decoder.init)(jax.random.key(0), slots)
    >>> images, alpha_logits = jax.jit(decoder.apply)(params, slots)
    >>> images.shape, alpha_logits.shape
    ((2, 7, 16, 16, 3), (2, 7, 16, 16, 1))

  References:
    Watters et al., `Spatial Broadcast Decoder
    <https://arxiv.org/abs/1901.07017>`_, 2019; Locatello et al., `Object-
    Centric Learning with Slot Attention <https://arxiv.org/abs/2006.15055>`_,
    2020, section 2.2.
  """

  broadcast_size: tuple[int, int] = (8, 8)
  channels: Sequence[int] = (64, 64, 64, 64, 64)
  kernel_sizes: Sequence[int] = (5, 5, 5, 5, 5, 3)
  strides: Sequence[int] = (2, 2, 2, 2, 1, 1)
  output_channels: int = 3
  output_size: tuple[int, int] | None = None
  dtype: Any = None
  param_dtype: Any = jnp.float32

  @property
  def resolution(self) -> tuple[int, int]:
    """(H, W) of the decoded images, in pixels."""
    if self.output_size is not None:
      return self.output_size
    scale = math.prod(self.strides)
    return self.broadcast_size[0] * scale, self.broadcast_size[1] * scale

  @nn.compact
  def __call__(self, slots: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Decodes slots.

    Args:
      slots: [B, K, D].

    Returns:
      A pair (images [B, K, H, W, C], alpha logits [B, K, H, W, 1]).

    Raises:
      ValueError: if the slots do not have three axes, the lists of layers
        differ in length, or the output size is larger than what is decoded.
    """
    channels = (*self.channels, self.output_channels + 1)
    encoder.check_lengths(
      channels=channels, kernel_sizes=self.kernel_sizes, strides=self.strides
    )
    if slots.ndim != 3:
      raise ValueError(f"Expected slots [B, K, D], got {slots.shape}.")
    shard_types.check_not_explicit(slots, "slots")
    b, k, d = slots.shape
    h, w = self.broadcast_size
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    # The grid holds the slot everywhere plus the embedding, which all slots
    # share. The first convolution is linear: it is applied to the embedding
    # once, and to each slot as a constant image, which takes no convolution.
    x = jnp.zeros((1, h, w, d), slots.dtype)
    x = position.SoftPositionEmbed(name="position", **dtypes)(x)
    constant = slots.reshape(b * k, d)
    weights = []
    for i, features in enumerate(channels):
      layer = convolution.ConvTranspose(
        features,
        self.kernel_sizes[i],
        self.strides[i],
        name=f"conv_{i}",
        **dtypes,
      )
      if i:
        weights.append(layer.weights(channels[i - 1]))
      else:
        x = layer(x, constant)
    x, weights = convolution.promote(x, weights, self.dtype)
    x = convolution.conv_transpose_stack(x, weights, self.strides[1:])
    h, w = self.resolution
    if h > x.shape[1] or w > x.shape[2]:
      raise ValueError(
        f"Expected an output_size of at most {x.shape[1:3]}, broadcast_size "
        f"times the strides, got {self.output_size}. Use a larger grid."
      )
    x = x[:, :h, :w].reshape(b, k, h, w, -1)  # [B, K, H, W, C + 1]
    return x[..., :-1], x[..., -1:]
