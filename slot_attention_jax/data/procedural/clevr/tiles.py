"""What the camera sees, tile by tile.

Objects cover a small part of a picture, so rays are traced only on the tiles of
8x8 pixels that an object's outline touches. Compiled programs have static
shapes, yet the work differs from scene to scene: so the tiles of a whole batch
are sorted, most crowded first, and a loop works on chunks of one size, as many
as there are.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import geometry, outlines

SIDE = 8
"""Pixels along a tile's side; S = SIDE * SIDE pixels are in a tile."""
# Tiles worked on at once.
_CHUNK = 64
# Planes around an object's outline, for the coverage of its edge pixels.
_PLANES = 24


@flax.struct.dataclass
class Camera:
  """Rays of a picture: `corner + column x + row y` at pixel (x, y).

  Attributes:
    eye: location.
    corner: direction through the upper left corner of the picture.
    column: change of the direction per column.
    row: change of the direction per row.
  """

  eye: geometry.Vector
  corner: geometry.Vector
  column: geometry.Vector
  row: geometry.Vector


@flax.struct.dataclass
class Seen:
  """Per pixel [T, S]: what is seen, and how an edge passes through it.

  Attributes:
    distance: along the ray through the pixel's center.
    index: int32, object that is hit there; -1 for none.
    cover: share of the pixel within that object's outline, 0.5 to 1; 1 where
      none is hit.
    beside: largest share within the outline of an object that the ray at the
      center misses, 0 to 0.5.
    beside_index: int32, that object; -1 for none.
  """

  distance: jax.Array
  index: jax.Array
  cover: jax.Array
  beside: jax.Array
  beside_index: jax.Array


class Grid:
  """The T tiles of a picture; the last ones may extend beyond it."""

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

  def picture(self, values: jax.Array) -> jax.Array:
    """Values [T, S] as a picture [H, W]."""
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
  """Unit directions of the rays through points of the picture, in pixels."""
  return jax.tree.map(
    lambda corner, column, row: corner + column * x + row * y,
    camera.corner,
    camera.column,
    camera.row,
  ).unit()


def _outline_lines(bodies: geometry.Body, camera: Camera):
  """Lines [O, K] around the objects: `a x + b y + c` is the distance outwards.

  All is in pixels of the picture.
  """
  apex = jax.tree.map(
    lambda x: jnp.broadcast_to(x, bodies.radius.shape), camera.eye
  )
  towards = bodies.center - apex
  reach = jnp.sqrt(towards.dot(towards))
  planes, _ = outlines.touching_planes(
    bodies, apex, towards.unit(), reach, _PLANES
  )
  a, b, c = (
    planes.x * v.x + planes.y * v.y + planes.z * v.z
    for v in (camera.column, camera.row, camera.corner)
  )
  inverse = jax.lax.rsqrt(jnp.maximum(a * a + b * b, 1e-20))
  return a * inverse, b * inverse, c * inverse


def batched(function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
  """Makes a function of batches work under `vmap`, and without it."""

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


def see(grid: Grid, bodies: geometry.Body, camera: Camera) -> Seen:
  """Finds what the camera sees; works under `vmap`.

  Args:
    grid: the tiles.
    bodies: the objects [O].
    camera: the camera.

  Returns:
    A `Seen` [T, S].
  """
  return batched(_see, grid)(bodies, camera)


def _see(grid: Grid, bodies: geometry.Body, camera: Camera) -> Seen:
  """`see` on a batch [B].

  First, which objects come near which tile, from the outlines alone. Then, in
  round m, the m-th object of every tile that has one is traced and composited:
  a tile with two objects takes part in two rounds, an empty one in none.
  """
  b, o = bodies.radius.shape
  t, s = grid.num_tiles, SIDE * SIDE
  lines = jax.vmap(_outline_lines)(bodies, camera)  # [B, O, K]
  left, top = grid.corners()
  # An outline touches a tile if it comes this close to its middle: half of the
  # diagonal, and one pixel for the coverage of edges that reach into it.
  reach = SIDE * np.sqrt(0.5) + 1.0
  # The signed distance from a convex outline is the maximum over its lines.
  # A loop over K keeps [B, O, K, T] from being made.
  touch: Any = None
  for k in range(_PLANES):
    middle = (
      lines[0][..., k, None] * (left + SIDE / 2)[None, None]
      + lines[1][..., k, None] * (top + SIDE / 2)[None, None]
      + lines[2][..., k, None]
    )
    touch = middle if touch is None else jnp.maximum(touch, middle)
  flags = (touch < reach) & bodies.present[..., None]  # [B, O, T]
  flags = jnp.swapaxes(flags, 1, 2).reshape(b * t, o)
  # The rank of an object among those of its tile, and how many a tile has.
  rank = jnp.cumsum(flags, axis=1, dtype=jnp.int32) - 1
  count = rank[:, -1] + 1  # [B * T]
  order = jnp.argsort(-count)
  # With the most crowded tiles first, those that have an m-th object are the
  # first `tiles[m]` of the order: contiguous, so each round is cut into chunks.
  rounds = jnp.arange(o, dtype=jnp.int32)
  tiles = (count[:, None] > rounds[None]).sum(axis=0, dtype=jnp.int32)
  chunks = (tiles + _CHUNK - 1) // _CHUNK
  ends = jnp.cumsum(chunks)  # Of the rounds, in chunks.
  left, top = jnp.asarray(left), jnp.asarray(top)
  dx, dy = offsets()
  flat = jax.tree.map(lambda x: x.reshape(b * o, *x.shape[2:]), (bodies, lines))

  def work(state):
    """Chunk i: traces one object on each of C tiles and composites it."""
    i, seen = state
    m = (i >= ends).sum(dtype=jnp.int32)  # The round that the chunk is in.
    place = (i - ends[m] + chunks[m]) * _CHUNK + jnp.arange(_CHUNK)
    real = place < tiles[m]  # The last chunk of a round is filled up.
    item = order[jnp.minimum(place, b * t - 1)]
    image, tile = item // t, item % t
    # The one object of rank m on each tile.
    number = jnp.argmax(flags[item] & (rank[item] == m), axis=1)
    number = number.astype(jnp.int32)
    body, line = jax.tree.map(lambda x: x[image * o + number], flat)
    body = jax.tree.map(lambda x: x[:, None], body)  # [C, 1]
    here = jax.tree.map(lambda x: x[image][:, None], camera)
    x, y = left[tile][:, None] + dx, top[tile][:, None] + dy  # [C, S]
    hit = geometry.intersect(body, here.eye, rays(here, x, y))
    outside: Any = None
    for k in range(_PLANES):
      distance = line[0][:, k, None] * x + line[1][:, k, None] * y
      distance += line[2][:, k, None]
      outside = distance if outside is None else jnp.maximum(outside, distance)
    # Share of a pixel within the outline: a straight edge through its center
    # halves it, one half a pixel away leaves all or nothing.
    cover = jnp.clip(0.5 - outside, 0.0, 1.0)
    best = jax.tree.map(lambda x: x[item], seen)
    closer = hit < best.distance
    # Outline and ray may disagree by a hair: an object that is missed covers at
    # most half of the pixel, one that is hit at least half.
    edge = jnp.where(hit >= geometry.FAR, jnp.minimum(cover, 0.5), 0.0)
    wider = edge > best.beside
    number = jnp.broadcast_to(number[:, None], hit.shape)
    best = Seen(
      distance=jnp.where(closer, hit, best.distance),
      index=jnp.where(closer, number, best.index),
      cover=jnp.where(closer, jnp.maximum(cover, 0.5), best.cover),
      beside=jnp.where(wider, edge, best.beside),
      beside_index=jnp.where(wider, number, best.beside_index),
    )
    # Rows that only fill the chunk are written out of bounds, that is nowhere.
    target = jnp.where(real, item, b * t)
    seen = jax.tree.map(
      lambda all_, new: all_.at[target].set(new, mode="drop"), seen, best
    )
    return i + 1, seen

  zero = jnp.zeros((b * t, s))
  none = jnp.full((b * t, s), -1, jnp.int32)
  seen = Seen(zero + geometry.FAR, none, zero + 1.0, zero, none)
  _, seen = jax.lax.while_loop(
    lambda state: state[0] < ends[-1], work, (jnp.int32(0), seen)
  )
  return jax.tree.map(lambda x: x.reshape(b, t, s), seen)


def for_flagged(
  flags: jax.Array, work: Callable[[jax.Array], Any], start: Any
) -> Any:
  """Computes flagged rows only, in chunks.

  Args:
    flags: [N] bool.
    work: maps numbers of rows [C] int32 to their values, a pytree [C, ...].
    start: a pytree [N, ...], values of the other rows.

  Returns:
    A pytree [N, ...].
  """
  num = flags.shape[0]
  order = jnp.argsort(~flags)
  total = flags.sum(dtype=jnp.int32)

  def body(state):
    i, values = state
    place = i * _CHUNK + jnp.arange(_CHUNK)
    item = order[jnp.minimum(place, num - 1)]
    target = jnp.where(place < total, item, num)
    values = jax.tree.map(
      lambda all_, new: all_.at[target].set(new, mode="drop"),
      values,
      work(item),
    )
    return i + 1, values

  return jax.lax.while_loop(
    lambda state: state[0] * _CHUNK < total, body, (jnp.int32(0), start)
  )[1]
