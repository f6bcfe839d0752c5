"""Counts the visible pixels of each object without rendering.

The sampler does this for every candidate scene, inside a training step, so it
must cost far less than rendering a mask. The silhouette of a convex body in
perspective is an intersection of half planes. On a row of pixels it is an
interval, stored as a few words of bits. Going from the nearest object to the
farthest, the visible pixels of an object are its bits minus those covered so
far.
"""

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import scene as scene_lib

RESOLUTION = (240, 320)
"""(H, W) in pixels at which CLEVR counts."""

# Only every second pixel of a row is counted, the odd and the even ones in
# turn. This halves the work; near 200 pixels the standard error is 3. (It would
# be 5 with every second row left out instead.)
_STEP = 2
_ROWS = np.arange(0.5, RESOLUTION[0], dtype=np.float32)
_FIRST = np.where(np.arange(_ROWS.size) % 2, 0.75, 0.25).astype(np.float32)
_WORDS = np.arange(0, RESOLUTION[1] // _STEP, 32, dtype=np.int32)

# A body is the Minkowski sum of a core and a ball. The core is a box of half
# extent `_BOX` or an upright cylinder of radius and half height `_BOX`, in
# units of the object's radius, for cube, sphere and cylinder. Its faces are the
# flat faces of the original meshes.
_BOX = np.array([0.7684397, 0.0, 0.91], np.float32)
# Factors that make the areas equal to those of exact masks of the original
# meshes: the polygon of 18 sides around a silhouette is larger than it, and the
# bevel of the cube is fuller than a ball.
_SCALE = np.array([1.0131, 0.9932, 1.0041], np.float32)


# Vectors are three arrays. With the components as an axis, the processor's
# vector units would process three numbers at a time.


def _dot(a, b):
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a, b):
  return (
    a[1] * b[2] - a[2] * b[1],
    a[2] * b[0] - a[0] * b[2],
    a[0] * b[1] - a[1] * b[0],
  )


def _support(normal, axes, shape, radius):
  """Farthest points of bodies along normals, relative to their centers.

  Args:
    normal: 3 x [O, K]; of any length.
    axes: cosine and sine of the body's rotation about z, each [O, 1].
    shape: [O, 1] int32.
    radius: [O, 1].

  Returns:
    3 x [O, K].
  """
  cos, sin = axes
  box = radius * jnp.asarray(_BOX)[shape]
  cube = shape == 0
  side = jnp.where(cube, box, 0.0)
  x = normal[0] * cos + normal[1] * sin
  y = normal[1] * cos - normal[0] * sin
  z = normal[2]
  flat = x * x + y * y + 1e-12
  ball = (radius - box) * jax.lax.rsqrt(flat + z * z)
  around = ball + jnp.where(cube, 0.0, box) * jax.lax.rsqrt(flat)
  x = side * jnp.sign(x) + around * x
  y = side * jnp.sign(y) + around * y
  return x * cos - y * sin, x * sin + y * cos, box * jnp.sign(z) + ball * z


def _edges(camera, coords, radius, angle, shape):
  """Half planes whose intersections are the silhouettes.

  Returns:
    x, y (unit normals) and offset, each [O, 2, 9]. In camera coordinates
    (X, Y, Z) the silhouette is where `x * X/Z + y * Y/Z <= offset`. Along axis
    1: the half planes that bound it on the right, x > 0, and on the left,
    x < 0.
  """
  right, up, forward = scene_lib.camera_axes(camera)
  center = [coords[:, i, None] - camera[i] for i in range(3)]  # 3 x [O, 1]
  radius, angle, shape = (a[:, None] for a in (radius, angle, shape))  # [O, 1]
  # Straight edges of a silhouette run along the axes of the body. Round shapes
  # may have any axes: 45 degrees from the line of sight spreads the edges. The
  # axes of a cube are rotated by multiples of 90 degrees until the order of its
  # edges around the silhouette is always the same.
  sight = jnp.arctan2(center[1], center[0])
  turn = jnp.mod(angle - sight, 0.5 * np.pi)
  turn = sight + jnp.where(shape == 0, turn, 0.25 * np.pi)
  axes = cos, sin = jnp.cos(turn), jnp.sin(turn)

  # The plane through the camera that touches the body along an edge contains
  # the edge's direction and the point of contact. The normal and the point are
  # found in alternation.
  zero = jnp.zeros_like(cos)
  edges = [
    jnp.concatenate([*half, *(-a for a in half)], axis=1)
    for half in ((cos, zero, sin), (sin, zero, -cos), (zero, zero + 1.0, zero))
  ]  # 3 x [O, 6]: along the first axis, z, against the second, and back.
  normal = _cross(edges, center)
  for _ in range(2):
    point = _support(normal, axes, shape, radius)
    point = [a + b for a, b in zip(center, point, strict=True)]
    normal = _cross(edges, point)
  x, y = _dot(normal, right), _dot(normal, up)
  scale = jax.lax.rsqrt(x * x + y * y)
  # Two more normals between each pair, for round shapes.
  x, y = (_interleave(a * scale) for a in (x, y))  # [O, 2, 9]
  # Along axis 1 are normals of opposite sides: the right one first.
  swap = x[:, :1] < x[:, 1:]
  x, y = (jnp.where(swap, a[:, ::-1], a) for a in (x, y))
  # No line may be horizontal, so that each bounds the rows on its side.
  signs = jnp.asarray([1.0, -1.0]).reshape(1, 2, 1)
  x = signs * jnp.maximum(signs * x, 2e-3)
  x, y = x.reshape(-1, 18), y.reshape(-1, 18)
  scale = jax.lax.rsqrt(x * x + y * y)
  x, y = x * scale, y * scale

  # The plane through the camera and a line of the image touches the body if
  # normal @ (center + support(normal)) = 0. The normal depends only weakly on
  # the line's offset, so a fixed-point iteration finds it.
  flat = [x * right[i] + y * up[i] for i in range(3)]  # 3 x [O, 18]
  depth = 1.0 / _dot(center, forward)  # [O, 1]
  middle = _dot(flat, center) * depth
  offset = middle
  for _ in range(3):
    normal = [flat[i] - offset * forward[i] for i in range(3)]
    point = _support(normal, axes, shape, radius)
    offset = middle + _dot(normal, point) * depth
  offset = middle + (offset - middle) * jnp.asarray(_SCALE)[shape]
  x, y, offset = (a.reshape(-1, 2, 9) for a in (x, y, offset))
  return x, y, offset


def _interleave(a):
  """Puts two more values between each pair of a ring [O, 6]: [O, 2, 9]."""
  step = (jnp.roll(a, -1, axis=1) - a) / 3.0
  return jnp.stack([a, a + step, a + 2.0 * step], axis=-1).reshape(-1, 2, 9)


def _low_bits(n):
  """uint32 words with the n lowest bits set; n is clipped to [0, 32]."""
  n = jnp.clip(n, 0, 32).astype(jnp.uint32)
  one = jnp.uint32(1)
  return jax.lax.shift_left(jnp.full_like(n, one), n) - one  # 1 << 32 is 0.


def visible_pixels(
  camera: jax.Array,
  coords: jax.Array,
  angle: jax.Array,
  shape: jax.Array,
  radius: jax.Array,
  present: jax.Array,
) -> jax.Array:
  """Estimates the number of visible pixels of each object at 320 by 240.

  On exact masks of 40 scenes with the original meshes, the mean absolute error
  is 0.5 % of the count and the mean error below 0.1 %.

  Args:
    camera: [3], location.
    coords: [O, 3], centers.
    angle: [O] radians, rotation about z.
    shape: [O] int32, 0 cube, 1 sphere, 2 cylinder.
    radius: [O], half extents.
    present: [O] bool; absent objects cover nothing and count 0.

  Returns:
    [O] int32.
  """
  # Objects are ordered by their power distance from the camera on the floor. A
  # vertical plane separates the circles of two objects, their radical line, and
  # the object of smaller power lies on the camera's side of it.
  ground = coords[:, :2] - camera[None, :2]
  power = jnp.sum(ground**2, axis=-1) - radius**2
  order = jnp.argsort(jnp.where(present, power, jnp.inf))

  x, y, offset = _edges(camera, coords, radius, angle, shape)
  # Columns at which the lines cross the rows, in pixels: start + slope * row.
  focal = scene_lib.focal_length(RESOLUTION)
  h, w = RESOLUTION
  slope = (y / x)[order]  # [O, 2, 9]
  start = (focal * offset / x)[order] + 0.5 * w - slope * (0.5 * h)
  rows = jnp.asarray(_ROWS).reshape(1, -1)
  hi, lo = jnp.full((2, coords.shape[0], rows.size), jnp.inf)
  lo = -lo
  for k in range(9):
    hi = jnp.minimum(hi, start[:, 0, k, None] + slope[:, 0, k, None] * rows)
    lo = jnp.maximum(lo, start[:, 1, k, None] + slope[:, 1, k, None] * rows)
  # Sample i of a row lies at (i + first) * step; samples in [begin, end) are
  # inside.
  first = jnp.asarray(_FIRST).reshape(1, -1)
  end = jnp.clip(jnp.floor(hi / _STEP - first) + 1.0, 0, w // _STEP)
  begin = jnp.clip(jnp.ceil(lo / _STEP - first), 0, w // _STEP)
  end = jnp.where(present[order][:, None], end, 0.0)
  words = jnp.asarray(_WORDS).reshape(1, -1)

  def cover(covered, interval):
    begin, end = (a.astype(jnp.int32)[:, None] - words for a in interval)
    seen = _low_bits(end) & ~(_low_bits(begin) | covered)  # [R, 5]
    count = jnp.sum(jax.lax.population_count(seen).astype(jnp.int32))
    return covered | seen, count

  covered = jnp.zeros((rows.size, words.size), jnp.uint32)
  _, counts = jax.lax.scan(cover, covered, (begin, end))
  return jnp.zeros_like(counts).at[order].set(counts) * _STEP
