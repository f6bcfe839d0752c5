"""Pictures of CLEVR scenes: rays, shadows, reflections and smooth edges."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import transforms
from slot_attention_jax.data.procedural import scenes
from slot_attention_jax.data.procedural.clevr import (
  geometry,
  lighting,
  scene,
  shading,
  textures,
)

# Planes around an object's outline, for the coverage of its edge pixels.
_PLANES = 24


@flax.struct.dataclass
class View:
  """Which part of the camera's frame a picture shows.

  Attributes:
    frame: (H, W) of the whole frame in its pixels.
    crop: as of `transforms.crop_window`: `"paper"`, `"literal"`, or None for
      the whole frame.
  """

  frame: tuple[int, int] = flax.struct.field(
    pytree_node=False, default=(240, 320)
  )
  crop: transforms.Crop = flax.struct.field(pytree_node=False, default=None)

  def window(self) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) in pixels of the frame.

    Raises:
      ValueError: if the frame is empty or does not hold the crop.
    """
    scenes.check_resolution(self.frame)
    if self.crop is None:
      return 0, self.frame[0], 0, self.frame[1]
    return transforms.crop_window(
      *self.frame, literal=self.crop == "literal"
    )


@flax.struct.dataclass
class _Nearest:
  """Per pixel [P]: what is seen, and how an edge passes through it.

  Attributes:
    distance: along the ray through the pixel's centre.
    index: int32, object that is hit there; -1 for none.
    cover: share of the pixel within that object's outline, 0.5 to 1.
    beside: largest share within the outline of an object that the ray at the
      centre misses, 0 to 0.5.
    beside_index: int32, that object; -1 for none.
  """

  distance: jax.Array
  index: jax.Array
  cover: jax.Array
  beside: jax.Array
  beside_index: jax.Array


def bodies_of(s: scene.Scene) -> geometry.Body:
  """What rays ask of a scene's objects."""
  return geometry.Body(
    centre=geometry.Vector.of(s.coords),
    radius=s.radius,
    cos=jnp.cos(s.angle),
    sin=jnp.sin(s.angle),
    shape=s.shape,
    present=s.present,
  )


def render(
  s: scene.Scene,
  resolution: tuple[int, int],
  view: View,
  materials: shading.Materials = shading.FITTED,
  textured: bool = False,
) -> scenes.Rendering:
  """Draws a picture of a scene.

  Args:
    s: the scene.
    resolution: (H, W) in pixels.
    view: the part of the camera's frame to show.
    materials: constants of light and materials.
    textured: whether objects and backdrop carry the textures of their seeds.

  Returns:
    A `Rendering`; the segmentation tells what the ray through a pixel's centre
    hits, the image is smoothed along outlines.

  Raises:
    ValueError: on an empty resolution or frame.
  """
  scenes.check_resolution(resolution)
  h, w = resolution
  bodies = bodies_of(s)
  eye = geometry.Vector.of(s.camera)
  columns, rows, step = _pixels(resolution, view)
  rays = _camera_rays(s.camera, columns, rows, view)
  lines = _outline_lines(s.camera, bodies, view, step)
  nearest = _see(bodies, eye, rays, lines, columns / step[1], rows / step[0])
  lamps = lighting.lamps_of(s, bodies)
  surface = _surface(
    s, bodies, lamps, eye, rays, nearest.distance, nearest.index, textured
  )
  # What polished metal mirrors.
  back = surface.view
  mirror = surface.normal * (2.0 * surface.normal.dot(back)) - back
  distance, index = _nearest_hit(bodies, surface.point, mirror, nearest.index)
  seen_in_mirror = _surface(
    s, bodies, lamps, surface.point, mirror, distance, index, textured
  )
  surroundings = shading.mirrored(materials, lamps, seen_in_mirror)
  light = shading.radiance(materials, lamps, surface, surroundings)
  picture = jnp.stack([light.x, light.y, light.z]).reshape(3, h, w)
  # Light is clipped before it is mixed: so do edges stay smooth at highlights.
  picture = _smooth(jnp.clip(picture, 0.0, 1.0), nearest, h, w)
  image = 2.0 * shading.to_srgb(picture) - 1.0
  segmentation = (nearest.index + 1).reshape(h, w)
  numbers = jnp.arange(1, s.present.shape[0] + 1, dtype=jnp.int32)
  return scenes.Rendering(
    image=jnp.moveaxis(image, 0, -1),
    segmentation=segmentation,
    visibility=(segmentation[None] == numbers[:, None, None]).sum(
      axis=(1, 2), dtype=jnp.int32
    ),
  )


def segment(
  s: scene.Scene, resolution: tuple[int, int], view: View
) -> jax.Array:
  """The segmentation of `render` alone, [H, W] int32."""
  scenes.check_resolution(resolution)
  columns, rows, _ = _pixels(resolution, view)
  rays = _camera_rays(s.camera, columns, rows, view)
  eye = geometry.Vector.of(s.camera)
  nobody = jnp.full(columns.shape, -1, jnp.int32)
  _, index = _nearest_hit(bodies_of(s), eye, rays, nobody)
  return (index + 1).reshape(resolution)


def _pixels(resolution, view):
  """Centres of the pixels in the frame, [P] each, and (height, width)."""
  h, w = resolution
  top, bottom, left, right = view.window()
  step = (bottom - top) / h, (right - left) / w
  rows = top + (np.arange(h, dtype=np.float32) + 0.5) * step[0]
  columns = left + (np.arange(w, dtype=np.float32) + 0.5) * step[1]
  rows, columns = np.meshgrid(rows, columns, indexing="ij")
  return jnp.asarray(columns.ravel()), jnp.asarray(rows.ravel()), step


def _camera_rays(camera, columns, rows, view) -> geometry.Vector:
  axes = [geometry.Vector.of(axis) for axis in scene.camera_axes(camera)]
  scale = 1.0 / scene.focal_length(view.frame)
  x = (columns - 0.5 * view.frame[1]) * scale
  y = (0.5 * view.frame[0] - rows) * scale
  return jax.tree.map(
    lambda right, up, forward: forward + x * right + y * up, *axes
  ).unit()


def _outline_lines(camera, bodies, view, step):
  """Lines [O, K] around objects: column and row factor, and constant.

  `a x + b y + c` is the distance outwards in pixels of the picture, where x
  and y are in pixels of the picture too.
  """
  eye = geometry.Vector.of(camera)
  apex = jax.tree.map(
    lambda x: jnp.broadcast_to(x, bodies.radius.shape), eye
  )
  towards = bodies.centre - apex
  reach = jnp.sqrt(towards.dot(towards))
  planes, _ = geometry.outlines(bodies, apex, towards.unit(), reach, _PLANES)
  right, up, forward = (
    planes.dot(geometry.Vector.of(jnp.broadcast_to(axis, (1, 1, 3))))
    for axis in scene.camera_axes(camera)
  )
  scale = 1.0 / scene.focal_length(view.frame)
  a, b = right * scale, -up * scale  # Per pixel of the frame.
  c = forward - 0.5 * view.frame[1] * a - 0.5 * view.frame[0] * b
  a, b = a * step[1], b * step[0]  # Per pixel of the picture.
  inverse = jax.lax.rsqrt(jnp.maximum(a * a + b * b, 1e-20))
  return a * inverse, b * inverse, c * inverse


def _see(bodies, eye, rays, lines, x, y) -> _Nearest:
  """Finds what the camera sees, one object after another."""

  def one(best, inputs):
    number, body, (a, b, c) = inputs
    t = geometry.intersect(body, eye, rays)
    outside = None
    for k in range(_PLANES):
      line = a[k] * x + (b[k] * y + c[k])
      outside = line if outside is None else jnp.maximum(outside, line)
    cover = jnp.where(body.present, jnp.clip(0.5 - outside, 0.0, 1.0), 0.0)
    closer = t < best.distance
    missed = t >= geometry.FAR
    edge = jnp.where(missed, jnp.minimum(cover, 0.5), 0.0)
    wider = edge > best.beside
    return _Nearest(
      distance=jnp.where(closer, t, best.distance),
      index=jnp.where(closer, number, best.index),
      cover=jnp.where(closer, jnp.maximum(cover, 0.5), best.cover),
      beside=jnp.where(wider, edge, best.beside),
      beside_index=jnp.where(wider, number, best.beside_index),
    ), None

  zero, none = jnp.zeros_like(x), jnp.full(x.shape, -1, jnp.int32)
  start = _Nearest(zero + geometry.FAR, none, zero + 1.0, zero, none)
  numbers = jnp.arange(bodies.radius.shape[0], dtype=jnp.int32)
  nearest, _ = jax.lax.scan(one, start, (numbers, bodies, lines))
  return nearest


def _nearest_hit(bodies, origin, direction, owner):
  """Distance and number of the first object that rays hit, their owner apart."""

  def one(best, inputs):
    number, body = inputs
    t = geometry.intersect(body, origin, direction)
    closer = (t < best[0]) & (owner != number)
    return (
      jnp.where(closer, t, best[0]),
      jnp.where(closer, number, best[1]),
    ), None

  start = jnp.full(owner.shape, geometry.FAR), jnp.full_like(owner, -1)
  numbers = jnp.arange(bodies.radius.shape[0], dtype=owner.dtype)
  return jax.lax.scan(one, start, (numbers, bodies))[0]


def _surface(
  s, bodies, lamps, origin, direction, distance, index, textured
) -> shading.Surface:
  """What lies where rays end: at an object, the backdrop or nowhere."""
  is_object = index >= 0
  far, floor_normal = geometry.backdrop(origin, direction)
  distance = jnp.where(is_object, distance, far)
  lost = distance >= geometry.FAR
  point = origin + direction * jnp.minimum(distance, 100.0)
  owner = jnp.maximum(index, 0)
  body = bodies[owner]
  normal = geometry.select(
    is_object, geometry.normal(body, point), floor_normal
  )
  kind = jnp.where(is_object, 1 + s.material[owner], shading.BACKDROP)
  palette = jnp.asarray(scene.PALETTE)[s.color]  # [O, 3]
  if textured:
    albedo = textures.albedo(s, body, palette, point, index)
  else:
    plain = geometry.Vector.of(palette[owner])
    grey = jnp.full_like(distance, shading.BACKDROP_ALBEDO)
    albedo = geometry.select(
      is_object, plain, geometry.Vector(grey, grey, grey)
    )
  return shading.Surface(
    point=point,
    normal=normal,
    view=-direction,
    kind=jnp.where(lost, shading.NOTHING, kind),
    albedo=albedo,
    radius=body.radius,
    seen=lighting.visibility(lamps, point, index),
  )


def _smooth(picture, nearest, h, w):
  """Mixes edge pixels with what lies across the edge, by coverage.

  Args:
    picture: [3, H, W] light at the centres of pixels.
    nearest: what is seen there.
    h: rows.
    w: columns.

  Returns:
    [3, H, W].
  """
  index, cover, beside, beside_index = (
    jnp.reshape(x, (h, w))
    for x in (
      nearest.index, nearest.cover, nearest.beside, nearest.beside_index
    )
  )
  across, within = picture, jnp.zeros((h, w), bool)
  other, found = picture, jnp.zeros((h, w), bool)
  for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
    color = jnp.roll(picture, shift, axis=axis + 1)
    number = jnp.roll(index, shift, axis=axis)
    place = np.arange((h, w)[axis])
    edge = place == (0 if shift == 1 else (h, w)[axis] - 1)
    inside = jnp.asarray(~edge).reshape((-1, 1) if axis == 0 else (1, -1))
    # An object whose outline reaches into the pixel from the side.
    match = inside & (number == beside_index) & (beside > 0.0)
    across = jnp.where(match & ~within, color, across)
    within |= match
    # What lies behind the outline of the pixel's own object.
    match = inside & (number != index) & (index >= 0)
    other = jnp.where(match & ~found, color, other)
    found |= match
  picture = picture + (1.0 - cover) * (other - picture)
  return picture + jnp.where(within, beside, 0.0) * (across - picture)
