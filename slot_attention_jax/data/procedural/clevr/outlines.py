"""Outlines of CLEVR's objects, as seen from a camera or a lamp."""

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import geometry


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
  own, so that only roundings are cut into corners.

  Args:
    body: bodies [...].
    apex: the points [...]; read only where `reach` is finite.
    forward: unit directions [...] from the points to the bodies' centers.
    reach: distances [...] of the centers; infinity for parallel light.
    num_planes: K, a multiple of 6.

  Returns:
    Unit normals [..., K], outwards, and offsets [..., K].
  """
  # Planes come in pairs, whose normals are opposite before they are tilted.
  half = num_planes // 2
  zero, one = jnp.zeros_like(reach), jnp.ones_like(reach)
  edges = [
    geometry.Vector(body.cos, body.sin, zero),
    geometry.Vector(-body.sin, body.cos, zero),
    geometry.Vector(zero, zero, one),
  ]
  # A frame of the picture plane: across the line of sight, level and upwards.
  across = forward.cross(edges[2]).unit()
  upward = across.cross(forward)
  # An edge of the body along an axis shows as a straight edge of the outline;
  # the plane through it has its normal at this angle in [0, pi).
  angles = []
  for edge in edges:
    side = edge.cross(forward)
    angles.append(jnp.arctan2(side.dot(upward), side.dot(across)) % np.pi)
  angles = jnp.stack(angles, axis=-1)  # [..., 3]
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
  is_cube = (body.shape == geometry.CUBE)[..., None]
  angle = jnp.where(is_cube, cube, even)
  # The edge that a plane must hold: 0, 1, 2, or 3 for none.
  first = jnp.asarray(part == 0)
  cube_edge = jnp.where(first, order[..., None], 3).reshape(cube.shape)
  round_edge = jnp.where(jnp.arange(half) == 0, 2, 3)
  is_cylinder = (body.shape == geometry.CYLINDER)[..., None]
  edge = jnp.where(is_cube, cube_edge, jnp.where(is_cylinder, round_edge, 3))
  angle = jnp.concatenate([angle, angle + np.pi], axis=-1)  # [..., K]
  edge = jnp.concatenate([edge, edge], axis=-1)

  def expand(v):
    return jax.tree.map(lambda x: x[..., None], v)

  u = expand(across) * jnp.cos(angle) + expand(upward) * jnp.sin(angle)
  # `u` are normals in the picture plane. A plane through the apex that touches
  # the body is `u` tilted against the line of sight, so that it passes in front
  # of the body by its support: tilting along `lean` turns it about its edge, so
  # that it keeps holding the edge; `grip` is how much of the tilt counts. An
  # edge that points at the apex (0.95) gives no direction to lean to.
  ahead = expand(forward)
  lean, grip = ahead, jnp.ones_like(angle)
  for i, e in enumerate(edges):
    e = expand(e)
    along = ahead.dot(e)
    mine = (edge == i) & (jnp.abs(along) < 0.95)
    lean = geometry.select(mine, ahead - e * along, lean)
    grip = jnp.where(mine, 1.0 - along * along, grip)
  wide = expand(body)
  # A polygon around a circle: shrunk to the same area.
  fit = np.float32(np.sqrt(np.pi / (num_planes * np.tan(np.pi / num_planes))))
  fit = jnp.where(is_cube, 1.0, fit)
  # The point of contact depends on the tilt, and the tilt on it: four rounds of
  # substitution leave no visible error.
  tilted = u
  for _ in range(4):
    slope = fit * geometry.support(wide, tilted) / (reach[..., None] * grip)
    tilted = u - lean * slope
  inverse = jax.lax.rsqrt(tilted.dot(tilted))
  planes = tilted * inverse
  # Parallel light has no apex: there the planes pass through the contact.
  from_apex = planes.dot(expand(apex))
  from_body = planes.dot(expand(body.center)) + fit * geometry.support(
    wide, planes
  )
  parallel = jnp.isinf(reach)[..., None]
  return planes, jnp.where(parallel, from_body, from_apex)
