"""Vectors, rays and the shapes of CLEVR's objects.

Vectors are stored as three arrays of one shape, so that every operation runs
over contiguous pixels.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import loops

CUBE, SPHERE, CYLINDER = 0, 1, 2
"""Ids of the shapes, in the order of `types.CLEVR_LAYOUT`."""

# Size of each shape's core, for a half extent of 1: at the core's surface the
# flat faces end and a circular rounding begins. Cube: half the side; sphere: no
# core; cylinder: radius, and half the height. The original meshes' bevels begin
# further in (0.768; 0.921 and 0.9) but are fuller than circles; these values
# give the same outlines.
_CORE_RADIUS = np.array([0.82, 0.0, 0.945], np.float32)
_CORE_HEIGHT = np.array([0.82, 0.0, 0.945], np.float32)
# Newton steps to the rounding, from an initial guess on the sharp body.
_NEWTON_STEPS = 4
MIRRORED_STEPS = 2
"""The same for rays that metal mirrors, whose hits need not be as exact."""
FAR = 1e4
"""Distance of a ray that hits nothing."""


@flax.struct.dataclass
class Vector:
  """Vectors, one array per component; all of one shape."""

  x: Any
  y: Any
  z: Any

  @classmethod
  def of(cls, array: jax.Array) -> Vector:
    """From an array [..., 3]."""
    return cls(array[..., 0], array[..., 1], array[..., 2])

  def stack(self) -> jax.Array:
    """To an array [..., 3]."""
    return jnp.stack([self.x, self.y, self.z], axis=-1)

  def __add__(self, other: Vector) -> Vector:
    return Vector(self.x + other.x, self.y + other.y, self.z + other.z)

  def __sub__(self, other: Vector) -> Vector:
    return Vector(self.x - other.x, self.y - other.y, self.z - other.z)

  def __mul__(self, factor) -> Vector:
    return Vector(self.x * factor, self.y * factor, self.z * factor)

  def __neg__(self) -> Vector:
    return Vector(-self.x, -self.y, -self.z)

  def dot(self, other: Vector) -> jax.Array:
    """Inner product."""
    return self.x * other.x + self.y * other.y + self.z * other.z

  def cross(self, other: Vector) -> Vector:
    """Cross product."""
    return Vector(
      self.y * other.z - self.z * other.y,
      self.z * other.x - self.x * other.z,
      self.x * other.y - self.y * other.x,
    )

  def unit(self) -> Vector:
    """Scaled to length 1; a vector of length 0 stays 0."""
    return self * jax.lax.rsqrt(jnp.maximum(self.dot(self), 1e-20))


def select(condition: jax.Array, a: Vector, b: Vector) -> Vector:
  """`a` where the condition holds, else `b`."""
  return Vector(
    jnp.where(condition, a.x, b.x),
    jnp.where(condition, a.y, b.y),
    jnp.where(condition, a.z, b.z),
  )


def larger(a: Any, b: Any) -> jax.Array:
  """The larger of two numbers; `b` alone if `a` is None.

  `jnp.maximum`, which looks for NaN, takes a processor three instructions.
  """
  return b if a is None else jnp.where(a > b, a, b)


@flax.struct.dataclass
class Body:
  """Geometry of objects: what is needed to intersect them with rays.

  Attributes:
    center: locations.
    radius: half extents.
    cos: cosine of the rotation about the vertical axis.
    sin: sine of it.
    shape: int32 ids.
    present: False for padding, which no ray hits.
  """

  center: Vector
  radius: jax.Array
  cos: jax.Array
  sin: jax.Array
  shape: jax.Array
  present: jax.Array

  def __getitem__(self, index) -> Body:
    return jax.tree.map(lambda x: x[index], self)

  def turn_in(self, v: Vector) -> Vector:
    """Rotates a direction from world axes to the body's axes."""
    return Vector(
      self.cos * v.x + self.sin * v.y, self.cos * v.y - self.sin * v.x, v.z
    )

  def turn_out(self, v: Vector) -> Vector:
    """Rotates a direction from the body's axes to world axes."""
    return Vector(
      self.cos * v.x - self.sin * v.y, self.cos * v.y + self.sin * v.x, v.z
    )


def _excess(p: Vector, shape: jax.Array) -> tuple[jax.Array, Vector]:
  """How far points lie outside the rounded body, and its gradient.

  This is the distance from the core in units of the rounding, minus 1: a convex
  function, 0 on the surface and negative inside.
  """
  # One formula with parameters for each shape, instead of a branch for each:
  # shapes differ from ray to ray, so all branches would run anyway.
  core_r = jnp.asarray(_CORE_RADIUS)[shape]
  core_z = jnp.asarray(_CORE_HEIGHT)[shape]
  inv_r, inv_z = 1.0 / (1.0 - core_r), 1.0 / (1.0 - core_z)
  round_ = shape == CYLINDER
  rho = jnp.sqrt(p.x * p.x + p.y * p.y)
  # From the core to the point along each axis; along x and y for cubes, along
  # the radius for round shapes.
  across = jnp.where(round_, 1e4, core_r)
  qx, qy = _beyond(p.x, across) * inv_r, _beyond(p.y, across) * inv_r
  qz = _beyond(p.z, core_z) * inv_z
  qr = jnp.where(round_, larger(rho - core_r, 0.0), 0.0) * inv_r
  norm = jnp.sqrt(qr * qr + qx * qx + qy * qy + qz * qz)
  inverse = 1.0 / larger(norm, 1e-12)
  radial = qr * inv_r * inverse / larger(rho, 1e-12)
  gradient = Vector(
    radial * p.x + qx * inv_r * inverse,
    radial * p.y + qy * inv_r * inverse,
    qz * inv_z * inverse,
  )
  return norm - 1.0, gradient


def _beyond(x: jax.Array, limit: jax.Array) -> jax.Array:
  """What is left of x outside [-limit, limit]: 0 within."""
  return x - jnp.where(x > limit, limit, larger(x, -limit))


def intersect(
  body: Body, origin: Vector, direction: Vector, num_steps: int = _NEWTON_STEPS
) -> jax.Array:
  """Distance along rays to the first intersection with bodies.

  All arguments broadcast. The initial guess is on the sharp body around the
  shape (box, cylinder, sphere). From there Newton's method approaches the
  surface from outside: the excess is convex along a ray, so no step overshoots
  the first root.

  Args:
    body: bodies.
    origin: origins of the rays; must not lie within a body.
    direction: unit directions.
    num_steps: Newton steps.

  Returns:
    Distances; `FAR` where the ray misses the body or it lies behind the origin.
  """
  scale = 1.0 / body.radius
  o = body.turn_in(origin - body.center) * scale
  d = body.turn_in(direction)  # t below is in units of the radius.
  cube, sphere = body.shape == CUBE, body.shape == SPHERE
  # The sharp body is the intersection of a quadric and three slabs. The quadric
  # is x^2 + y^2 (+ z^2) <= 1. For a cube it is a cylinder of radius 2, which
  # cuts nothing off; for round shapes the slabs along x and y have twice the
  # size and cut nothing off.
  k = jnp.where(sphere, 1.0, 0.0)
  limit = jnp.where(cube, 4.0, 1.0)
  a = d.x * d.x + d.y * d.y + k * d.z * d.z
  b = o.x * d.x + o.y * d.y + k * o.z * d.z
  c = o.x * o.x + o.y * o.y + k * o.z * o.z - limit
  inverse_a = 1.0 / jnp.maximum(a, 1e-12)
  discriminant = b * b - a * c
  root = jnp.sqrt(jnp.maximum(discriminant, 0.0))
  near = (-b - root) * inverse_a
  far = (root - b) * inverse_a

  def slab(o, d, half):
    inverse = 1.0 / jnp.where(jnp.abs(d) < 1e-9, 1e-9, d)
    middle, reach = -o * inverse, half * jnp.abs(inverse)
    return middle - reach, middle + reach

  wide = jnp.where(cube, 1.0, 2.0)
  for o_i, d_i, half in ((o.x, d.x, wide), (o.y, d.y, wide), (o.z, d.z, 1.0)):
    low, high = slab(o_i, d_i, half)
    near, far = jnp.maximum(near, low), jnp.minimum(far, high)
  hit = (discriminant > 0.0) & (near < far) & (near > 0.0) & body.present
  far = jnp.where(hit, far, -1.0)

  def step(i, state):
    t, _ = state
    value, gradient = _excess(o + d * t, body.shape)
    slope = gradient.dot(d)
    # Where the excess does not decrease along the ray, it only leaves: no step.
    falls = (slope < -1e-6) & (value > 0.0)
    next_ = t + jnp.where(falls, -value / jnp.where(falls, slope, -1.0), 0.0)
    next_ = jnp.where(next_ < far, next_, far)
    return jnp.where(i < num_steps, next_, t), value

  # A loop, so that XLA computes the result once and not again for every use.
  # Its last turn only takes the excess.
  t, value = jax.lax.fori_loop(
    0, num_steps + 1, step, (near, jnp.zeros_like(near))
  )
  # Spheres have no rounding. The ray misses other shapes where Newton's method
  # left the sharp body: it passed through a corner that is rounded off.
  hit = (far > 0.0) & (sphere | ((value < 1e-2) & (t < far)))
  return jnp.where(hit, t * body.radius, FAR)


def intersect_nearest(
  bodies: Body,
  origin: Vector,
  direction: Vector,
  owner: jax.Array,
  num_steps: int = _NEWTON_STEPS,
) -> tuple[jax.Array, jax.Array]:
  """Distance along rays to the nearest of several bodies, and its index.

  Args:
    bodies: bodies [O, ...], where the other axes broadcast with the rays.
    origin: origins of the rays.
    direction: unit directions.
    owner: int32, index of the body that a ray starts from and cannot hit; -1
      for none.
    num_steps: of `intersect`.

  Returns:
    A pair: distances, `FAR` where a ray hits nothing, and indices int32, -1
    where it hits nothing; both of the shape of `owner`.
  """

  def one(best, inputs):
    index, body = inputs
    hit = intersect(body, origin, direction, num_steps)
    closer = (hit < best[0]) & (owner != index)
    return (
      jnp.where(closer, hit, best[0]),
      jnp.where(closer, index, best[1]),
    )

  start = jnp.full(owner.shape, FAR), jnp.full_like(owner, -1)
  return loops.fold(one, start, bodies, loops.count_present(bodies.present))


def normal(body: Body, point: Vector) -> Vector:
  """Unit outward normals at points on the surfaces of bodies."""
  p = body.turn_in(point - body.center) * (1.0 / body.radius)
  _, gradient = _excess(p, body.shape)
  return body.turn_out(gradient).unit()


def curvature(body: Body, point: Vector) -> jax.Array:
  """Largest curvature of the surface at points on it, in 1 / length.

  On a rounding it is the rounding's, elsewhere 0: faces are flat, and the side
  of a cylinder, which bends less than any rounding, counts as flat.
  """
  p = body.turn_in(point - body.center) * (1.0 / body.radius)
  core_r = jnp.asarray(_CORE_RADIUS)[body.shape]
  core_z = jnp.asarray(_CORE_HEIGHT)[body.shape]
  high = jnp.abs(p.z) > core_z
  x, y = jnp.abs(p.x) > core_r, jnp.abs(p.y) > core_r
  wide = p.x * p.x + p.y * p.y > core_r * core_r
  cube = (x & y) | (high & (x | y))
  rounded = jnp.where(body.shape == CUBE, cube, high & wide)
  rounded |= body.shape == SPHERE
  return jnp.where(rounded, 1.0 / ((1.0 - core_r) * body.radius), 0.0)


def support(body: Body, v: Vector) -> jax.Array:
  """Support function: the largest `(p - center) . v` over a body's points p."""
  v = body.turn_in(v)
  core_r = jnp.asarray(_CORE_RADIUS)[body.shape]
  core_z = jnp.asarray(_CORE_HEIGHT)[body.shape]
  across = jnp.sqrt(v.x * v.x + v.y * v.y + 1e-20)
  cube = body.shape == CUBE
  side = jnp.where(cube, jnp.abs(v.x) + jnp.abs(v.y), across)
  # The body is the Minkowski sum of the core and an ellipsoid, the rounding.
  # Their supports add up.
  rounding = jnp.sqrt(
    jnp.square((1.0 - core_r) * across) + jnp.square((1.0 - core_z) * v.z)
  )
  return body.radius * (core_r * side + core_z * jnp.abs(v.z) + rounding)
