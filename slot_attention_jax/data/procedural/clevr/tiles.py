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


def rays(camera: Camera, x: jax.Array, y: jax.Array) -> geometry.Vector:
  """Unit directions of the rays through points of the image, in pixels."""
  return jax.tree.map(
    lambda corner, column, row: corner + column * x + row * y,
    camera.corner,
    camera.column,
    camera.row,
  ).unit()


def batched(function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
  """Makes a function on batches work on single examples and under `vmap`.

  Args:
    function: takes `static` and pytrees of arrays [B, ...], returns one.
    *static: leading arguments without a batch axis.

  Returns:
    A function of the same pytrees without the batch axis. `vmap` of it calls
    `function` once, on the whole batch.
  """

  @jax.custom_batching.custom_vmap
  def single(*args):
    out = function(*static, *jax.tree.map(lambda x: x[None], args))
    return jax.tree.map(lambda x: x[0], out)

  @single.def_vmap
  def _(size, batched, *args):
    args = jax.tree.map(
      lambda x, b: x if b else jnp.broadcast_to(x, (size, *jnp.shape(x))),
      args,
      tuple(batched),
    )
    out = function(*static, *args)
    return out, jax.tree.map(lambda _: True, out)

  return single


def for_flagged(
  flags: jax.Array, work: Callable[[jax.Array], Any], start: Any
) -> Any:
  """Computes only the flagged rows, in chunks.

  Args:
    flags: [N] bool.
    work: maps row indices [C] int32 to their values, a pytree [C, ...].
    start: a pytree [N, ...], values of the other rows.

  Returns:
    A pytree [N, ...].
  """
  num = flags.shape[0]
  order = jnp.argsort(~flags)
  total = flags.sum(dtype=jnp.int32)

  def body(state):
    i, values = state
    place = i * CHUNK + jnp.arange(CHUNK)
    item = order[jnp.minimum(place, num - 1)]
    target = jnp.where(place < total, item, num)
    values = jax.tree.map(
      lambda all_, new: all_.at[target].set(new, mode="drop"),
      values,
      work(item),
    )
    return i + 1, values

  return jax.lax.while_loop(
    lambda state: state[0] * CHUNK < total, body, (jnp.int32(0), start)
  )[1]
