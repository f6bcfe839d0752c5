"""Gradient of a convolution with respect to its kernel, in pieces, for CPUs.

Differentiation gives one convolution whose window is a whole image and whose
channels are the batch. XLA:CPU runs it on one core, and slowly for more than a
few images of 128x128. Here the same sum is computed in pieces, exactly:

* for stride 1, as matrix products in a loop. The gradient for tap (i, j) is
  the product of the inputs, shifted by (i, j), with the outputs' gradient,
  summed over all positions. The shifts become channels of one factor or the
  other, chosen for rows and for columns so that the least is copied: then all
  taps are one product of two tall matrices, and the loop keeps both in cache;
* for larger strides, as that convolution of a few images at a time, unrolled,
  because XLA:CPU compiles a convolution inside a loop to naive code.
"""

import math

import jax
import jax.numpy as jnp

from slot_attention_jax.modules import shard_types
from slot_attention_jax.modules.convolution import dense

Padding = tuple[tuple[int, int], tuple[int, int]]

# Bytes of the two matrices of a product: they should stay in the caches.
_PRODUCT_BYTES = 3 * 2**20
# Unrolled pieces: XLA:CPU runs independent operations on several cores only if
# there are many.
_PIECES = 16


def kernel_gradient(
  inputs: jax.Array,
  gradient: jax.Array,
  kernel_size: tuple[int, int],
  stride: int,
  padding: Padding,
) -> jax.Array:
  """Gradient of `dense.convolution` with respect to the kernel.

  Args:
    inputs: [B, H, W, C], what was convolved.
    gradient: [B, H', W', F], gradient with respect to the outputs.
    kernel_size: (kh, kw).
    stride: stride of both axes, >= 1.
    padding: zeros (before, after) the rows and the columns of the inputs.

  Returns:
    [kh, kw, C, F], float32 or wider.

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import kernel_gradient
    >>> x, g = jnp.ones((2, 8, 8, 3)), jnp.ones((2, 4, 4, 16))
    >>> kernel_gradient.kernel_gradient(
    ...   x, g, (5, 5), 2, ((1, 2), (1, 2))).shape
    (5, 5, 3, 16)
  """
  _check(inputs, gradient, kernel_size, stride, padding)
  if stride == 1:
    return _by_products(inputs, gradient, kernel_size, padding)
  return _by_windows(inputs, gradient, kernel_size, stride, padding)


def _by_windows(inputs, gradient, kernel_size, stride, padding):
  """Convolutions whose windows are whole images, a few images at a time."""
  images = -(-inputs.shape[0] // _PIECES)
  dtype = jnp.promote_types(inputs.dtype, jnp.float32)
  shape = (*kernel_size, inputs.shape[-1], gradient.shape[-1])
  kernel = shard_types.stand_in(shape, inputs.dtype, inputs)
  total = jnp.zeros(shape, dtype)
  for start in range(0, inputs.shape[0], images):
    piece = slice(start, start + images)

    def convolve(kernel, x=inputs[piece]):
      return dense.convolution(x, kernel, padding, stride)

    (part,) = jax.linear_transpose(convolve, kernel)(gradient[piece])
    total = total + part.astype(dtype)
  return total


def _by_products(inputs, gradient, kernel_size, padding):
  """Products of shifted inputs and gradients, in a loop over rows or images."""
  kh, kw = kernel_size
  c, f = inputs.shape[-1], gradient.shape[-1]
  rows_on_inputs, columns_on_inputs = _cheapest_sides(kh, kw, c, f)
  # If the inputs are shifted along an axis, positions on it are those of the
  # outputs; if the gradient is, those of the inputs.
  if rows_on_inputs:
    inputs, height = dense.pad(inputs, {1: padding[0]}), gradient.shape[1]
  else:
    gradient, height = _pad_back(gradient, 1, kh, padding[0]), inputs.shape[1]
  if columns_on_inputs:
    inputs, width = dense.pad(inputs, {2: padding[1]}), gradient.shape[2]
  else:
    gradient, width = _pad_back(gradient, 2, kw, padding[1]), inputs.shape[2]
  left = (kh if rows_on_inputs else 1, kw if columns_on_inputs else 1)
  right = (kh // left[0], kw // left[1])
  channels = c * math.prod(left) + f * math.prod(right)
  images, rows = _piece(inputs.shape[0], height, width, channels)
  accumulator = jnp.promote_types(inputs.dtype, jnp.float32)

  def piece(i):
    image = i // (height // rows) * images
    row = i % (height // rows) * rows
    sides = []
    for x, shifts in ((inputs, left), (gradient, right)):
      x = jax.lax.dynamic_slice(
        x,
        (image, row, 0, 0),
        (images, rows + shifts[0] - 1, x.shape[2], x.shape[3]),
      )
      x = [
        x[:, di : di + rows, dj : dj + width]
        for di in range(shifts[0])
        for dj in range(shifts[1])
      ]
      x = jnp.concatenate(x, axis=-1) if len(x) > 1 else x[0]
      sides.append(x.reshape(-1, x.shape[-1]))
    return jax.lax.dot_general(
      sides[0],
      sides[1],
      (((0,), (0,)), ((), ())),
      preferred_element_type=accumulator,
    )  # [shifts * C, shifts * F]

  num_pieces = inputs.shape[0] // images * (height // rows)
  total = jax.lax.fori_loop(
    1, num_pieces, lambda i, total: total + piece(i), piece(0)
  )
  total = total.reshape(*left, c, *right, f)
  # A gradient shifted by i belongs to tap k - 1 - i.
  if not rows_on_inputs:
    total = total[:, :, :, ::-1]
  if not columns_on_inputs:
    total = total[:, :, :, :, ::-1]
  return total.transpose(0, 3, 1, 4, 2, 5).reshape(kh, kw, c, f)


def _check(inputs, gradient, kernel_size, stride, padding):
  expected = tuple(
    (n + sum(pad) - k) // stride + 1
    for n, pad, k in zip(inputs.shape[1:3], padding, kernel_size, strict=True)
  )
  if (
    inputs.ndim != 4
    or gradient.ndim != 4
    or gradient.shape[0] != inputs.shape[0]
    or gradient.shape[1:3] != expected
  ):
    raise ValueError(
      f"Expected a gradient [B, H', W', F] of (H', W') = {expected} for inputs "
      f"{inputs.shape}, kernel {kernel_size}, stride {stride} and padding "
      f"{padding}, got {gradient.shape}."
    )


def _cheapest_sides(kh, kw, c, f):
  """Whether to shift the inputs along (rows, columns): the fewest copies."""
  options = [(a, b) for a in (False, True) for b in (False, True)]

  def copied(option):
    on_inputs = (kh if option[0] else 1) * (kw if option[1] else 1)
    return c * on_inputs + f * (kh * kw // on_inputs)

  return min(options, key=copied)


def _piece(batch_size, height, width, channels):
  """(images, rows) of a piece that is small enough."""
  pixels = max(1, _PRODUCT_BYTES // (4 * channels))
  rows = _largest_divisor(height, pixels // width)
  if rows < height:
    return 1, rows
  return _largest_divisor(batch_size, pixels // (height * width)), height


def _largest_divisor(n, limit):
  """The largest divisor of n that is at most `limit`, or 1."""
  return max(d for d in range(1, n + 1) if n % d == 0 and d <= max(limit, 1))


def _pad_back(gradient, axis, size, padding):
  """Pads the gradient so that its slice k, from the end, is shifted by k."""
  before, after = padding
  return dense.pad(gradient, {axis: (size - 1 - before, size - 1 - after)})
