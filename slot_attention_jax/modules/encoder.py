"""The convolutional encoder: images to a set of input features."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from slot_attention_jax.modules import convolution, initializers, position

LAYER_NORM_EPSILON = 1e-3
"""Keras' default, which the reference uses everywhere; Flax's is 1e-6."""


def check_lengths(**layers: Sequence[int]) -> None:
  """Raises ValueError unless all lists have the same length, not 0."""
  lengths = {name: len(values) for name, values in layers.items()}
  if len(set(lengths.values())) != 1 or 0 in lengths.values():
    raise ValueError(
      f"Expected one entry per layer in each of {list(lengths)}, got lengths "
      f"{lengths}."
    )


def check_images(
  images: jax.Array, size: tuple[int, int] | None = None
) -> None:
  """Raises ValueError unless an array can be a batch of images in [-1, 1].

  Args:
    images: what was given as [B, H, W, C].
    size: (H, W) that it must have; None: any.
  """
  h, w = size or ("H", "W")
  expected = f"Expected images [B, {h}, {w}, C]"
  if images.ndim == 3:
    raise ValueError(
      f"{expected}, got {images.shape}, without a batch axis. Add one: "
      "images[None]."
    )
  if images.ndim != 4 or (size and images.shape[1:3] != tuple(size)):
    raise ValueError(
      f"{expected}, got {images.shape}. Resize them, as "
      "slot_attention_jax.preprocess does, or set `resolution`."
    )
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(
      f"{expected} of floats in [-1, 1], got {images.dtype}. Convert uint8 by "
      "x / 127.5 - 1, as slot_attention_jax.preprocess does."
    )


class CNNEncoder(nn.Module):
  """CNN, position embedding, LayerNorm and a per-location MLP.

  Attributes:
    channels: output channels of each convolution, ReLU after each.
    kernel_sizes: side of each kernel.
    strides: stride of each convolution.
    mlp_sizes: widths of the per-location MLP, ReLU between layers.
    dtype: dtype of the computation; None: that of inputs and parameters.
    param_dtype: dtype of the parameters.
    layer_norm_epsilon: added to the variance by LayerNorm.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import slot_attention_jax as sa
    >>> encoder = sa.CNNEncoder(strides=(1, 2, 2, 1))
    >>> images = jnp.zeros((2, 32, 32, 3))
    >>> params = jax.jit(encoder.init)(jax.random.key(0), images)
    >>> jax.jit(encoder.apply)(params, images).shape
    (2, 64, 64)

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 2.2.
  """

  channels: Sequence[int] = (64, 64, 64, 64)
  kernel_sizes: Sequence[int] = (5, 5, 5, 5)
  strides: Sequence[int] = (1, 1, 1, 1)
  mlp_sizes: Sequence[int] = (64, 64)
  dtype: Any = None
  param_dtype: Any = jnp.float32
  layer_norm_epsilon: float = LAYER_NORM_EPSILON

  def feature_grid(self, resolution: tuple[int, int]) -> tuple[int, int]:
    """The grid (h, w) of the N = h * w outputs for images of (H, W) pixels."""
    h, w = resolution
    for stride in self.strides:
      h, w = -(-h // stride), -(-w // stride)
    return h, w

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Encodes images.

    Args:
      images: [B, H, W, C] in [-1, 1].

    Returns:
      [B, N, F] with N the number of locations of the last feature map and F
      the last MLP width.

    Raises:
      ValueError: if the images do not have four axes or are integers, or the
        lists of layers differ in length.
    """
    check_lengths(
      channels=self.channels,
      kernel_sizes=self.kernel_sizes,
      strides=self.strides,
    )
    check_images(images)
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    weights, inputs = [], images.shape[-1]
    for i, features in enumerate(self.channels):
      layer = convolution.Conv(
        features, self.kernel_sizes[i], name=f"conv_{i}", **dtypes
      )
      weights.append(layer.weights(inputs))
      inputs = features
    x, weights = convolution.promote(images, weights, self.dtype)
    x = convolution.conv_stack(x, weights, self.strides)
    x = position.SoftPositionEmbed(name="position", **dtypes)(x)
    x = x.reshape(x.shape[0], -1, x.shape[-1])  # [B, N, C]
    x = nn.LayerNorm(
      epsilon=self.layer_norm_epsilon,
      use_fast_variance=False,
      name="norm",
      **dtypes,
    )(x)
    for i, width in enumerate(self.mlp_sizes):
      x = nn.relu(x) if i else x
      x = nn.Dense(
        width,
        kernel_init=initializers.glorot_uniform(self),
        name=f"mlp_{i}",
        **dtypes,
      )(x)
    return x  # [B, N, F]
