"""The tiles of an image, and loops over those that have work to do.

Objects cover a small part of an image, so rays are traced only on the tiles of
8x8 pixels that an object's outline touches. Compiled programs have static
shapes, yet the work differs from scene to scene: so the tiles of a whole batch
are sorted, and a loop works on chunks of one size, as many as needed.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import geometry

SIDE = 8
"""Pixels along a tile's side; S = SIDE * SIDE pixels are in a tile."""
CHUNK = 64
"""Tiles processed at once."""
NUM_NODES = 3, 6
"""Columns and rows of a tile's nodes. The camera looks at the floor from the
side: from top to bottom a tile spans more of it, and functions change more.
"""


@flax.struct.dataclass
class Camera:
  """Rays of an image: `corner + column x + row y` at pixel (x, y).

  Attributes:
    eye: location.
    corner: direction through the upper left corner of the image.
    column: change of the direction per column.
    row: change of the direction per row.
  """

  eye: geometry.Vector
  corner: geometry.Vector
  column: geometry.Vector
  row: geometry.Vector


class Grid:
  """The T tiles of an image; those at the border may extend beyond it."""

  def __init__(self, resolution: tuple[int, int]):
    self.resolution = resolution
    self.tiled = tuple(-(-size // SIDE) for size in resolution)
    self.num_tiles = self.tiled[0] * self.tiled[1]

  def corners(self) -> tuple[np.ndarray, np.ndarray]:
    """Column and row [T] of the tiles' upper left corners, in pixels."""
    rows, columns = np.divmod(np.arange(self.num_tiles), self.tiled[1])
    return (
      (columns * SIDE).astype(np.float32),
      (rows * SIDE).astype(np.float32),
    )

  def pixels(self) -> tuple[jax.Array, jax.Array]:
    """Column and row [T, S] of the pixels' centers."""
    x, y = self.corners()
    dx, dy = offsets()
    return jnp.asarray(x[:, None] + dx), jnp.asarray(y[:, None] + dy)

  def nodes(self, tile: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Column and row [C, N] of the nodes of tiles [C], in pixels."""
    columns, rows = NUM_NODES
    dx = 0.5 * SIDE * (1.0 + np.tile(_chebyshev(columns), rows))
    dy = 0.5 * SIDE * (1.0 + np.repeat(_chebyshev(rows), columns))
    x = (tile % self.tiled[1] * SIDE).astype(jnp.float32)[:, None]
    y = (tile // self.tiled[1] * SIDE).astype(jnp.float32)[:, None]
    return x + dx.astype(np.float32)[None], y + dy.astype(np.float32)[None]

  def places(self, pixel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Column and row of the centers of pixels, numbered tile by tile."""
    tile, within = pixel // (SIDE * SIDE), pixel % (SIDE * SIDE)
    x = (tile % self.tiled[1]) * SIDE + within % SIDE
    y = (tile // self.tiled[1]) * SIDE + within // SIDE
    return x.astype(jnp.float32) + 0.5, y.astype(jnp.float32) + 0.5

  def image(self, values: jax.Array) -> jax.Array:
    """Rearranges values [T, S] to an image [H, W]."""
    rows, columns = self.tiled
    values = values.reshape(rows, columns, SIDE, SIDE).swapaxes(1, 2)
    values = values.reshape(rows * SIDE, columns * SIDE)
    return values[: self.resolution[0], : self.resolution[1]]


def offsets() -> tuple[np.ndarray, np.ndarray]:
  """Column and row [1, S] of pixel centers in a tile."""
  rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
  return (
    (columns + 0.5).astype(np.float32)[None],
    (rows + 0.5).astype(np.float32)[None],
  )


def interpolate(values: Any) -> Any:
  """Values at the pixels of tiles from those at `Grid.nodes`.

  Along each axis of a tile, scaled to u in [-1, 1], a function f is replaced by
  the polynomial of degree n - 1 through its values at the n Chebyshev nodes
  `u_i = -cos(pi (i + 1/2) / n)`:

    p(u) = sum_i f(u_i) l_i(u),  l_i(u) = prod_{k != i} (u - u_k) / (u_i - u_k).

  The error is `|f - p| <= max |f^(n)| / (2^(n - 1) n!)`, with derivatives in
  units of half a tile: the least bound that n nodes allow. In two dimensions
  the weights are products, `l_i(u) l_j(v)`.

  Args:
    values: a pytree of smooth functions at the nodes, [C, N] each.

  Returns:
    The same at the centers of pixels, [C, S] each.
  """
  columns, rows = map(_weights, NUM_NODES)
  weights = np.kron(rows, columns).astype(np.float32)  # [N, S]
  # One product for all of them costs less than one for each.
  leaves, structure = jax.tree.flatten(values)
  out = jnp.matmul(
    jnp.stack(leaves), weights, precision=jax.lax.Precision.HIGHEST
  )
  return jax.tree.unflatten(structure, list(out))


def _chebyshev(num: int) -> np.ndarray:
  """The n Chebyshev nodes, increasing, in (-1, 1)."""
  return -np.cos(np.pi * (np.arange(num) + 0.5) / num)


def _weights(num: int) -> np.ndarray:
  """Weights [n, SIDE] of the n nodes at the centers of pixels along an axis."""
  nodes = _chebyshev(num)
  pixel = (2.0 * np.arange(SIDE) + 1.0) / SIDE - 1.0
  return np.stack(
    [
      np.prod([(pixel - k) / (node - k) for k in np.delete(nodes, i)], axis=0)
      for i, node in enumerate(nodes)
    ]
  )


def rays(camera: Camera, x: jax.Array, y: jax.Array) -> geometry.Vector:
  """Unit directions of the rays through points of the image, in pixels."""
  return jax.tree.map(
    lambda corner, column, row: corner + column * x + row * y,
    camera.corner,
    camera.column,
    camera.row,
  ).unit()


def _chunk(num: int) -> int:
  """Rows of a chunk, of `num` in all.

  On a CPU as many as fit its caches. Elsewhere an iteration costs more than its
  padding.
  """
  return CHUNK if jax.default_backend() == "cpu" else max(CHUNK, num // 16)


def for_rows(
  order: jax.Array,
  total: jax.Array,
  work: Callable[[jax.Array, jax.Array, Any], Any],
  state: Any,
) -> Any:
  """Loops over rows, in chunks.

  Args:
    order: [N] int32, the rows.
    total: [] int32, how many of them to work on, from the first one.
    work: maps rows [C] int32, whether each is real or padding [C] bool, and the
      state to the next state.
    state: a pytree.

  Returns:
    The last state.
  """
  num = order.shape[0]
  chunk = _chunk(num)

  def body(carry):
    i, state = carry
    place = i * chunk + jnp.arange(chunk)
    item = order[jnp.minimum(place, num - 1)]
    return i + 1, work(item, place < total, state)

  return jax.lax.while_loop(
    lambda carry: carry[0] * chunk < total, body, (jnp.int32(0), state)
  )[1]


def for_flagged(
  flags: jax.Array,
  work: Callable[[jax.Array], Any],
  start: Any,
  weight: jax.Array | None = None,
) -> Any:
  """Computes only the flagged rows, in chunks.

  Args:
    flags: [N] bool.
    work: maps row indices [C] int32 to their values, a pytree [C, ...].
    start: a pytree [N, ...], values of the other rows.
    weight: [N] int32 >= 0; rows of equal weight are worked on together, the
      largest first.

  Returns:
    A pytree [N, ...].
  """
  num = flags.shape[0]

  def one(item, real, values):
    target = jnp.where(real, item, num)
    return jax.tree.map(
      lambda all_, new: all_.at[target].set(new, mode="drop"),
      values,
      work(item),
    )

  return for_rows(
    by_weight(flags, weight), flags.sum(dtype=jnp.int32), one, start
  )


def by_weight(flags: jax.Array, weight: jax.Array | None = None) -> jax.Array:
  """[N] int32: the flagged rows by decreasing weight, then the others."""
  if weight is None:
    return order(~flags)
  return order(jnp.where(flags, -1 - weight, 0))


def order(keys: jax.Array) -> jax.Array:
  """[N] int32: `jnp.argsort` of small integers [N], `N |key| < 2^31`.

  Sorts the numbers `N key + index`: on a CPU one array is sorted many times
  faster than the two that `jnp.argsort` sorts.
  """
  num = keys.shape[0]
  index = jnp.arange(num, dtype=jnp.int32)
  return jnp.sort(keys.astype(jnp.int32) * num + index) % num
