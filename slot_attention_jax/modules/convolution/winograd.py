"""Convolutions of stride 2 with fewer multiplications, for CPUs.

Blocks of 2x2 pixels are channels, so that a kernel of 5x5 and stride 2 becomes
one of 3x3 and stride 1. Tiles of 4x4 of its outputs are computed from 6x6
values by Toom-Cook's convolution along both axes, which is known as Winograd's
(A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks",
arXiv:1509.09308): 36
multiplications in place of 16 * 9, or, as the blocks hold zeros for the sixth
row and column of the kernel, 0.36 of the direct sum's. The gradients are the
same maps transposed. In float32 the root mean square error is about 1.6e-6 of
the outputs'.

For each of the 36 points, tiles are the rows of one matrix product. XLA:CPU
divides a product among the cores if it has 512 rows, and elementwise operations
by their first axes. A loop over a few images, as many as have so many tiles,
with another over six rows of points in it, keeps the transformed inputs, 2.25
times the images, near the caches. XLA:CPU does not vectorize a sum that reads
one dynamic slice, or one sum, in several places.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.modules import shard_types
from slot_attention_jax.modules.convolution import dense, toom_cook

_TILE = 4  # Rows and columns of outputs of a tile.
_TAPS = 3  # Rows and columns of the kernel on blocks.
_SIZE = _TILE + _TAPS - 1
# The transforms of these, with infinity, round least of all tried.
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
_OF_PRODUCTS, _OF_KERNEL, _OF_INPUTS = toom_cook.transforms(
  _TILE, _TAPS, _POINTS
)
_KERNEL = (5, 5)
_MIN_CHANNELS = 32
# Tiles of all images: with fewer, compiling costs more than is saved.
_MIN_TILES = 2048
# Tiles of a piece, from which XLA:CPU uses several cores.
_PIECE_TILES = 512
# With fewer, as of many small images in a prime number, reading the kernel
# costs more than is saved.
_MIN_PIECE_TILES = 16


def is_faster(inputs: jax.Array, kernel: jax.Array, stride: int) -> bool:
  """Whether this module takes these arrays and is faster on CPUs.

  Args:
    inputs: [B, H, W, C]; sizes are not numbers in a program that is exported
      for any.
    kernel: [kh, kw, C, F].
    stride: stride of both axes.

  Returns:
    True for float32 and float64, stride 2, kernels of 5x5, images whose sides
    are multiples of 8, at least 32 channels, and at least 2048 tiles, 16 in a
    piece, unless the compiler may split the batch over devices: it would gather
    all images for the loop over them.
  """
  sizes = inputs.shape[:3]
  return (
    all(isinstance(n, int) for n in sizes)
    and stride == 2
    and kernel.shape[:2] == _KERNEL
    and min(kernel.shape[2:]) >= _MIN_CHANNELS
    and sizes[1] % (2 * _TILE) == sizes[2] % (2 * _TILE) == 0
    and math.prod(sizes) >= _MIN_TILES * (2 * _TILE) ** 2
    and inputs.dtype == kernel.dtype
    and inputs.dtype in (jnp.float32, jnp.float64)
    and _tiles_of_a_piece(*sizes) >= _MIN_PIECE_TILES
    and not shard_types.may_be_split(inputs)
  )


def strided(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolution of stride 2 with `SAME` padding.

  Args:
    inputs: [B, H, W, C], H and W multiples of 8.
    kernel: [5, 5, C, F].

  Returns:
    [B, H / 2, W / 2, F].

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import winograd
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((5, 5, 3, 16))
    >>> winograd.strided(x, kernel).shape
    (1, 4, 4, 16)
  """
  b, h, w, c = inputs.shape
  blocks = inputs.reshape(b, h // 2, 2, w // 2, 2 * c)
  kernel = _on_blocks(kernel)
  outputs = _convolve(blocks, kernel, inputs[0, 0, 0, 0], transposed=False)
  return outputs.reshape(b, h // 2, w // 2, -1)


def gradients(
  inputs: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Gradients of `strided`.

  Args:
    inputs: [B, H, W, C], what was convolved.
    kernel: [5, 5, C, F].
    gradient: [B, H / 2, W / 2, F], gradient with respect to the outputs.

  Returns:
    The pair of gradients with respect to inputs and kernel, of their shapes.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import winograd
    >>> x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((5, 5, 3, 16))
    >>> g = jnp.ones((1, 4, 4, 16))
    >>> [y.shape for y in winograd.gradients(x, kernel, g)]
    [(1, 8, 8, 3), (5, 5, 3, 16)]
  """
  of_kernel = _kernel_gradient(inputs, gradient)
  # That of the inputs waits for the kernel's, which needs the inputs.
  after = of_kernel[0, 0, 0, 0]
  kernel = _on_blocks(_not_before(after, kernel))[::-1, ::-1]
  gradient = gradient[:, :, None]
  of_inputs = _convolve(gradient, kernel, after, transposed=True)
  return of_inputs.reshape(inputs.shape), of_kernel


def _kernel_gradient(inputs, gradient):
  """Gradient [5, 5, C, F] of `strided` with respect to the kernel."""
  b, h, w, c = inputs.shape
  f = gradient.shape[3]
  inputs = inputs.reshape(b, h // 2, 2, w // 2, 2 * c)
  # Of these products XLA:CPU uses several cores whatever their size.
  size = _piece(b, h // 2, w // 2, _PIECE_TILES // 2)

  def add(i, total):
    x = jax.lax.dynamic_slice_in_dim(inputs, i * size, size)
    of_inputs = _rows(_OF_INPUTS, _padded(x), 0, size)
    of_gradient = _rows(_OF_PRODUCTS.T, gradient, i * size, size)

    def add_row(row, total):
      # XLA:CPU transposes the left factor: the smaller one.
      product = jax.lax.dot_general(
        _columns(_OF_PRODUCTS.T, of_gradient, row),
        _columns(_OF_INPUTS, of_inputs, row),
        (((1,), (1,)), ((0,), (0,))),
      )  # [6, F, 4 C]
      product += jax.lax.dynamic_index_in_dim(total, row, keepdims=False)
      return jax.lax.dynamic_update_index_in_dim(total, product, row, 0)

    return jax.lax.fori_loop(0, _SIZE, add_row, total)

  total = jnp.zeros((_SIZE, _SIZE, f, 4 * c), gradient.dtype)
  total = _not_before(gradient[0, 0, 0, 0], total)
  total = jax.lax.fori_loop(0, b // size, add, total).swapaxes(2, 3)
  total = _mix(_OF_KERNEL.T, total, 0, parts=_TAPS)
  total = _mix(_OF_KERNEL.T, total.swapaxes(0, 1), 1)
  total = total.reshape(_TAPS, _TAPS, 2, 2, c, f).transpose(0, 2, 1, 3, 4, 5)
  return total.reshape(2 * _TAPS, 2 * _TAPS, c, f)[1:, 1:]


def _on_blocks(kernel):
  """[5, 5, C, F] to [3, 3, 4 C, F]; a block is (row, column, channel)."""
  c, f = kernel.shape[2:]
  kernel = dense.pad(kernel, {0: (1, 0), 1: (1, 0)})
  kernel = kernel.reshape(_TAPS, 2, _TAPS, 2, c, f)
  return kernel.transpose(0, 2, 1, 3, 4, 5).reshape(_TAPS, _TAPS, 4 * c, f)


def _convolve(images, kernel, after, *, transposed):
  """Convolution of stride 1 with a kernel of 3x3, and zeros around images.

  Args:
    images: [B, h, a, w, a * C], where blocks of a^2 pixels are channels.
    kernel: [3, 3, a^2 * C, r^2 * F], or the last two axes the other way round.
    after: a number; memory for the outputs is taken when it is known.
    transposed: whether the axes are, and r is 2 and a 1, not 1 and 2.

  Returns:
    [B, h, r, w, r * F].
  """
  b, h, _, w, _ = images.shape
  rows, axis = (2, 3) if transposed else (1, 2)
  kernel = _mix(_OF_KERNEL, kernel, 0)
  kernel = _mix(_OF_KERNEL, kernel.swapaxes(0, 1), 1)  # [6, 6, ...]

  size = _piece(b, h, w, _PIECE_TILES)
  tiles = (size, h // _TILE, w // _TILE)

  def write(i, carry):
    outputs, sums = carry
    x = jax.lax.dynamic_slice_in_dim(images, i * size, size)
    # Otherwise XLA transforms the kernel at the beginning of the program.
    x, factors = jax.lax.optimization_barrier((x, kernel))
    of_inputs = _rows(_OF_INPUTS, _padded(x), 0, size)

    def write_row(row, sums):
      values = jax.lax.dot_general(
        _columns(_OF_INPUTS, of_inputs, row),
        jax.lax.dynamic_index_in_dim(factors, row, keepdims=False),
        (((2,), (axis - 1,)), ((0,), (0,))),
      ).reshape(_SIZE, *tiles, rows, -1)
      values = _mix(_OF_PRODUCTS, values, 3)
      return jax.lax.dynamic_update_index_in_dim(sums, values, row, 0)

    sums = jax.lax.fori_loop(0, _SIZE, write_row, sums)
    piece = _mix(_OF_PRODUCTS, sums, 2)
    # From [b, h / 4, 4, w / 4, 4, rows, F].
    piece = piece.transpose(0, 1, 2, 5, 3, 4, 6).reshape(size, h, rows, w, -1)
    outputs = jax.lax.dynamic_update_slice_in_dim(
      outputs, piece, i * size, axis=0
    )
    return outputs, sums

  # All of these are overwritten. For zeros, which depend on nothing, XLA would
  # keep memory from the beginning of the program on.
  f = kernel.shape[5 - axis] // rows
  outputs = jnp.broadcast_to(after, (b, h, rows, w, f))
  sums = jnp.broadcast_to(after, (_SIZE, *tiles, _TILE, rows, f))
  return jax.lax.fori_loop(0, b // size, write, (outputs, sums))[0]


def _piece(batch_size, h, w, min_tiles):
  """Images of a piece, of [h, w] outputs, which divide the batch.

  The fewest that have the tiles, unless these are four times as many as needed.
  """
  needed = max(1, -(-min_tiles * _TILE**2 // (h * w)))
  divisors = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
  enough = [n for n in divisors if needed <= n <= 4 * needed]
  return min(enough or [max(n for n in divisors if n <= needed)])


def _tiles_of_a_piece(b, h, w):
  """Of images of [h, w] inputs."""
  h, w = h // 2, w // 2
  return _piece(b, h, w, _PIECE_TILES) * (h // _TILE) * (w // _TILE)


def _padded(images):
  """[B, h, a, w, C] to [B, h + 2, w + 2, a * C].

  A tile reads 6x6 positions, from the one before its first output on.
  """
  b, h, a, w, c = images.shape
  images = dense.pad(images.swapaxes(2, 3), {1: (1, 1), 2: (1, 1)})
  return images.reshape(b, h + 2, w + 2, a * c)


def _rows(matrix, images, first, size):
  """Values [size * h / 4, 6, W, C] of the n rows of each tile.

  Args:
    matrix: [6, n].
    images: [B, H, W, C], in which tiles begin every four rows.
    first: number of the first image.
    size: how many images.
  """
  b, h, w, c = images.shape
  n = matrix.shape[1]
  # Six points of a row follow each other, for which it stays in the cache, and
  # columns and channels are one axis: XLA:CPU vectorizes along the last alone.
  images = images.reshape(b, h, w * c)
  shape = (size, h - n + 1, w * c)
  rows = [jax.lax.dynamic_slice(images, (first, i, 0), shape) for i in range(n)]
  rows = [x[:, ::_TILE] for x in rows]
  return _mix(matrix, rows, 2).reshape(-1, _SIZE, w, c)


def _columns(matrix, rows, row):
  """Values [6, T, C] of the n columns of each tile, of one of `_rows`."""
  count, _, w, c = rows.shape
  n = matrix.shape[1]
  # Slices of one dynamic slice XLA:CPU does not vectorize.
  shape = (count, 1, w - n + 1, c)
  columns = [
    jax.lax.dynamic_slice(rows, (0, row, j, 0), shape) for j in range(n)
  ]
  columns = [x[:, 0, ::_TILE] for x in columns]
  return _mix(matrix, columns, 0).reshape(_SIZE, -1, c)


def _not_before(number, x):
  """An array, once a number is known.

  What depends on nothing, or on parameters alone, XLA computes at the beginning
  of the program, and keeps in memory until it is needed.
  """
  # Zero, which XLA does not know, also if the number is NaN or infinite: one
  # image's must not reach the gradients of others.
  return x + (number > jnp.inf).astype(x.dtype)


def _mix(matrix, arrays, axis, parts=1):
  """Sums of arrays, times each row of a matrix, along a new axis.

  Args:
    matrix: [m, n].
    arrays: n arrays of one shape, or one whose first axis they are.
    axis: where the new axis, of m, stands.
    parts: of the rows of the matrix, concatenated: with more than one, XLA:CPU
      writes the result to memory, and does not compute it again for each sum
      of the sums.

  Returns:
    The array of sums.
  """
  arrays = [jnp.expand_dims(x, axis) for x in arrays]
  shape = [1] * arrays[0].ndim
  shape[axis] = -1
  sums = []
  for rows in np.split(matrix, parts):
    columns = [x.reshape(shape).astype(arrays[0].dtype) for x in rows.T]
    terms = [c * x for c, x in zip(columns, arrays, strict=True)]
    sums.append(sum(terms[1:], terms[0]))
  return jnp.concatenate(sums, axis) if parts > 1 else sums[0]
