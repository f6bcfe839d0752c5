"""Rays and outlines against the bodies' implicit functions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data.procedural.clevr import backdrop, geometry
from slot_attention_jax.data.procedural.clevr import outlines as outlines_lib

NUM_RAYS = 6000
SHAPES = {"cube": 0, "sphere": 1, "cylinder": 2}


def excess(points, shape):
  """Distance of points [..., 3], in units of the radius, from a body."""
  core = float(geometry._CORE_RADIUS[shape])
  height = float(geometry._CORE_HEIGHT[shape])
  p = np.abs(points)
  if shape == geometry.CYLINDER:
    rho = np.hypot(p[..., 0], p[..., 1])
    out = np.stack([rho - core, p[..., 2] - height], -1)
  else:
    out = p - np.array([core, core, height])
  return np.linalg.norm(np.maximum(out, 0.0), axis=-1) - (1.0 - core)


def turned(points, angle):
  """Points [..., 3], turned by -angle about the vertical axis."""
  c, s = np.cos(angle), np.sin(angle)
  x, y, z = np.moveaxis(points, -1, 0)
  return np.stack([c * x + s * y, c * y - s * x, z], -1)


def trace(shape, center, radius, angle, origin, direction):
  """First hits in float64.

  Returns:
    Distances, infinite where a ray misses; and how far the ray comes into the
    body (below 0) or past it (above 0), in units of the radius.
  """

  def at(t):
    p = origin + t[:, None] * direction - center
    return excess(turned(p, angle) / radius[:, None], shape)

  # The function is convex along a ray.
  low, high = np.zeros(len(origin)), np.full(len(origin), 30.0)
  for _ in range(150):
    a, b = low + (high - low) / 3, high - (high - low) / 3
    left = at(a) < at(b)
    # Within the core the function is flat; keep on the side of the origin.
    left |= at(a) <= -(1.0 - float(geometry._CORE_RADIUS[shape]))
    low, high = np.where(left, low, a), np.where(left, b, high)
  deepest = 0.5 * (low + high)
  depth = at(deepest)
  low, high = np.zeros_like(deepest), deepest
  for _ in range(60):
    middle = 0.5 * (low + high)
    inside = at(middle) < 0.0
    low, high = np.where(inside, low, middle), np.where(inside, middle, high)
  return np.where(depth < 0.0, high, np.inf), depth


def unit(v):
  return v / np.linalg.norm(v, axis=-1, keepdims=True)


def body_of(shape, center, radius, angle):
  return geometry.Body(
    center=vector(center),
    radius=jnp.float32(radius),
    cos=jnp.float32(np.cos(angle)),
    sin=jnp.float32(np.sin(angle)),
    shape=jnp.full(np.shape(radius), shape, jnp.int32),
    present=jnp.ones(np.shape(radius), bool),
  )


def vector(array):
  return geometry.Vector.of(jnp.asarray(array, jnp.float32))


def stack(v):
  return np.asarray(v.stack(), np.float64)


@jax.jit
def hit_of(body, origin, direction):
  distance = geometry.intersect(body, origin, direction)
  return distance, geometry.normal(body, origin + direction * distance)


@pytest.fixture(scope="module", params=SHAPES)
def rays(request):
  """Random bodies, a ray for each, and what the oracle says of them."""
  shape = SHAPES[request.param]
  rng = np.random.default_rng(shape)
  radius = rng.choice([0.35, 0.7], NUM_RAYS)
  angle = rng.uniform(0, 2 * np.pi, NUM_RAYS)
  center = np.c_[rng.uniform(-3, 3, (NUM_RAYS, 2)), radius]
  away = unit(rng.normal(size=(NUM_RAYS, 3)))
  origin = center + away * rng.uniform(2, 14, (NUM_RAYS, 1))
  aim = center + rng.uniform(-1.3, 1.3, (NUM_RAYS, 3)) * radius[:, None]
  direction = unit(aim - origin)
  # The oracle reads the numbers that float32 has.
  args = [
    np.float32(x).astype(np.float64)
    for x in (center, radius, angle, origin, direction)
  ]
  distance, depth = trace(shape, *args)
  return shape, args, distance, depth


def test_first_hits(rays):
  shape, (center, radius, angle, origin, direction), expected, depth = rays
  body = body_of(shape, center, radius, angle)
  distance, normal = hit_of(body, vector(origin), vector(direction))
  distance = np.asarray(distance, np.float64)
  # A ray that grazes a body by a thousandth of its radius may go either way.
  clear = np.abs(depth) > 1e-3
  hits = np.isfinite(expected)
  assert clear.mean() > 0.98
  assert 0.3 < hits.mean() < 0.9
  np.testing.assert_array_equal((distance < geometry.FAR)[clear], hits[clear])
  np.testing.assert_array_equal(distance[clear & ~hits], geometry.FAR)
  both = clear & hits
  np.testing.assert_allclose(distance[both], expected[both], atol=1e-3)
  # Normals: central differences of the implicit function.
  point = origin + np.where(hits, expected, 0.0)[:, None] * direction

  def at(p):
    return excess(turned(p - center, angle) / radius[:, None], shape)

  steps = 1e-6 * np.eye(3)
  gradient = np.stack([at(point + e) - at(point - e) for e in steps], axis=-1)
  normal = stack(normal)[both]
  np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1.0, atol=1e-5)
  # Where a ray grazes, its point lies a little off.
  deep = (depth < -0.02)[both]
  np.testing.assert_allclose(
    normal[deep], unit(gradient[both])[deep], atol=5e-3
  )


def test_rays_hit_nothing_behind_and_no_padding(rays):
  shape, (center, radius, angle, origin, direction), expected, _ = rays
  body = body_of(shape, center, radius, angle)
  assert np.isfinite(expected).sum() > 1000
  behind, _ = hit_of(body, vector(origin), vector(-direction))
  np.testing.assert_array_equal(behind, geometry.FAR)
  padding = body.replace(present=jnp.zeros(NUM_RAYS, bool))
  missed, _ = hit_of(padding, vector(origin), vector(direction))
  np.testing.assert_array_equal(missed, geometry.FAR)


def surface_points(shape, num):
  """Points of the surface of a body of radius 1 at the origin."""
  away = unit(np.random.default_rng(9).normal(size=(num, 3)))
  low, high = np.zeros(num), np.full(num, 2.0)
  for _ in range(40):
    middle = 0.5 * (low + high)
    inside = excess(away * middle[:, None], shape) < 0.0
    low, high = np.where(inside, middle, low), np.where(inside, high, middle)
  return away * high[:, None]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_support_is_the_farthest_point(shape):
  points = turned(surface_points(shape, 100_000), -0.4) * 0.7
  body = body_of(shape, np.ones(3), 0.7, 0.4)
  directions = unit(np.random.default_rng(1).normal(size=(100, 3)))
  directions[:6] = np.concatenate([np.eye(3), -np.eye(3)])
  expected = (points @ directions.T).max(axis=0)
  got = np.asarray(geometry.support(body, vector(directions)))
  assert (got > expected - 1e-5).all()
  np.testing.assert_allclose(got, expected, atol=2e-3)


# Outlines.

# Where lamps and the camera stand; the last is near, and low.
APEXES = np.array(
  [(6.4, -2.9, 4.3), (-4.7, -4.0, 3.0), (-1.2, 2.6, 5.8), (2.0, -2.5, 0.9)]
)
CENTER, ANGLE, RADIUS = np.array([0.3, -0.4, 0.7]), 0.7, 0.7


outlines = jax.jit(outlines_lib.touching_planes, static_argnums=4)


@pytest.mark.parametrize(
  "num_planes", [12, pytest.param(24, marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_outlines_touch_bodies(shape, num_planes):
  body = body_of(shape, CENTER, RADIUS, ANGLE)
  points = turned(surface_points(shape, 40_000), -ANGLE) * RADIUS + CENTER
  # Polygons around circles are shrunk to the same area, by about so much.
  part = np.pi / num_planes
  shrunk = 0.0 if shape == geometry.CUBE else part**2 / 6
  slack = 1.5 * shrunk * RADIUS + 5e-3
  for apex in APEXES:
    reach = np.linalg.norm(CENTER - apex)
    forward = (CENTER - apex) / reach
    for distance in (reach, np.inf):
      planes, offset = outlines(
        body, vector(apex), vector(forward), jnp.float32(distance), num_planes
      )
      planes, offset = stack(planes), np.asarray(offset)
      assert planes.shape == (num_planes, 3)
      np.testing.assert_allclose(np.linalg.norm(planes, axis=1), 1, atol=1e-5)
      if np.isinf(distance):
        np.testing.assert_allclose(planes @ forward, 0.0, atol=1e-5)
      else:
        np.testing.assert_allclose(planes @ apex, offset, atol=1e-5)
      outwards = (points @ planes.T - offset).max(axis=0)
      assert np.abs(outwards).max() < slack, (apex, distance)


@pytest.mark.thorough
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_outlines_tell_hits_from_misses(shape):
  rng = np.random.default_rng(2)
  num = 4000
  wide = np.ones(num)
  for apex in APEXES:
    aim = CENTER + rng.uniform(-1.4, 1.4, (num, 3)) * RADIUS
    direction = unit(aim - apex)
    _, depth = trace(
      shape,
      np.broadcast_to(CENTER, (num, 3)),
      RADIUS * wide,
      ANGLE * wide,
      np.broadcast_to(apex, (num, 3)),
      direction,
    )
    reach = np.linalg.norm(CENTER - apex)
    planes, _ = outlines(
      body_of(shape, CENTER, RADIUS, ANGLE),
      vector(apex),
      vector((CENTER - apex) / reach),
      jnp.float32(reach),
      24,
    )
    within = (direction @ stack(planes).T < 0.0).all(axis=1)
    hits, misses = depth < -0.02, depth > 0.02
    assert min(hits.mean(), misses.mean()) > 0.15
    np.testing.assert_array_equal(within[hits], True)
    np.testing.assert_array_equal(within[misses], False)


# The backdrop.


def test_backdrop():
  rng = np.random.default_rng(3)
  num = 20_000
  ax, ay = (float(x) for x in backdrop._X)
  x0, y0 = backdrop._ORIGIN
  bend = backdrop._BEND
  extents = (
    backdrop._LENGTH,
    backdrop._WIDTH,
    backdrop._HEIGHT,
  )
  to_wall = np.array([[-ax, -ay, 0.0], [ay, -ax, 0.0], [0.0, 0.0, 1.0]])
  origin = rng.uniform((-8, -8, 0.1), (8, 8, 8), (num, 3)).astype(np.float32)
  direction = unit(rng.normal(size=(num, 3))).astype(np.float32)
  got, normal = jax.jit(backdrop.intersect)(vector(origin), vector(direction))
  got, normal = np.asarray(got, np.float64), stack(normal)
  # u before the wall, v along it, z up, in float64.
  o = (origin - np.array([x0, y0, 0.0])) @ to_wall.T
  d = direction.astype(np.float64) @ to_wall.T

  def room(t):
    u, _, z = (o + t[:, None] * d).T
    round_ = bend - np.hypot(u - bend, z - bend)
    low = np.minimum(u, z)
    return np.where((u < bend) & (z < bend), round_, low)

  low, high = np.zeros(num), np.full(num, 500.0)
  inside = room(low) > 1e-2
  assert inside.mean() > 0.9
  leaves = room(high) < 0.0
  for _ in range(60):
    middle = 0.5 * (low + high)
    free = room(middle) > 0.0
    low, high = np.where(free, middle, low), np.where(free, high, middle)
  at = o + low[:, None] * d
  # Distance from the borders of the sheet, inwards.
  margin = np.minimum((extents - at).min(axis=1), at[:, 1])
  margin = np.where(leaves, margin, -1.0)
  hits, lost = inside & (margin > 0.02), inside & (margin < -0.02)
  assert lost.sum() > 1000
  np.testing.assert_array_equal(got[lost], geometry.FAR)
  np.testing.assert_allclose(got[hits], low[hits], rtol=1e-4, atol=1e-3)
  u, z = at[:, 0], at[:, 2]
  expected = np.stack([bend - u, 0.0 * u, bend - z], -1)
  expected = unit(np.maximum(expected, 0.0)[hits]) @ to_wall
  np.testing.assert_allclose(normal[hits], expected, atol=2e-3)
  floor, wall = u > bend, z > bend
  for part in (floor, wall, ~floor & ~wall):
    assert (hits & part).sum() > 300
