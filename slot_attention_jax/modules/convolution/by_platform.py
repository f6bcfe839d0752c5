"""Strided and transposed convolutions in the form each platform runs best.

One pair of linear maps, a strided convolution and its transpose, and the
gradient with respect to their common kernel serve both layers: each is the
other's gradient with respect to its inputs. All forms are exact up to rounding.

| map | CPU | GPU | TPU |
|---|---|---|---|
| strided | XLA's, small images tiled along the width; for stride 1 and five columns, Toom-Cook | XLA's | space to depth, then stride 1 |
| transposed | a stride-1 convolution for each phase, interleaved | stride 1, then depth to space | as GPU |
| gradient of the kernel | in pieces | XLA's | through space to depth |

Large batches of large images that `conv2d` strides by 2 have another form on
CPUs, `winograd`, for the convolution and both gradients.

No form dilates its inputs, which XLA:CPU compiles to naive loops.
`runtime.platform` chooses when a program is lowered, so that one compiled ahead
of time for another platform gets that one's form; trainings and evaluations are
traced for the platform of their mesh alone. The gradients are custom
(`jax.custom_vjp`): reverse mode, vmap and either mode of reverse mode work (so
does `jax.hessian`), plain forward mode (`jax.jvp`) does not.
"""  # noqa: E501

import functools

import jax
import jax.numpy as jnp

from slot_attention_jax.modules import shard_types
from slot_attention_jax.modules.convolution import dense as dense_lib
from slot_attention_jax.modules.convolution import (
  kernel_gradient,
  toom_cook,
  winograd,
)
from slot_attention_jax.runtime import platform

# Output columns times channels from which XLA:CPU uses several cores.
_MIN_PARALLEL = 2 * 64 * 64


def conv2d(inputs: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """2-D convolution with `SAME` padding as TensorFlow defines it.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, kw, C, F].
    stride: stride of both axes, >= 1.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), F], of the inputs' dtype.

  Raises:
    ValueError: on shapes that do not fit, a stride below 1, or inputs that are
      split over Explicit axes of a mesh.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import by_platform
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((5, 5, 3, 16))
    >>> by_platform.conv2d(x, kernel, stride=2).shape
    (1, 4, 4, 16)
  """
  dense_lib.check_image_and_kernel(inputs, kernel, stride, in_axis=2)
  shard_types.check_not_explicit(inputs, "images")
  return _conv2d(*shard_types.together(inputs, kernel), stride)


def conv_transpose2d(
  inputs: jax.Array, kernel: jax.Array, stride: int = 1
) -> jax.Array:
  """2-D transposed convolution, Keras' `Conv2DTranspose(padding="same")`.

  It is the gradient of `conv2d` with the same kernel with respect to its
  inputs, for an input of size (H * stride, W * stride).

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, kw, F, C], the layout of Keras (output channels before input
      channels).
    stride: stride of both axes, >= 1.

  Returns:
    [B, H * stride, W * stride, F], of the inputs' dtype.

  Raises:
    ValueError: on shapes that do not fit, a stride below 1, or inputs that are
      split over Explicit axes of a mesh.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import by_platform
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((5, 5, 16, 3))
    >>> by_platform.conv_transpose2d(x, kernel, stride=2).shape
    (1, 16, 16, 16)
  """
  dense_lib.check_image_and_kernel(inputs, kernel, stride, in_axis=3)
  shard_types.check_not_explicit(inputs, "images")
  return _conv_transpose2d(*shard_types.together(inputs, kernel), stride)


def _forward(inputs, kernel, stride):
  usual = functools.partial(_strided, stride=stride)
  if not winograd.is_faster(inputs, kernel, stride):
    return usual(inputs, kernel)
  return platform.dependent(inputs, kernel, cpu=winograd.strided, default=usual)


_conv2d = jax.custom_vjp(_forward, nondiff_argnums=(2,))


def _conv2d_forward(inputs, kernel, stride):
  # Not `_conv2d`, which has no forward mode: a Hessian takes it of this.
  return _forward(inputs, kernel, stride), (inputs, kernel)


def _conv2d_backward(stride, residuals, gradient):
  inputs, kernel = residuals

  def usual(inputs, kernel, gradient):
    return (
      _transposed(gradient, kernel, stride, inputs.shape[1:3]),
      _kernel_gradient(inputs, gradient, kernel, stride),
    )

  if not winograd.is_faster(inputs, kernel, stride):
    return usual(inputs, kernel, gradient)
  return platform.dependent(
    inputs, kernel, gradient, cpu=winograd.gradients, default=usual
  )


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def _forward_transposed(inputs, kernel, stride):
  size = (inputs.shape[1] * stride, inputs.shape[2] * stride)
  return _transposed(inputs, kernel, stride, size)


_conv_transpose2d = jax.custom_vjp(_forward_transposed, nondiff_argnums=(2,))


def _conv_transpose2d_forward(inputs, kernel, stride):
  return _forward_transposed(inputs, kernel, stride), (inputs, kernel)


def _conv_transpose2d_backward(stride, residuals, gradient):
  inputs, kernel = residuals
  return (
    _strided(gradient, kernel, stride),
    _kernel_gradient(gradient, inputs, kernel, stride),
  )


_conv_transpose2d.defvjp(_conv_transpose2d_forward, _conv_transpose2d_backward)


def _same_padding(inputs_size, kernel, stride):
  """Zeros (before, after) the rows and the columns, as `SAME` has them."""
  (h, w), (kh, kw) = inputs_size, kernel.shape[:2]
  return (
    dense_lib.same_padding(h, kh, stride),
    dense_lib.same_padding(w, kw, stride),
  )


def _plain(inputs, kernel, stride):
  """XLA's own strided convolution."""
  padding = _same_padding(inputs.shape[1:3], kernel, stride)
  return dense_lib.convolution(inputs, kernel, padding, stride)


def _strided(inputs, kernel, stride):
  """[B, H, W, C] and [kh, kw, C, F] to [B, ceil(H / s), ceil(W / s), F]."""

  def tiled(inputs, kernel):
    padding = _same_padding(inputs.shape[1:3], kernel, stride)
    return _tile_batch_along_width(inputs, kernel, stride, padding)

  return platform.dependent(
    inputs,
    kernel,
    cpu=tiled,
    tpu=functools.partial(dense_lib.conv2d, stride=stride),
    default=functools.partial(_plain, stride=stride),
  )


def _tile_batch_along_width(inputs, kernel, stride, padding):
  """The strided convolution of one wide image made of all images.

  XLA:CPU splits a convolution among the cores by columns of the output, 64 of
  64 channels at a time: a narrower image runs on one core.
  """
  if toom_cook.is_faster(inputs, kernel, stride):
    return toom_cook.convolve(inputs, kernel, padding)
  b, h, w, c = inputs.shape
  kw, f = kernel.shape[1], kernel.shape[3]
  (before, after), s = padding[1], stride
  columns = (w + before + after - kw) // s + 1
  if b == 1 or columns * f >= _MIN_PARALLEL:
    return dense_lib.convolution(inputs, kernel, padding, s)
  # Outputs that an image takes up: its own, and those whose windows would reach
  # into its right neighbor, which are computed and dropped.
  step = columns + -(-(kw - s) // s) if kw > s else columns
  inputs = dense_lib.pad(inputs, {2: (before, s * step - w - before)})
  inputs = inputs.transpose(1, 0, 2, 3).reshape(1, h, b * s * step, c)
  padding = (padding[0], (0, max(0, kw - s)))
  outputs = dense_lib.convolution(inputs, kernel, padding, s)
  outputs = outputs[0, :, : b * step].reshape(-1, b, step, f)
  return outputs[:, :, :columns].transpose(1, 0, 2, 3)


def _transposed(gradient, kernel, stride, size):
  """The transpose of `_strided` in its inputs, which are of (H, W) = size."""
  inputs = shard_types.stand_in(
    (gradient.shape[0], *size, kernel.shape[2]), gradient.dtype, gradient
  )

  def dense(gradient, kernel):
    transpose = jax.linear_transpose(
      lambda x: dense_lib.conv2d(x, kernel, stride), inputs
    )
    return transpose(gradient)[0]

  subpixel = functools.partial(_subpixel_transpose, stride=stride, size=size)
  return platform.dependent(gradient, kernel, cpu=subpixel, default=dense)


def _kernel_gradient(inputs, gradient, kernel, stride):
  """Gradient [kh, kw, C, F] of `_strided` with respect to the kernel."""

  def transpose_of(convolve, inputs, gradient):
    transpose = jax.linear_transpose(
      lambda k: convolve(inputs, k, stride), kernel
    )
    return transpose(gradient)[0]

  def in_pieces(inputs, gradient):
    padding = _same_padding(inputs.shape[1:3], kernel, stride)
    return kernel_gradient.kernel_gradient(
      inputs, gradient, kernel.shape[:2], stride, padding
    ).astype(kernel.dtype)

  # A batch of any size, as in an exported program, has no number of pieces.
  counted = isinstance(inputs.shape[0], int)
  plain = functools.partial(transpose_of, _plain)
  return platform.dependent(
    inputs,
    gradient,
    cpu=in_pieces if counted else plain,
    tpu=functools.partial(transpose_of, dense_lib.conv2d),
    default=plain,
  )


def _subpixel_transpose(gradient, kernel, stride, size):
  """`_transposed` as one stride-1 convolution for each phase of the output.

  Input s * m + r of the strided convolution meets output m + q - j through tap
  s * j + t, with (q, t) = divmod(r + before, s): a convolution along m with
  every s-th tap, backwards.
  """
  padding = _same_padding(size, kernel, stride)
  # Each phase needs a tap, if only one that is zero.
  missing = {i: (0, max(0, stride - k)) for i, k in enumerate(kernel.shape[:2])}
  kernel = dense_lib.pad(kernel, missing)
  axes = []
  for axis in (0, 1):
    # All phases have the same length, so that they can be interleaved.
    length = -(-size[axis] // stride)
    phases = []
    for r in range(stride):
      q, first = divmod(r + padding[axis][0], stride)
      taps = len(range(first, kernel.shape[axis], stride))
      after = length - 1 + q - (gradient.shape[1 + axis] - 1)
      phases.append((first, (taps - 1 - q, after)))
    axes.append(phases)
  rows = []
  for first_row, row_padding in axes[0]:
    row = []
    for first_column, column_padding in axes[1]:
      taps = kernel[first_row::stride, first_column::stride][::-1, ::-1]
      row.append(
        _tile_batch_along_width(
          gradient,
          taps.transpose(0, 1, 3, 2),
          1,
          (row_padding, column_padding),
        )
      )  # [B, ceil(H / s), ceil(W / s), C]
    rows.append(jnp.stack(row, axis=3))
  outputs = jnp.stack(rows, axis=2)  # [B, H / s, s, W / s, s, C]
  b, h, _, w, _, c = outputs.shape
  outputs = outputs.reshape(b, h * stride, w * stride, c)
  return outputs[:, : size[0], : size[1]]
