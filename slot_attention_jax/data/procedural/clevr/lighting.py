"""Lamps and the shadows that objects cast.

A shadow is bounded by planes through the lamp that touch the object. So the
signed distance of a point from the shadow is a maximum of inner products, and
the penumbra of an area lamp is a ramp over that distance.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import (
  geometry,
  loops,
  outlines,
  scene,
)

# Planes around an outline.
_PLANES = 12
SUN = (0.41449564695358276, -0.1945834904909134, 0.8890054225921631)
HALF_SIZE = np.array([0.55, 0.63, 1.33, 0.14], np.float32)
"""Half extents of the key, fill and back lamp, and half the sun's angle. Fitted
to the penumbras in Blender's renderings; about twice the values of its lamps.
"""


@flax.struct.dataclass
class Lamps:
  """The lamps of a scene: key, fill, back and, last, the sun.

  Attributes:
    location: [3], of the lamps without the sun; all point at the origin.
    axis: [3], their unit directions.
    planes: [O, 4, 12] unit normals of the planes that touch an object.
    offset: [O, 4, 12], `normal . p - offset` is the distance outwards.
    forward: [O, 4] unit directions from a lamp to an object.
    depth: [O, 4], `forward . p` at the object's center.
    reach: [O, 4], distance from a lamp to an object's center; infinite for the
      sun.
  """

  location: geometry.Vector
  axis: geometry.Vector
  planes: geometry.Vector
  offset: jax.Array
  forward: geometry.Vector
  depth: jax.Array
  reach: jax.Array


def get_lamps(s: scene.Scene, bodies: geometry.Body) -> Lamps:
  """Prepares the lamps of one scene."""
  location = geometry.Vector.of(
    jnp.stack([s.key_light, s.fill_light, s.back_light])
  )  # [3]
  num_objects = bodies.radius.shape[0]

  def table(lamp, sun):  # [3], [] -> [O, 4]
    row = jnp.concatenate([lamp, jnp.reshape(sun, (1,))])
    return jnp.broadcast_to(row, (num_objects, 4))

  sun = geometry.Vector.of(jnp.asarray(SUN, jnp.float32))
  apex = jax.tree.map(table, location, jax.tree.map(jnp.zeros_like, sun))
  each = jax.tree.map(
    lambda x: jnp.broadcast_to(x[:, None], (num_objects, 4)), bodies
  )
  towards = each.center - apex
  is_sun = jnp.arange(4) == 3
  reach = jnp.where(is_sun, jnp.inf, jnp.sqrt(towards.dot(towards)))
  parallel = jax.tree.map(lambda x: -jnp.broadcast_to(x, reach.shape), sun)
  forward = geometry.select(
    jnp.broadcast_to(is_sun, reach.shape), parallel, towards.unit()
  )
  planes, offset = outlines.touching_planes(each, apex, forward, reach, _PLANES)
  gone = ~bodies.present[:, None, None]
  depth = forward.dot(each.center)
  return Lamps(
    location=location,
    axis=-location.unit(),
    planes=planes,
    offset=jnp.where(gone, -1e3, offset),
    forward=forward,
    depth=depth,
    reach=reach,
  )


def visibility(
  lamps: Lamps,
  point: geometry.Vector,
  owner: jax.Array,
  half_size: jax.Array | np.ndarray = HALF_SIZE,
  count: jax.Array | None = None,
  image: jax.Array | None = None,
) -> list[jax.Array]:
  """Visible fraction of each lamp, as seen from points.

  Args:
    lamps: the lamps.
    point: points [P].
    owner: [P] int32, index of the object on whose surface a point lies, which
      casts no shadow on itself; -1 for the backdrop.
    half_size: [4], half the lamps' sides, and half the angle of the sun.
    count: [] int32, number of objects, if some at the end are padding.
    image: [C] int32, the scene of each row of points [C, S], if the shadows are
      those of B scenes, [O, B, ...]. They are gathered one object at a time.

  Returns:
    For each of the 4 lamps [P] in [0, 1].
  """

  def one(seen, inputs):
    index, tables = inputs
    if image is not None:
      tables = jax.tree.map(
        lambda x: jnp.moveaxis(x[image], 0, -1)[..., None], tables
      )
    planes, offset, forward, depth, reach = tables
    other = owner != index
    out = []
    for j in range(4):
      distance: Any = None
      for k in range(_PLANES):
        d = (
          point.x * planes.x[j, k]
          + point.y * planes.y[j, k]
          + (point.z * planes.z[j, k] - offset[j, k])
        )
        distance = geometry.larger(distance, d)
      beyond = (
        point.x * forward.x[j]
        + point.y * forward.y[j]
        + (point.z * forward.z[j] - depth[j])
      )
      spread = half_size[j] * (1.0 if j == 3 else 1.0 / reach[j])
      open_ = _open(distance, beyond, spread)
      out.append(seen[j] * jnp.where(other & (beyond > 0.0), open_, 1.0))
    return out

  ones = [jnp.ones_like(point.x)] * 4
  return loops.fold(
    one,
    ones,
    (lamps.planes, lamps.offset, lamps.forward, lamps.depth, lamps.reach),
    lamps.depth.shape[0] if count is None else count,
  )


def pairs_near(
  lamps: Lamps, center: geometry.Vector, radius: jax.Array
) -> jax.Array:
  """Which shadows may reach into balls, a pair of object and lamp each.

  Args:
    lamps: the lamps of one scene.
    center: centers of the balls [N].
    radius: their radii [N].

  Returns:
    [N, O * 4] bool; pair `4 o + j` is object o's shadow in the light of lamp j.
    Where it is False, `visibility` is 1 all over the ball.
  """
  # Balls [1, N] and lamps [4, 1].
  ball = jax.tree.map(lambda x: x[None], center)
  # Both below are signed distances from planes: they change by no more than a
  # point is moved. The slack is for rounding.
  slack = radius[None] + 1e-3

  # A loop over the objects, so that XLA computes the balls once and not again
  # for every plane.
  def one(_, inputs):
    planes, offset, forward, depth, spread = inputs
    distance: Any = None
    for k in range(_PLANES):
      normal, least = jax.tree.map(
        lambda x, k=k: x[:, k, None], (planes, offset)
      )
      d = ball.dot(normal) - least
      distance = geometry.larger(distance, d)
    beyond = ball.dot(jax.tree.map(lambda x: x[:, None], forward))
    beyond += slack - depth[:, None]
    width = spread[:, None] * jnp.maximum(beyond, 0.05)
    return None, (distance - slack < width) & (beyond > 0.0)

  is_sun = np.arange(4)[None] == 3
  spread = HALF_SIZE[None] * jnp.where(is_sun, 1.0, 1.0 / lamps.reach)
  _, near = jax.lax.scan(
    one, None, (lamps.planes, lamps.offset, lamps.forward, lamps.depth, spread)
  )  # [O, 4, N]
  return near.reshape(-1, near.shape[-1]).T


def visibility_of_pairs(
  lamps: Lamps, image: jax.Array, pairs: jax.Array, point: geometry.Vector
) -> list[jax.Array]:
  """`visibility` of points on the backdrop, where few shadows fall.

  Args:
    lamps: the lamps of B scenes, [B, ...].
    image: [C] int32, the scene of each row of points.
    pairs: [C, O * 4] bool, shadows that may fall on the row: `pairs_near`.
    point: points [C, S].

  Returns:
    For each of the 4 lamps [C, S] in [0, 1].
  """
  num = pairs.shape[1]
  # One row of numbers for each shadow, so that they are gathered together.
  flat = [
    x.reshape(num * lamps.depth.shape[0], -1)
    for x in jax.tree.leaves(
      (lamps.planes, lamps.offset, lamps.forward, lamps.depth, lamps.reach)
    )
  ]
  table = jnp.concatenate(flat, axis=1)
  ends = np.cumsum([x.shape[1] for x in flat])[:-1].tolist()
  numbers = np.arange(num, dtype=np.int32)[None]
  count = pairs.sum(axis=1, dtype=jnp.int32)

  def one(state):
    """The m-th shadow of every row."""
    m, last, seen = state
    pair = jnp.argmax(pairs & (numbers > last[:, None]), axis=1)
    pair = pair.astype(jnp.int32)
    columns = jnp.split(table[image * num + pair], ends, axis=1)
    planes = geometry.Vector(*columns[:3])
    forward = geometry.Vector(*columns[4:7])
    offset, depth, reach = columns[3], columns[7], columns[8]
    distance: Any = None
    for k in range(_PLANES):
      d = (
        point.x * planes.x[:, k, None]
        + point.y * planes.y[:, k, None]
        + (point.z * planes.z[:, k, None] - offset[:, k, None])
      )
      distance = geometry.larger(distance, d)
    beyond = (
      point.x * forward.x + point.y * forward.y + (point.z * forward.z - depth)
    )
    j = pair % 4
    spread = jnp.where(j == 3, 1.0, 1.0 / reach[:, 0])
    spread *= jnp.asarray(HALF_SIZE)[j]
    share = _open(distance, beyond, spread[:, None])
    share = jnp.where((beyond > 0.0) & (m < count)[:, None], share, 1.0)
    seen = [
      jnp.where((j == k)[:, None], old * share, old)
      for k, old in enumerate(seen)
    ]
    return m + 1, pair, seen

  ones = [jnp.ones_like(point.x)] * 4
  start = jnp.int32(0), jnp.full_like(count, -1), ones
  return jax.lax.while_loop(lambda state: state[0] < count.max(), one, start)[2]


def _open(distance, beyond, spread):
  """Visible fraction of a lamp beside the edge of a shadow."""
  width = spread * jnp.maximum(beyond, 0.05)
  x = jnp.clip(distance / width, -1.0, 1.0)
  # Area of a disc on one side of a straight edge, as a cubic.
  return 0.5 + x * (0.75 - 0.25 * x * x)


def neighbors(
  bodies: geometry.Body,
  albedo: geometry.Vector,
  point: geometry.Vector,
  normal: geometry.Vector,
  owner: jax.Array,
) -> tuple[jax.Array, geometry.Vector]:
  """Form factors of the objects around points, approximated by spheres.

  Args:
    bodies: objects [O].
    albedo: their colors [O].
    point: points [P].
    normal: unit normals [P].
    owner: [P] int32, index of the object on whose surface a point lies; -1 for
      none.

  Returns:
    A pair: the sum [P] of the form factors of all other objects, and the sum
    weighted by their colors.
  """

  def one(total, inputs):
    index, (body, color) = inputs
    towards = jax.tree.map(lambda c, p: c - p, body.center, point)
    inverse = 1.0 / jnp.maximum(towards.dot(towards), body.radius**2)
    facing = jnp.maximum(normal.dot(towards), 0.0) * jnp.sqrt(inverse)
    factor = jnp.where(
      body.present & (owner != index), body.radius**2 * inverse * facing, 0.0
    )
    weighted = jax.tree.map(lambda c: c * factor, color)
    return jax.tree.map(lambda a, b: a + b, total, (factor, weighted))

  zero = jnp.zeros_like(point.x)
  start = zero, geometry.Vector(zero, zero, zero)
  return loops.fold(
    one, start, (bodies, albedo), loops.count_present(bodies.present)
  )
