"""Convolution layers with the reference's parameters and initialiser."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import dtypes

from slot_attention_jax.modules import dense_convolution, platform_convolution

_glorot_uniform = nn.initializers.glorot_uniform()


class Conv(nn.Module):
  """Convolution with bias, `SAME` padding and the reference's initialiser.

  Attributes:
    features: F, output channels.
    kernel_size: side of the square kernel.
    stride: stride of both axes.
    dtype: dtype of the computation; None: that of inputs and parameters.
    param_dtype: dtype of the parameters `kernel` [k, k, C, F] and `bias` [F].
  """

  features: int
  kernel_size: int
  stride: int = 1
  dtype: Any = None
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), F]."""
    k = self.kernel_size
    shape = (k, k, inputs.shape[-1], self.features)
    kernel = self.param("kernel", _glorot_uniform, shape, self.param_dtype)
    bias = self.param(
      "bias", nn.initializers.zeros, (self.features,), self.param_dtype
    )
    inputs, kernel, bias = dtypes.promote_dtype(
      inputs, kernel, bias, dtype=self.dtype
    )
    return (
      platform_convolution.conv2d(inputs, kernel, self.stride)
      + bias[None, None, None, :]
    )


class ConvTranspose(nn.Module):
  """Transposed convolution with bias, as Keras' `Conv2DTranspose`.

  Attributes:
    features: F, output channels.
    kernel_size: side of the square kernel.
    stride: stride of both axes.
    dtype: dtype of the computation; None: that of inputs and parameters.
    param_dtype: dtype of the parameters `kernel` [k, k, F, C] and `bias` [F].
  """

  features: int
  kernel_size: int
  stride: int = 1
  dtype: Any = None
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: jax.Array, constant: jax.Array | None = None
  ) -> jax.Array:
    """Convolves.

    Args:
      inputs: [B, H, W, C]; with `constant` B may be 1.
      constant: [B, C], added to every location of the inputs before the
        convolution; costs much less than inputs that already hold it.

    Returns:
      [B, H * stride, W * stride, F].
    """
    k = self.kernel_size
    shape = (k, k, self.features, inputs.shape[-1])
    kernel = self.param("kernel", _glorot_uniform, shape, self.param_dtype)
    bias = self.param(
      "bias", nn.initializers.zeros, (self.features,), self.param_dtype
    )
    inputs, constant, kernel, bias = dtypes.promote_dtype(
      inputs, constant, kernel, bias, dtype=self.dtype
    )
    outputs = platform_convolution.conv_transpose2d(inputs, kernel, self.stride)
    if constant is not None:
      _, h, w, _ = inputs.shape
      outputs = outputs + dense_convolution.conv_transpose2d_of_constant(
        constant, (h, w), kernel, self.stride
      )
    return outputs + bias[None, None, None, :]
