"""CLEVR's backdrop: a floor that bends up into a wall."""

import jax
import jax.numpy as jnp

from slot_attention_jax.data.procedural.clevr import geometry

# The profile is floor, quarter circle and wall, extruded along the backdrop's
# own y axis.
_ORIGIN = (-24.062761, -17.996670)
_X = (-0.9032077, 0.4292038)
# Radius of the quarter circle, fitted to the calibration scenes.
_BEND = 8.0
_LENGTH = 27.636913
_WIDTH = 56.484859
_HEIGHT = 23.214930


def intersect(
  origin: geometry.Vector, direction: geometry.Vector
) -> tuple[jax.Array, geometry.Vector]:
  """Intersects rays with the backdrop.

  Args:
    origin: origins of the rays, above the floor and in front of the wall.
    direction: unit directions.

  Returns:
    A pair: distances (`geometry.FAR` where a ray misses) and unit normals
    facing the origin.
  """
  ax, ay = _X
  bend = _BEND
  # u: distance in front of the wall; v: position along it.
  ox, oy = origin.x - _ORIGIN[0], origin.y - _ORIGIN[1]
  u, du = -(ax * ox + ay * oy), -(ax * direction.x + ay * direction.y)
  v, dv = ay * ox - ax * oy, ay * direction.x - ax * direction.y

  def inverse(x):  # 1 / x without a division by zero.
    return 1.0 / jnp.where(jnp.abs(x) < 1e-9, 1e-9, x)

  floor = -origin.z * inverse(direction.z)
  floor = jnp.where(
    (floor > 0.0) & (u + floor * du >= bend), floor, geometry.FAR
  )
  wall = -u * inverse(du)
  high = origin.z + wall * direction.z >= bend
  wall = jnp.where((wall > 0.0) & high, wall, geometry.FAR)
  # Rays start inside the circle around (bend, bend), so the far root counts.
  cu, cz = u - bend, origin.z - bend
  a = du * du + direction.z * direction.z
  b = cu * du + cz * direction.z
  c = cu * cu + cz * cz - bend * bend
  root = jnp.sqrt(jnp.maximum(b * b - a * c, 0.0))
  arc = (root - b) / jnp.maximum(a, 1e-12)
  pu, pz = cu + arc * du, cz + arc * direction.z
  on_arc = (b * b > a * c) & (arc > 0.0) & (pu <= 0.0) & (pz <= 0.0)
  arc = jnp.where(on_arc, arc, geometry.FAR)
  t = jnp.minimum(jnp.minimum(floor, wall), arc)
  hit_u, hit_z = u + t * du, origin.z + t * direction.z
  hit_v = v + t * dv
  inside = (
    (hit_u <= _LENGTH) & (hit_z <= _HEIGHT) & (hit_v >= 0.0) & (hit_v <= _WIDTH)
  )
  nu = jnp.clip((bend - hit_u) / bend, 0.0, 1.0)
  nz = jnp.clip((bend - hit_z) / bend, 0.0, 1.0)
  # nu is 0 on the floor, nz is 0 on the wall; on the arc (nu, nz) has length 1.
  normal = geometry.Vector(-ax * nu, -ay * nu, nz)
  return jnp.where(inside, t, geometry.FAR), normal.unit()
