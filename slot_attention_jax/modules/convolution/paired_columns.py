"""Convolutions of stride 2 with fewer multiplications, for CPUs.

Two neighboring columns are one of twice the channels: of such pairs, a
convolution of stride 2 reads three for a kernel of five or six columns, with
stride 1 along them. That is a convolution for `toom_cook`, with eight
multiplications for six outputs of a row of the kernel: 16 with the two columns
of each pair, where the direct sum has 30 (or 36). The transposed convolution
makes pairs of columns in the same way.

Some images at a time, in a loop: the transformed inputs and products, a third
more than inputs and outputs, then stay in the caches, and take up memory for
these images only.
"""

import math

import jax
import jax.numpy as jnp

from slot_attention_jax.modules.convolution import dense, toom_cook

Padding = tuple[tuple[int, int], tuple[int, int]]

_PAIRS = 3
_MIN_CHANNELS = 32
_MIN_COLUMNS = 16
# Numbers in the larger images of a piece: one of 128x128 and 64 channels.
_PIECE = 2**20


def is_faster(
  batch_size: int, columns: int, kernel: jax.Array, stride: int
) -> bool:
  """Whether `strided` and `transposed` take these shapes and are faster.

  Args:
    batch_size: B; not a number in a program that is exported for any.
    columns: W', of the strided convolution's outputs.
    kernel: [kh, kw, C, F].
    stride: stride of both axes.

  Returns:
    True for float32 and wider, stride 2, kernels of five or six columns, and at
    least 16 columns and 32 channels.
  """
  return (
    isinstance(batch_size, int)
    and stride == 2
    and kernel.shape[1] in (2 * _PAIRS - 1, 2 * _PAIRS)
    and min(kernel.shape[2:]) >= _MIN_CHANNELS
    and columns >= _MIN_COLUMNS
    and jnp.finfo(kernel.dtype).bits >= 32
  )


def strided(
  inputs: jax.Array, kernel: jax.Array, padding: Padding
) -> jax.Array:
  """Convolution of stride 2.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, 5 or 6, C, F].
    padding: zeros (before, after) the rows and the columns, as `SAME` has them.

  Returns:
    [B, ceil(H / 2), ceil(W / 2), F].

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import paired_columns
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((5, 5, 3, 16))
    >>> paired_columns.strided(x, kernel, ((1, 2), (1, 2))).shape
    (1, 4, 4, 16)
  """

  def convolve(x, kernel):
    pairs, before = _pair_kernel(kernel, padding[1][0])
    b, h, w, c = x.shape
    x = dense.pad(x, {2: (0, w % 2)}).reshape(b, h, -(-w // 2), 2 * c)
    columns = before, _PAIRS - 1 - before
    return toom_cook.convolve(x, pairs, (padding[0], columns), row_stride=2)

  return _in_pieces(convolve, inputs, kernel, math.prod(inputs.shape[1:]))


def transposed(
  gradient: jax.Array,
  kernel: jax.Array,
  padding: Padding,
  size: tuple[int, int],
) -> jax.Array:
  """The transpose of `strided` in its inputs.

  Args:
    gradient: [B, ceil(H / 2), ceil(W / 2), F].
    kernel: [kh, 5 or 6, C, F], kh >= 2.
    padding: that of `strided`.
    size: (H, W) of its inputs.

  Returns:
    [B, H, W, C].

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import paired_columns
    >>> g, kernel = jnp.ones((1, 4, 4, 16)), jnp.ones((5, 5, 3, 16))
    >>> paired_columns.transposed(g, kernel, ((1, 2), (1, 2)), (8, 8)).shape
    (1, 8, 8, 3)
  """

  def convolve(g, kernel):
    pairs, before = _pair_kernel(kernel, padding[1][0])
    columns = _PAIRS - 1 - before, before
    b, h, w, _ = g.shape
    phases = []
    for r in range(2):
      # Row 2 m + r meets output m + q - i through tap 2 i + first.
      q, first = divmod(r + padding[0][0], 2)
      taps = pairs[first::2][::-1, ::-1].swapaxes(2, 3)  # [n, 3, F, 2 C]
      rows = taps.shape[0] - 1 - q, q
      x = toom_cook.convolve(g, taps, (rows, columns))
      phases.append(x.reshape(b, h, 2 * w, -1))
    return jnp.stack(phases, axis=2).reshape(b, 2 * h, 2 * w, -1)

  numbers = math.prod(size) * kernel.shape[2]
  images = _in_pieces(convolve, gradient, kernel, numbers)
  return images[:, : size[0], : size[1]]


def _pair_kernel(kernel, before):
  """The kernel of the convolution on pairs, and the pairs before its first.

  Args:
    kernel: [kh, kw, C, F].
    before: columns of zeros before the images.

  Returns:
    A pair (kernel [kh, 3, 2 C, F], how many pairs of zeros are before the
    images).
  """
  kh, kw, c, f = kernel.shape
  pairs = -(-before // 2)
  first = 2 * pairs - before
  kernel = dense.pad(kernel, {1: (first, 2 * _PAIRS - first - kw)})
  return kernel.reshape(kh, _PAIRS, 2 * c, f), pairs


def _in_pieces(function, images, kernel, numbers):
  """Applies a function to some images at a time.

  Args:
    function: of [b, H, W, C] and the kernel.
    images: [B, H, W, C].
    kernel: the kernel.
    numbers: in the inputs or outputs of an image, whichever are more.

  Returns:
    The results of all images.
  """
  batch_size = images.shape[0]
  size = max(
    d
    for d in range(1, batch_size + 1)
    if batch_size % d == 0 and (d == 1 or d * numbers <= _PIECE)
  )
  if size == batch_size:
    return function(images, kernel)
  one = jax.eval_shape(function, images[:size], kernel)

  def write(i, results):
    piece = jax.lax.dynamic_slice_in_dim(images, i * size, size)
    # Otherwise XLA transforms the kernel at the beginning of the program.
    piece, taps = jax.lax.optimization_barrier((piece, kernel))
    return jax.lax.dynamic_update_slice_in_dim(
      results, function(piece, taps), i * size, axis=0
    )

  # All of it is overwritten. Zeros, which depend on nothing, XLA would write,
  # and keep memory for, at the beginning of the program.
  results = jnp.broadcast_to(images[0, 0, 0, 0], (batch_size, *one.shape[1:]))
  return jax.lax.fori_loop(0, batch_size // size, write, results)
