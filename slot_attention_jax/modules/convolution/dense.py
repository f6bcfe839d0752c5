"""Strided and transposed convolutions as stride-1 convolutions, exactly.

A stride-s convolution equals space-to-depth followed by a stride-1
convolution, and a stride-s transposed convolution equals a stride-1
convolution to s * s times the channels followed by depth-to-space. The kernel
is rearranged inside, so the parameters keep the reference's layout. Backends
that compile strided, dilated or transposed convolutions and their gradients
to naive loops (XLA:CPU takes 28 times as long for one 64-channel layer) then
meet dense stride-1 convolutions only.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

_DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")


def check_image_and_kernel(
  inputs: jax.Array, kernel: jax.Array, stride: int, in_axis: int
) -> None:
  """Raises ValueError unless a kernel fits a batch of images.

  Args:
    inputs: [B, H, W, C].
    kernel: four axes, of which `in_axis` has size C.
    stride: at least 1.
    in_axis: 2 or 3.
  """
  if inputs.ndim != 4 or kernel.ndim != 4:
    raise ValueError(
      "Expected inputs [B, H, W, C] and a kernel of 4 axes, got "
      f"{inputs.shape} and {kernel.shape}."
    )
  if inputs.shape[-1] != kernel.shape[in_axis]:
    raise ValueError(
      f"Expected {kernel.shape[in_axis]} input channels for kernel "
      f"{kernel.shape}, got inputs {inputs.shape}."
    )
  if stride < 1:
    raise ValueError(f"Expected a stride of at least 1, got {stride}.")


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
  """Zeros (before, after) an axis for `SAME` as TensorFlow defines it."""
  total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
  return total // 2, total - total // 2


def pad(inputs: jax.Array, widths: Mapping[int, tuple[int, int]]) -> jax.Array:
  """Pads with zeros (before, after) some axes; negative widths crop."""
  config = [(*widths.get(axis, (0, 0)), 0) for axis in range(inputs.ndim)]
  return jax.lax.pad(inputs, jnp.zeros((), inputs.dtype), config)


def space_to_depth(inputs: jax.Array, block: int) -> jax.Array:
  """Moves blocks of pixels into channels.

  Args:
    inputs: [B, H, W, C], H and W multiples of `block`.
    block: side of a block, >= 1.

  Returns:
    [B, H / block, W / block, block * block * C]; channels run over (row in
    block, column in block, channel).

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import dense
    >>> dense.space_to_depth(jnp.zeros((1, 4, 6, 3)), 2).shape
    (1, 2, 3, 12)
  """
  b, h, w, c = inputs.shape
  x = inputs.reshape(b, h // block, block, w // block, block, c)
  x = x.transpose(0, 1, 3, 2, 4, 5)  # [B, H/s, W/s, s, s, C]
  return x.reshape(b, h // block, w // block, block * block * c)


def depth_to_space(inputs: jax.Array, block: int) -> jax.Array:
  """Moves channels into blocks of pixels, the inverse of `space_to_depth`.

  Args:
    inputs: [B, H, W, block * block * C].
    block: side of a block, >= 1.

  Returns:
    [B, H * block, W * block, C].

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import dense
    >>> dense.depth_to_space(jnp.zeros((1, 2, 3, 12)), 2).shape
    (1, 4, 6, 3)
  """
  b, h, w, c = inputs.shape
  c //= block * block
  x = inputs.reshape(b, h, w, block, block, c)
  x = x.transpose(0, 1, 3, 2, 4, 5)  # [B, H, s, W, s, C]
  return x.reshape(b, h * block, w * block, c)


def convolution(
  inputs: jax.Array,
  kernel: jax.Array,
  padding: str | Sequence[tuple[int, int]],
  stride: int = 1,
) -> jax.Array:
  """XLA's convolution.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, kw, C, F].
    padding: "SAME", "VALID" or zeros (before, after) the rows and the columns.
    stride: stride of both axes, >= 1.

  Returns:
    [B, H', W', F].
  """
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(stride, stride),
    padding=padding,
    dimension_numbers=_DIMENSION_NUMBERS,
  )


def conv2d(inputs: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """`by_platform.conv2d` as space-to-depth and a stride-1 convolution.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, kw, C, F].
    stride: stride of both axes, >= 1.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), F], of the inputs' dtype.
  """
  if stride == 1:
    return convolution(inputs, kernel, "SAME")
  s = stride
  image_padding, kernel_padding, taps = {}, {}, []
  for axis, k in enumerate(kernel.shape[:2]):
    size = inputs.shape[1 + axis]
    out = -(-size // s)
    before, _ = same_padding(size, k, s)
    n = -(-k // s)  # Taps of the kernel after blocks of s moved to channels.
    # Negative where no tap reads the border (k < s): crops it.
    after = (out - 1) * s + n * s - size - before
    image_padding[1 + axis] = (before, after)
    kernel_padding[axis] = (0, n * s - k)
    taps.append(n)
  blocks = space_to_depth(pad(inputs, image_padding), s)
  _, _, c, f = kernel.shape
  kernel = pad(kernel, kernel_padding)
  kernel = kernel.reshape(taps[0], s, taps[1], s, c, f)
  kernel = kernel.transpose(0, 2, 1, 3, 4, 5)  # [nh, nw, s, s, C, F]
  kernel = kernel.reshape(*taps, s * s * c, f)
  return convolution(blocks, kernel, "VALID")


def conv_transpose2d_of_constant(
  vectors: jax.Array, size: tuple[int, int], kernel: jax.Array, stride: int = 1
) -> jax.Array:
  """`by_platform.conv_transpose2d` of images that are one vector everywhere.

  Away from the border every output is the same product of the vector with the
  sum of the kernel's taps; near it some taps are cut off. So a matrix product
  per border case (9 for a 3x3 kernel, 25 for 5x5) replaces the convolution,
  exactly.

  Args:
    vectors: [B, C].
    size: (H, W) of the images, each >= 1.
    kernel: [kh, kw, F, C], as for `by_platform.conv_transpose2d`.
    stride: stride of both axes, >= 1.

  Returns:
    [B, H * stride, W * stride, F], of the vectors' dtype.

  Raises:
    ValueError: on shapes that do not fit, a size or a stride below 1.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import dense
    >>> vectors, kernel = jnp.ones((2, 3)), jnp.ones((5, 5, 16, 3))
    >>> dense.conv_transpose2d_of_constant(
    ...   vectors, (8, 8), kernel).shape
    (2, 8, 8, 16)
  """
  if vectors.ndim != 2 or min(size) < 1:
    raise ValueError(
      "Expected vectors [B, C] and a size of at least 1, got "
      f"{vectors.shape} and {size}."
    )
  check_image_and_kernel(vectors[:, None, None], kernel, stride, in_axis=3)
  kernel, padding = _dense_transposed(kernel, stride)
  sums, repeats = kernel, []
  for axis, (length, pad) in enumerate(zip(size, padding, strict=True)):
    cases, counts = _border_cases(length, kernel.shape[axis], pad)
    sums = jnp.tensordot(sums, cases.astype(kernel.dtype), (0, 1))
    repeats.append(counts)
  # Each axis went from front to back: [C, s*s*F, row cases, column cases].
  outputs = jnp.einsum("bc,cfuv->buvf", vectors, sums)
  for axis, counts in enumerate(repeats, start=1):
    outputs = _repeat(outputs, counts, axis)
  return depth_to_space(outputs, stride) if stride > 1 else outputs


def _dense_transposed(kernel, stride):
  """The stride-1 kernel [nh, nw, C, s*s*F] and padding of a transposed one."""
  s = stride
  kernel_padding, padding, taps = {}, [], []
  for axis, k in enumerate(kernel.shape[:2]):
    before = max(k - s, 0) // 2
    # Output s * m + p reads input m - d through tap s * d + p + before, for
    # every d in [first, last] that leaves the tap inside the kernel.
    first = -((before + s - 1) // s)
    last = (k - 1 - before) // s
    front = -(s * first + before)
    n = last - first + 1
    kernel_padding[axis] = (front, n * s - k - front)
    padding.append((last, -first))
    taps.append(n)
  _, _, f, c = kernel.shape
  kernel = pad(kernel, kernel_padding)
  kernel = kernel.reshape(taps[0], s, taps[1], s, f, c)
  # d counts against the input's direction.
  kernel = kernel[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
  return kernel.reshape(taps[0], taps[1], c, s * s * f), padding


def _border_cases(length, taps, padding):
  """Groups the outputs along one axis by the taps that meet the image.

  Args:
    length: size of the image.
    taps: size of the kernel.
    padding: zeros before and after.

  Returns:
    A pair (cases [cases, taps] bool, how many consecutive outputs each case
    holds for).
  """
  before, after = padding
  outputs = length + before + after - taps + 1
  read = np.arange(outputs)[:, None] + np.arange(taps) - before
  valid = (read >= 0) & (read < length)
  starts = np.flatnonzero(np.r_[True, (valid[1:] != valid[:-1]).any(axis=1)])
  counts = np.diff(np.r_[starts, outputs])
  return valid[starts], counts.tolist()


def _repeat(inputs, counts, axis):
  """`jnp.repeat` whose gradient is a sum, not a scatter."""
  pieces = []
  for piece, count in zip(
    jnp.split(inputs, len(counts), axis), counts, strict=True
  ):
    shape = (*piece.shape[:axis], count, *piece.shape[axis + 1 :])
    pieces.append(jnp.broadcast_to(piece, shape))
  return jnp.concatenate(pieces, axis)
