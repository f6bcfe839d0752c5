"""Convolution layers with the reference's parameters and initializers."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import dtypes

from slot_attention_jax.modules import initializers, shard_types
from slot_attention_jax.modules.convolution import by_platform, dense
from slot_attention_jax.modules.convolution import packed as packed_lib
from slot_attention_jax.runtime import platform


class _Layer(nn.Module):
  """Kernel and bias of a convolution, with the reference's initializers.

  Attributes:
    features: F, output channels.
    kernel_size: side of the square kernel.
    stride: stride of both axes.
    dtype: dtype of the computation; None: that of inputs and parameters.
    param_dtype: dtype of the parameters `kernel` and `bias` [F].
  """

  features: int
  kernel_size: int
  stride: int = 1
  dtype: Any = None
  param_dtype: Any = jnp.float32

  def _channel_axes(self, channels: int) -> tuple[int, int]:
    """The kernel's last two axes for inputs of C channels."""
    return channels, self.features

  @nn.compact
  def weights(self, channels: int) -> tuple[jax.Array, jax.Array]:
    """The parameters (kernel, bias) for inputs of C channels."""
    k = self.kernel_size
    shape = (k, k, *self._channel_axes(channels))
    kernel_init = initializers.glorot_uniform(self)
    kernel = self.param("kernel", kernel_init, shape, self.param_dtype)
    bias = self.param(
      "bias", nn.initializers.zeros, (self.features,), self.param_dtype
    )
    return kernel, bias


class Conv(_Layer):
  """Convolution with bias, kernel [k, k, C, F] and `SAME` padding."""

  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), F]."""
    kernel, bias = self.weights(inputs.shape[-1])
    inputs, kernel, bias = dtypes.promote_dtype(
      inputs, kernel, bias, dtype=self.dtype
    )
    outputs = by_platform.conv2d(inputs, kernel, self.stride)
    return outputs + bias[None, None, None, :]


class ConvTranspose(_Layer):
  """Transposed convolution with bias, as Keras' `Conv2DTranspose`.

  The kernel is [k, k, F, C], outputs before inputs.
  """

  def _channel_axes(self, channels: int) -> tuple[int, int]:
    return self.features, channels

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
    kernel, bias = self.weights(inputs.shape[-1])
    inputs, constant, kernel, bias = dtypes.promote_dtype(
      inputs, constant, kernel, bias, dtype=self.dtype
    )
    outputs = by_platform.conv_transpose2d(inputs, kernel, self.stride)
    if constant is not None:
      _, h, w, _ = inputs.shape
      outputs = outputs + dense.conv_transpose2d_of_constant(
        constant, (h, w), kernel, self.stride
      )
    return outputs + bias[None, None, None, :]


def promote(
  inputs: jax.Array, weights: packed_lib.Weights, dtype: Any
) -> tuple[jax.Array, packed_lib.Weights]:
  """Inputs and weights of a stack in the dtype of its computation.

  Args:
    inputs: [B, H, W, C].
    weights: (kernel, bias) of each layer.
    dtype: dtype of the computation; None: that of inputs and parameters.

  Returns:
    The pair (inputs, weights).
  """
  flat = [x for layer in weights for x in layer]
  inputs, *flat = dtypes.promote_dtype(inputs, *flat, dtype=dtype)
  return inputs, list(zip(flat[::2], flat[1::2], strict=True))


def conv_stack(
  inputs: jax.Array, weights: packed_lib.Weights, strides: Sequence[int]
) -> jax.Array:
  """Convolutions with bias and a ReLU after each; see `packed.conv_stack`."""

  def layer(x, kernel, bias, stride):
    x = by_platform.conv2d(x, kernel, stride)
    return nn.relu(x + bias[None, None, None, :])

  return _stack(inputs, weights, strides, layer, packed_lib.conv_stack)


def conv_transpose_stack(
  inputs: jax.Array, weights: packed_lib.Weights, strides: Sequence[int]
) -> jax.Array:
  """Transposed convolutions with bias and a ReLU before each.

  See `packed.conv_transpose_stack`.
  """

  def layer(x, kernel, bias, stride):
    x = by_platform.conv_transpose2d(nn.relu(x), kernel, stride)
    return x + bias[None, None, None, :]

  return _stack(
    inputs, weights, strides, layer, packed_lib.conv_transpose_stack
  )


def _stack(inputs, weights, strides, layer, packed):
  """Layers one after the other; on TPUs the packed form of all of them."""
  shard_types.check_not_explicit(inputs, "images")

  def plain(x, weights):
    for (kernel, bias), stride in zip(weights, strides, strict=True):
      x = layer(x, kernel, bias, stride)
    return x

  return platform.dependent(
    inputs, weights, tpu=lambda x, w: packed(x, w, strides), default=plain
  )
