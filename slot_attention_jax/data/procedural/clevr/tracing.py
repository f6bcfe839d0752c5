"""Primary rays: finds the object at each pixel, and the coverage of its edges.

The outlines of the objects tell which objects are near which tile. Those are
traced and composited, one object of a tile at a time.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import (
  geometry,
  outlines,
  tiles,
  whole_batch,
)

# Planes around an object's outline, for the coverage of its edge pixels.
_PLANES = 24


@flax.struct.dataclass
class Seen:
  """Per pixel [T, S]: what is seen, and how an edge passes through it.

  Attributes:
    distance: along the ray through the pixel's center.
    index: int32, index of the object that the ray hits; -1 for none.
    cover: fraction of the pixel within that object's outline, 0.5 to 1; 1 where
      no object is hit.
    beside: largest fraction of the pixel within the outline of an object that
      the ray misses, 0 to 0.5.
    beside_index: int32, index of that object; -1 for none.
  """

  distance: jax.Array
  index: jax.Array
  cover: jax.Array
  beside: jax.Array
  beside_index: jax.Array


def see(grid: tiles.Grid, bodies: geometry.Body, camera: tiles.Camera) -> Seen:
  """Finds what the camera sees at each pixel; works under `vmap`.

  Args:
    grid: the tiles.
    bodies: the objects [O].
    camera: the camera.

  Returns:
    A `Seen` [T, S].
  """
  see_batch = functools.partial(_see, grid)
  return whole_batch.of_single(see_batch)(bodies, camera)


def _outline_lines(bodies: geometry.Body, camera: tiles.Camera):
  """Lines [O, K] around the objects, in pixels of the image.

  Returns:
    a, b and c: `a x + b y + c` is the signed distance from a line, positive
    outwards.
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


@flax.struct.dataclass
class _Schedule:
  """The work of `_see`: which object is traced on which tile in which round.

  Round m traces the m-th object of every tile that has one: a tile with two
  objects takes part in two rounds, an empty one in none. With the most crowded
  tiles first, those of round m are the first `num_tiles[m]` of `order`. They
  are contiguous, so each round is cut into chunks.

  Attributes:
    flags: [B * T, O] bool, whether the object's outline touches the tile.
    rank: [B * T, O] int32, rank of an object among those of its tile.
    order: [B * T] int32, the tiles, most crowded first.
    num_tiles: [O] int32, tiles of each round.
    num_chunks: [O] int32, chunks of each round.
    ends: [O] int32, where each round ends, in chunks.
  """

  flags: jax.Array
  rank: jax.Array
  order: jax.Array
  num_tiles: jax.Array
  num_chunks: jax.Array
  ends: jax.Array

  def chunk(self, i: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Chunk i: tiles [C], one object of each [C], False [C] for padding."""
    m = (i >= self.ends).sum(dtype=jnp.int32)  # The round of the chunk.
    place = (i - self.ends[m] + self.num_chunks[m]) * tiles.CHUNK
    place += jnp.arange(tiles.CHUNK)
    real = place < self.num_tiles[m]  # The last chunk of a round is padded.
    item = self.order[jnp.minimum(place, self.order.shape[0] - 1)]
    # The one object of rank m on each tile.
    number = jnp.argmax(self.flags[item] & (self.rank[item] == m), axis=1)
    return item, number.astype(jnp.int32), real


def _create_schedule(
  grid: tiles.Grid, bodies: geometry.Body, lines
) -> _Schedule:
  """Finds which objects are near which tile, from the outlines alone."""
  left, top = grid.corners()
  # An outline touches a tile if it comes this close to its center: half of the
  # diagonal, and one pixel for the coverage of edges that reach into it.
  reach = tiles.SIDE * np.sqrt(0.5) + 1.0
  # The signed distance from a convex outline is the maximum over its lines.
  # A loop over K avoids an array [B, O, K, T].
  touch: Any = None
  for k in range(_PLANES):
    center = (
      lines[0][..., k, None] * (left + tiles.SIDE / 2)[None, None]
      + lines[1][..., k, None] * (top + tiles.SIDE / 2)[None, None]
      + lines[2][..., k, None]
    )
    touch = geometry.larger(touch, center)
  flags = (touch < reach) & bodies.present[..., None]  # [B, O, T]
  num_objects = flags.shape[1]
  flags = jnp.swapaxes(flags, 1, 2).reshape(-1, num_objects)
  rank = jnp.cumsum(flags, axis=1, dtype=jnp.int32) - 1
  count = rank[:, -1] + 1  # Objects of each tile.
  order = tiles.order(-count)
  rounds = jnp.arange(num_objects, dtype=jnp.int32)
  num_tiles = (count[:, None] > rounds[None]).sum(axis=0, dtype=jnp.int32)
  num_chunks = (num_tiles + tiles.CHUNK - 1) // tiles.CHUNK
  return _Schedule(
    flags=flags,
    rank=rank,
    order=order,
    num_tiles=num_tiles,
    num_chunks=num_chunks,
    ends=jnp.cumsum(num_chunks),
  )


def _composite(
  best: Seen, hit: jax.Array, outside: jax.Array, number: jax.Array
) -> Seen:
  """Adds one object to what is seen on each tile.

  Args:
    best: what is seen so far, [C, S].
    hit: [C, S], distance along the ray to the object.
    outside: [C, S], distance of the pixels' centers from its outline, in
      pixels, outwards.
    number: [C] int32, the object.

  Returns:
    What is seen with it, [C, S].
  """
  # Fraction of the pixel within the outline. A straight edge through the
  # pixel's center halves it; half a pixel away it leaves all or nothing.
  cover = jnp.clip(0.5 - outside, 0.0, 1.0)
  closer = hit < best.distance
  # Outline and ray may disagree by a hair: an object that is missed covers at
  # most half of the pixel, one that is hit at least half.
  edge = jnp.where(hit >= geometry.FAR, jnp.minimum(cover, 0.5), 0.0)
  wider = edge > best.beside
  number = jnp.broadcast_to(number[:, None], hit.shape)
  return Seen(
    distance=jnp.where(closer, hit, best.distance),
    index=jnp.where(closer, number, best.index),
    cover=jnp.where(closer, jnp.maximum(cover, 0.5), best.cover),
    beside=jnp.where(wider, edge, best.beside),
    beside_index=jnp.where(wider, number, best.beside_index),
  )


def _see(grid: tiles.Grid, bodies: geometry.Body, camera: tiles.Camera) -> Seen:
  """`see` on a batch [B]: traces and composites objects, chunk by chunk."""
  b, o = bodies.radius.shape
  t, s = grid.num_tiles, tiles.SIDE * tiles.SIDE
  lines = jax.vmap(_outline_lines)(bodies, camera)  # [B, O, K]
  schedule = _create_schedule(grid, bodies, lines)
  left, top = map(jnp.asarray, grid.corners())
  dx, dy = tiles.offsets()
  flat = jax.tree.map(lambda x: x.reshape(b * o, *x.shape[2:]), (bodies, lines))

  def work(state):
    """Chunk i: traces one object on each of C tiles and composites it."""
    i, seen = state
    item, number, real = schedule.chunk(i)
    image, tile = item // t, item % t
    body, line = jax.tree.map(lambda x: x[image * o + number], flat)
    body = jax.tree.map(lambda x: x[:, None], body)  # [C, 1]
    here = jax.tree.map(lambda x: x[image][:, None], camera)
    x, y = left[tile][:, None] + dx, top[tile][:, None] + dy  # [C, S]
    hit = geometry.intersect(body, here.eye, tiles.rays(here, x, y))

    # A loop of two, so that XLA computes the result once and not again for
    # every use.
    def half(i, outside):
      a, b, c = jax.tree.map(
        lambda x: jax.lax.dynamic_index_in_dim(
          x.reshape(-1, 2, _PLANES // 2), i, axis=1, keepdims=False
        ),
        line,
      )
      for k in range(_PLANES // 2):
        distance = a[:, k, None] * x + b[:, k, None] * y + c[:, k, None]
        outside = geometry.larger(outside, distance)
      return outside

    outside = jax.lax.fori_loop(0, 2, half, jnp.full_like(hit, -jnp.inf))
    best = jax.tree.map(lambda x: x[item], seen)
    best = _composite(best, hit, outside, number)
    # Padding is written out of bounds, where `drop` discards it.
    target = jnp.where(real, item, b * t)
    seen = jax.tree.map(
      lambda all_, new: all_.at[target].set(new, mode="drop"), seen, best
    )
    return i + 1, seen

  zero = jnp.zeros((b * t, s))
  none = jnp.full((b * t, s), -1, jnp.int32)
  seen = Seen(zero + geometry.FAR, none, zero + 1.0, zero, none)
  _, seen = jax.lax.while_loop(
    lambda state: state[0] < schedule.ends[-1], work, (jnp.int32(0), seen)
  )
  return jax.tree.map(lambda x: x.reshape(b, t, s), seen)
