"""Outlines of CLEVR's objects, as seen from a camera or a lamp.

The outline of a body, seen from a point (the apex), is approximated by K planes
through the apex that touch the body. Three steps lead to them:

1. `_angles`: in the image plane, choose the directions of the K normals. A
   straight edge of the body must lie in a plane of its own.
2. `touching_planes`: lift the directions to normals `u`, orthogonal to the line
   of sight. The planes they define pass through the center of the body.
3. `_tilt`: tilt each normal against the line of sight until the plane touches
   the body.
"""

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import geometry

_NO_EDGE = 3


def touching_planes(
  body: geometry.Body,
  apex: geometry.Vector,
  forward: geometry.Vector,
  reach: jax.Array,
  num_planes: int,
) -> tuple[geometry.Vector, jax.Array]:
  """Planes through a point that touch a body: its outline as seen from there.

  A point p lies within the cone of the outline where `normal . p < offset` for
  every plane. The straight edges of cubes and cylinders have planes of their
  own, so that only the rounded parts are approximated by a polygon.

  Args:
    body: bodies [...].
    apex: the points [...]; read only where `reach` is finite.
    forward: unit directions [...] from the points to the bodies' centers.
    reach: distances [...] of the centers; infinity for parallel light.
    num_planes: K, a multiple of 6.

  Returns:
    Unit normals [..., K], outwards, and offsets [..., K].
  """
  zero, one = jnp.zeros_like(reach), jnp.ones_like(reach)
  edges = [
    geometry.Vector(body.cos, body.sin, zero),
    geometry.Vector(-body.sin, body.cos, zero),
    geometry.Vector(zero, zero, one),
  ]
  # A frame of the image plane: across the line of sight, level and upwards.
  across = forward.cross(edges[2]).unit()
  upward = across.cross(forward)
  # An edge of the body along an axis shows as a straight edge of the outline;
  # the plane through it has its normal at this angle in [0, pi).
  angles = []
  for edge in edges:
    side = edge.cross(forward)
    angles.append(jnp.arctan2(side.dot(upward), side.dot(across)) % np.pi)
  angles = jnp.stack(angles, axis=-1)  # [..., 3]
  angle, edge = _angles(body.shape, angles, num_planes)
  u = _expand(across) * jnp.cos(angle) + _expand(upward) * jnp.sin(angle)

  wide = _expand(body)
  # A polygon around a circle: shrunk to the same area.
  fit = np.float32(np.sqrt(np.pi / (num_planes * np.tan(np.pi / num_planes))))
  is_cube = (body.shape == geometry.CUBE)[..., None]
  fit = jnp.where(is_cube, 1.0, fit)
  planes = _tilt(u, edge, edges, wide, _expand(forward), reach[..., None], fit)
  # Parallel light has no apex: there the planes pass through the contact.
  from_apex = planes.dot(_expand(apex))
  from_body = planes.dot(_expand(body.center)) + fit * geometry.support(
    wide, planes
  )
  parallel = jnp.isinf(reach)[..., None]
  return planes, jnp.where(parallel, from_body, from_apex)


def _angles(
  shape: jax.Array, angles: jax.Array, num_planes: int
) -> tuple[jax.Array, jax.Array]:
  """Chooses the directions of the normals in the image plane.

  Args:
    shape: [...] int32, shapes of the bodies.
    angles: [..., 3] in [0, pi), normals of the straight edges.
    num_planes: K.

  Returns:
    Angles [..., K], and the edges [..., K] that the planes must contain: 0, 1,
    2, or `_NO_EDGE`.
  """
  # Planes come in pairs, whose normals are opposite before they are tilted.
  half = num_planes // 2
  # Cubes: one plane at each of the three angles, and the others evenly between
  # them, around the rounded corners. Others: evenly all around.
  order = jnp.argsort(angles, axis=-1)
  angles = jnp.take_along_axis(angles, order, axis=-1)
  following = jnp.concatenate([angles[..., 1:], angles[..., :1] + np.pi], -1)
  part = np.arange(half // 3, dtype=np.float32) / (half // 3)
  row = part.reshape((1,) * angles.ndim + part.shape)
  cube = angles[..., None] + (following - angles)[..., None] * row
  cube = cube.reshape(*cube.shape[:-2], half)  # [..., K / 2]
  even = np.pi * np.arange(half, dtype=np.float32) / half
  is_cube = (shape == geometry.CUBE)[..., None]
  angle = jnp.where(is_cube, cube, even)
  first = jnp.asarray(part == 0)
  cube_edge = jnp.where(first, order[..., None], _NO_EDGE).reshape(cube.shape)
  # Of a cylinder only edge 2, its axis, is straight.
  round_edge = jnp.where(jnp.arange(half) == 0, 2, _NO_EDGE)
  is_cylinder = (shape == geometry.CYLINDER)[..., None]
  edge = jnp.where(
    is_cube, cube_edge, jnp.where(is_cylinder, round_edge, _NO_EDGE)
  )
  angle = jnp.concatenate([angle, angle + np.pi], axis=-1)  # [..., K]
  edge = jnp.concatenate([edge, edge], axis=-1)
  return angle, edge


def _tilt(
  u: geometry.Vector,
  edge: jax.Array,
  edges: list[geometry.Vector],
  body: geometry.Body,
  forward: geometry.Vector,
  reach: jax.Array,
  fit: jax.Array,
) -> geometry.Vector:
  """Tilts normals so that their planes through the apex touch the body.

  Args:
    u: normals [..., K] in the image plane.
    edge: [..., K], the edge that each plane must contain, or `_NO_EDGE`.
    edges: unit directions [...] of the three edges.
    body: bodies [..., 1].
    forward: unit directions [..., 1] to the centers.
    reach: distances [..., 1] of the centers.
    fit: factors [..., 1] of the body's support.

  Returns:
    Unit normals [..., K], outwards.
  """
  # The plane with normal `u` through the apex contains the center of the body.
  # Tilted against the line of sight it passes in front of the body, by the
  # body's support. Tilting along `lean` turns it about its edge, so that it
  # still contains the edge; `grip` is how much of the tilt counts. An edge that
  # nearly points at the apex (0.95) gives no direction to lean to.
  lean, grip = forward, jnp.ones_like(u.x)
  for i, e in enumerate(edges):
    e = _expand(e)
    along = forward.dot(e)
    mine = (edge == i) & (jnp.abs(along) < 0.95)
    lean = geometry.select(mine, forward - e * along, lean)
    grip = jnp.where(mine, 1.0 - along * along, grip)
  # The point of contact depends on the tilt, and the tilt on it: four fixed
  # point iterations leave no visible error.
  tilted = u
  for _ in range(4):
    slope = fit * geometry.support(body, tilted) / (reach * grip)
    tilted = u - lean * slope
  inverse = jax.lax.rsqrt(tilted.dot(tilted))
  return tilted * inverse


def _expand(v):
  """Adds a last axis, of the planes, to all arrays."""
  return jax.tree.map(lambda x: x[..., None], v)
