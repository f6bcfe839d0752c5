"""Convolution with fewer multiplications: Toom-Cook along the columns.

Four neighboring outputs of a kernel of five columns are a product of two
polynomials, computed from their values at eight points: eight multiplications
instead of twenty (S. Winograd, "Arithmetic Complexity of Computations", 1980;
A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks",
arXiv:1509.09308). So are six outputs of a kernel of three columns: eight
instead of eighteen. For each point, the tiles of four or six columns make one
ordinary convolution with a kernel one column wide. The result is exact up to
rounding: in float32 its root mean square error is about 1.4e-6 of the outputs'
for five columns and 2e-6 for three, where the direct sum has 0.4e-6.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.modules.convolution import dense

_NUM_POINTS = 8
_TAPS = (3, 5)  # Columns of the kernel.
# With these and infinity the transforms have small, mostly exact entries.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
# With less, the transforms cost more than they save.
_MIN_CHANNELS = 32
_MIN_COLUMNS = 16


@functools.cache
def _transforms(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  r"""Matrices of y = A ((K k) * (X x)): [tile, 8], [8, taps] and [8, 8].

  Toom-Cook multiplies polynomials: those with coefficients y and k, of degrees
  tile - 1 and taps - 1, have a product of degree 7, which follows from its
  values at 8 points. It is V (T y * K k), where T and K evaluate and V
  interpolates. The correlation y_m = \sum_j k_j x_{m + j} is the transpose of
  this map of y: A = T' and X = V'. Row i of X holds the coefficients of the
  i-th Lagrange polynomial, \prod_{j != i} (t - p_j) / (p_i - p_j); its
  denominator is moved to K, so that X is nearly all whole numbers.
  """
  tile = _NUM_POINTS + 1 - taps
  of_inputs = np.zeros((_NUM_POINTS, _NUM_POINTS))
  of_kernel = np.zeros((_NUM_POINTS, taps))
  of_products = np.zeros((tile, _NUM_POINTS))
  for i, point in enumerate(_POINTS):
    others = np.delete(_POINTS, i)
    polynomial = np.poly(others)[::-1]  # Lowest power first.
    # A power of two scales the inputs' transform to about 1 without rounding,
    # so that float32 loses as little as it can; K undoes it.
    scale = 2.0 ** np.round(np.log2(np.abs(polynomial).max()))
    of_inputs[i, :-1] = polynomial / scale
    of_kernel[i] = point ** np.arange(taps) * scale / np.prod(point - others)
    of_products[:, i] = point ** np.arange(tile)
  # The value at infinity is the leading coefficient: the last tap and the last
  # output alone have a part in it, and its polynomial vanishes at the others.
  polynomial = np.poly(_POINTS)[::-1]
  scale = 2.0 ** np.round(np.log2(np.abs(polynomial).max()))
  of_inputs[-1] = polynomial / scale
  of_kernel[-1, -1] = scale
  of_products[-1, -1] = 1.0
  return of_products, of_kernel, of_inputs


def is_faster(inputs: jax.Array, kernel: jax.Array, stride: int) -> bool:
  """Whether `convolve` takes these shapes and is faster on CPUs.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, kw, C, F].
    stride: stride of both axes.

  Returns:
    True for float32 and wider, stride 1, kernels of five columns, and at least
    16 columns and 32 channels.
  """
  return (
    stride == 1
    and kernel.shape[1] == 5
    and min(kernel.shape[2:]) >= _MIN_CHANNELS
    and inputs.shape[2] >= _MIN_COLUMNS
    and jnp.finfo(inputs.dtype).bits >= 32
  )


def convolve(
  inputs: jax.Array,
  kernel: jax.Array,
  padding: tuple[tuple[int, int], tuple[int, int]],
  row_stride: int = 1,
) -> jax.Array:
  """Convolution with a kernel of three or five columns, of stride 1 along them.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, 3 or 5, C, F].
    padding: zeros (before, after) the rows and the columns.
    row_stride: stride along the rows, >= 1.

  Returns:
    [B, H', W', F], H' = (H + sum(padding[0]) - kh) // row_stride + 1 and
    W' = W + sum(padding[1]) - kw + 1.

  Raises:
    ValueError: if the kernel has another number of columns.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import toom_cook
    >>> x, kernel = jnp.ones((1, 8, 9, 3)), jnp.ones((3, 5, 3, 16))
    >>> toom_cook.convolve(x, kernel, ((1, 1), (2, 2))).shape
    (1, 8, 9, 16)
  """
  kw = kernel.shape[1]
  if kw not in _TAPS:
    raise ValueError(
      f"Expected a kernel [kh, 3 or 5, C, F], got {kernel.shape}. Use "
      "by_platform.conv2d for other kernels."
    )
  of_products, of_kernel, of_inputs = _transforms(kw)
  tile = len(of_products)
  b, h, w, c = inputs.shape
  f = kernel.shape[3]
  before, after = padding[1]
  columns = w + before + after - kw + 1
  tiles = -(-columns // tile)
  # Column tile * t + j of the padded inputs is [:, :, t, j].
  right = (tiles + 1) * tile - w - before
  inputs = dense.pad(inputs, {2: (before, right)})
  inputs = inputs.reshape(b, h, tiles + 1, tile, c)
  # Tile t reads eight columns: its own and the first of the next tile.
  # Column j of all tiles of all images makes one wide image, for the reason
  # given at `by_platform._tile_batch_along_width`.
  taps = []
  for j in range(_NUM_POINTS):
    tap = inputs[:, :, j // tile : j // tile + tiles, j % tile]
    taps.append(tap.transpose(1, 0, 2, 3).reshape(1, h, b * tiles, c))
  kernels = jnp.einsum("pj,ijcf->picf", of_kernel.astype(kernel.dtype), kernel)[
    :, :, None
  ]
  # One convolution a point, with a kernel that is one column wide.
  products = [
    dense.convolution(
      _combine(row, taps),
      kernels[point],
      (padding[0], (0, 0)),
      (row_stride, 1),
    )
    for point, row in enumerate(of_inputs)
  ]
  # The outputs of a tile lie side by side.
  outputs = jnp.stack([_combine(row, products) for row in of_products], axis=3)
  outputs = outputs.reshape(-1, b, tiles * tile, f).transpose(1, 0, 2, 3)
  return outputs[:, :, :columns]


def _combine(coefficients, arrays):
  """Sum of the arrays times the coefficients, without those that are zero."""
  terms = zip(coefficients, arrays, strict=True)
  terms = [x if c == 1 else float(c) * x for c, x in terms if c]
  return sum(terms[1:], terms[0])
