"""Convolution with fewer multiplications: Toom-Cook along the columns.

Four neighboring outputs of a kernel of five columns are a product of two
polynomials, computed from their values at eight points: eight multiplications
instead of twenty (S. Winograd, "Arithmetic Complexity of Computations", 1980;
A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks",
arXiv:1509.09308). For each point, the tiles of four columns make one ordinary
convolution with a kernel one column wide. The result is exact up to rounding:
in float32 its root mean square error is about 1.4e-6 of the outputs', where the
direct sum has 0.4e-6.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.modules.convolution import dense

_TILE = 4  # Outputs of a tile.
_TAPS = 5  # Columns of the kernel.
# With these and infinity the transforms have small, mostly exact entries.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
# With less, the transforms cost more than they save.
_MIN_CHANNELS = 32
_MIN_COLUMNS = 16


def transforms(
  tile: int, taps: int, points: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  r"""Matrices of y = A ((K k) * (X x)), for m outputs and r taps.

  Toom-Cook multiplies polynomials: that of degree m - 1 with coefficients y and
  that of degree r - 1 with coefficients k have a product of degree m + r - 2,
  which follows from its values at m + r - 1 points. It is V (T y * K k), where
  T and K evaluate and V interpolates. The correlation
  y_m = \sum_j k_j x_{m + j} is the transpose of this map of y: A = T' and
  X = V'. Row i of X holds the coefficients of the i-th Lagrange polynomial,
  \prod_{j != i} (t - p_j) / (p_i - p_j); its denominator is moved to K, so that
  X is nearly all whole numbers if the points are.

  Args:
    tile: m, outputs of a tile.
    taps: r, of the kernel.
    points: m + r - 2 different numbers; infinity is the last point.

  Returns:
    The triple (A [m, m + r - 1], K [m + r - 1, r], X [m + r - 1, m + r - 1]).
  """
  num_points = tile + taps - 1
  of_inputs = np.zeros((num_points, num_points))
  of_kernel = np.zeros((num_points, taps))
  of_products = np.zeros((tile, num_points))
  for i, point in enumerate(points):
    others = np.delete(points, i)
    polynomial = np.poly(others)[::-1]  # Lowest power first.
    # A power of two scales the inputs' transform to about 1 without rounding,
    # so that float32 loses as little as it can; K undoes it.
    scale = 2.0 ** np.round(np.log2(np.abs(polynomial).max()))
    of_inputs[i, :-1] = polynomial / scale
    of_kernel[i] = point ** np.arange(taps) * scale / np.prod(point - others)
    of_products[:, i] = point ** np.arange(tile)
  # The value at infinity is the leading coefficient: the last tap and the last
  # output alone have a part in it, and its polynomial vanishes at the others.
  polynomial = np.poly(points)[::-1]
  scale = 2.0 ** np.round(np.log2(np.abs(polynomial).max()))
  of_inputs[-1] = polynomial / scale
  of_kernel[-1, -1] = scale
  of_products[-1, -1] = 1.0
  return of_products, of_kernel, of_inputs


_OF_PRODUCTS, _OF_KERNEL, _OF_INPUTS = transforms(_TILE, _TAPS, _POINTS)


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
    and kernel.shape[1] == _TAPS
    and min(kernel.shape[2:]) >= _MIN_CHANNELS
    and inputs.shape[2] >= _MIN_COLUMNS
    and jnp.finfo(inputs.dtype).bits >= 32
  )


def convolve(
  inputs: jax.Array,
  kernel: jax.Array,
  padding: tuple[tuple[int, int], tuple[int, int]],
) -> jax.Array:
  """Convolution of stride 1 with a kernel of five columns.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, 5, C, F].
    padding: zeros (before, after) the rows and the columns.

  Returns:
    [B, H', W', F], H' = H + sum(padding[0]) - kh + 1, W' likewise.

  Raises:
    ValueError: if the kernel does not have five columns.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules.convolution import toom_cook
    >>> x, kernel = jnp.ones((1, 8, 9, 3)), jnp.ones((3, 5, 3, 16))
    >>> toom_cook.convolve(x, kernel, ((1, 1), (2, 2))).shape
    (1, 8, 9, 16)
  """
  if kernel.shape[1] != _TAPS:
    raise ValueError(
      f"Expected a kernel [kh, {_TAPS}, C, F], got {kernel.shape}. Use "
      "by_platform.conv2d for other kernels."
    )
  b, h, w, c = inputs.shape
  f = kernel.shape[3]
  before, after = padding[1]
  columns = w + before + after - _TAPS + 1
  tiles = -(-columns // _TILE)
  # Column 4 t + j of the padded inputs is [:, :, t, j].
  right = (tiles + 1) * _TILE - w - before
  inputs = dense.pad(inputs, {2: (before, right)})
  inputs = inputs.reshape(b, h, tiles + 1, _TILE, c)
  # Tile t reads eight columns from 4 t on: its own four and the next tile's.
  # Column j of all tiles of all images makes one wide image, for the reason
  # given at `by_platform._tile_batch_along_width`.
  taps = []
  for j in range(_TILE + _TAPS - 1):
    tap = inputs[:, :, j // _TILE : j // _TILE + tiles, j % _TILE]
    taps.append(tap.transpose(1, 0, 2, 3).reshape(1, h, b * tiles, c))
  kernels = jnp.einsum(
    "pj,ijcf->picf", _OF_KERNEL.astype(kernel.dtype), kernel
  )[:, :, None]
  # One convolution a point, with a kernel that is one column wide.
  products = [
    dense.convolution(_combine(row, taps), kernels[point], (padding[0], (0, 0)))
    for point, row in enumerate(_OF_INPUTS)
  ]
  # The four outputs of a tile lie side by side.
  outputs = jnp.stack([_combine(row, products) for row in _OF_PRODUCTS], axis=3)
  outputs = outputs.reshape(-1, b, tiles * _TILE, f).transpose(1, 0, 2, 3)
  return outputs[:, :, :columns]


def _combine(coefficients, arrays):
  """Sum of the arrays times the coefficients, without those that are zero."""
  terms = zip(coefficients, arrays, strict=True)
  terms = [x if c == 1 else float(c) * x for c, x in terms if c]
  return sum(terms[1:], terms[0])
