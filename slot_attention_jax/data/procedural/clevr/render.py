"""Pictures of CLEVR scenes: rays, shadows, reflections and smooth edges."""

import flax.struct
import jax
import jax.numpy as jnp

from slot_attention_jax.data import transforms
from slot_attention_jax.data.procedural import scenes
from slot_attention_jax.data.procedural.clevr import (
  geometry,
  lighting,
  scene,
  shading,
  textures,
  tiles,
)

_OUTSIDE = -2


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
    return transforms.crop_window(*self.frame, literal=self.crop == "literal")


@flax.struct.dataclass
class _Objects:
  """What shading asks of a scene's objects and, last, its backdrop: [O + 1]."""

  body: geometry.Body
  kind: jax.Array
  albedo: geometry.Vector
  texture: textures.Texture


def bodies_of(s: scene.Scene) -> geometry.Body:
  """What rays ask of a scene's objects."""
  return geometry.Body(
    center=geometry.Vector.of(s.coords),
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
    A `Rendering`; the segmentation tells what the ray through a pixel's center
    hits, the image is smoothed along outlines.

  Raises:
    ValueError: on an empty resolution or frame.
  """
  scenes.check_resolution(resolution)
  bodies = bodies_of(s)
  grid = tiles.Grid(resolution)
  camera = _camera(s, resolution, view)
  seen = tiles.see(grid, bodies, camera)
  rays = tiles.rays(camera, *grid.pixels())
  objects = _objects(s, bodies, textured)
  lamps = lighting.lamps_of(s, bodies)
  surface = _surface(
    jax.tree.map(lambda x: x[seen.index], objects),
    (bodies, jax.tree.map(lambda x: x[:-1], objects.albedo)),
    lamps,
    camera.eye,
    rays,
    seen.distance,
    seen.index,
    textured,
    jnp.sqrt(camera.column.dot(camera.column)),
  )
  surroundings = _batched(_mirror, materials, textured)(
    surface, seen.index, bodies, objects, lamps
  )
  light = shading.radiance(materials, lamps, surface, surroundings)
  # Clipped before it is mixed: so do edges stay smooth at highlights. A loop,
  # so that XLA computes light once, in the order of the tiles, and not anew for
  # every pixel that reads it; clipping twice is clipping.
  light = jax.lax.fori_loop(
    0,
    2,
    lambda _, v: jax.tree.map(lambda x: jnp.clip(x, 0.0, 1.0), v),
    light,
  )
  picture = jnp.stack([grid.picture(x) for x in _components(light)])
  pictures = jax.tree.map(grid.picture, seen)
  picture = _smooth(picture, pictures)
  image = 2.0 * shading.to_srgb(picture) - 1.0
  segmentation = pictures.index + 1
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
  grid = tiles.Grid(resolution)
  seen = tiles.see(grid, bodies_of(s), _camera(s, resolution, view))
  return grid.picture(seen.index) + 1


def _components(v: geometry.Vector) -> tuple[jax.Array, ...]:
  return v.x, v.y, v.z


def _camera(s, resolution, view) -> tiles.Camera:
  """The camera, in pixels of the picture instead of the frame."""
  top, bottom, left, right = view.window()
  rows, columns = (bottom - top) / resolution[0], (right - left) / resolution[1]
  scale = 1.0 / scene.focal_length(view.frame)
  axes = scene.camera_axes(s.camera)
  across, up, forward = (geometry.Vector.of(axis) for axis in axes)
  corner = (
    forward
    + across * (scale * (left - 0.5 * view.frame[1]))
    + up * (scale * (0.5 * view.frame[0] - top))
  )
  return tiles.Camera(
    eye=geometry.Vector.of(s.camera),
    corner=corner,
    column=across * (scale * columns),
    row=up * (-scale * rows),
  )


def _objects(s, bodies, textured) -> _Objects:
  palette = geometry.Vector.of(jnp.asarray(scene.PALETTE)[s.color])
  num = s.present.shape[0]
  if textured:
    texture = textures.of_seeds(s.texture_seed)
  else:
    texture = textures.plain(num + 1)

  def append(x, last):
    return jnp.concatenate([x, jnp.full((1,), last, x.dtype)])

  # On the backdrop the axes are the world's and the unit is 1.
  body = jax.tree.map(lambda x: append(x, 0), bodies)
  body = body.replace(
    radius=append(bodies.radius, 1.0), cos=append(bodies.cos, 1.0)
  )
  return _Objects(
    body=body,
    kind=append(1 + s.material, shading.BACKDROP),
    albedo=jax.tree.map(lambda x: append(x, shading.BACKDROP_ALBEDO), palette),
    texture=texture,
  )


def _surface(
  here, others, lamps, origin, direction, distance, index, textured, footprint
) -> shading.Surface:
  """What lies where rays end: at an object, the backdrop or nowhere.

  Args:
    here: `_Objects`, of each ray's object or the backdrop.
    others: bodies and albedo [O] of all objects, whose light falls around them.
    lamps: the lamps.
    origin: origins of the rays.
    direction: unit directions.
    distance: to the object.
    index: int32, the object; -1 for none.
    textured: whether there are textures.
    footprint: width of a pixel at distance 1.
  """
  is_object = index >= 0
  far, floor_normal = geometry.backdrop(origin, direction)
  distance = jnp.where(is_object, distance, far)
  lost = distance >= geometry.FAR
  reach = jnp.minimum(distance, 100.0)
  point = jax.tree.map(lambda o, d: o + d * reach, origin, direction)
  normal = geometry.select(
    is_object, geometry.normal(here.body, point), floor_normal
  )
  albedo = here.albedo
  if textured:
    own = here.body.turn_in(point - here.body.center)
    albedo = textures.mix(here.texture, albedo, own * (1.0 / here.body.radius))
  bodies, colors = others
  covered, bounced = lighting.neighbors(bodies, colors, point, normal, index)
  return shading.Surface(
    point=point,
    normal=normal,
    view=-direction,
    kind=jnp.where(lost, shading.NOTHING, here.kind),
    albedo=albedo,
    radius=here.body.radius,
    seen=lighting.visibility(lamps, point, index),
    covered=covered,
    bounced=bounced,
    spread=footprint * distance * geometry.curvature(here.body, point),
  )


def _batched(function, *static):
  """Lets a function of batches stand under `vmap`, and without it."""

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


def _mirror(
  materials, textured, surface, owner, bodies, objects, lamps
) -> geometry.Vector:
  """Light [B, T, S] that metal mirrors; anything elsewhere.

  Only tiles that show metal are worked on, so many at a time as fit a chunk.
  """
  b, t, _ = owner.shape
  num = bodies.radius.shape[1]
  flags = (surface.kind == shading.METAL).any(axis=-1).reshape(b * t)
  flat = jax.tree.map(
    lambda x: x.reshape(b * t, -1),
    (surface.point, surface.normal, surface.view, owner),
  )
  table = jax.tree.map(lambda x: x.reshape(b * (num + 1)), objects)
  albedo = jax.tree.map(lambda x: x[:, :-1], objects.albedo)

  def work(item):
    point, normal, back, mine = jax.tree.map(lambda x: x[item], flat)
    image = item // t
    # [O, ..., C, 1]: one row of parameters for each tile's image.
    rows, colors, lights = jax.tree.map(
      lambda x: jnp.moveaxis(x[image], 0, -1)[..., None],
      (bodies, albedo, lamps),
    )
    direction = normal * (2.0 * normal.dot(back)) - back

    def one(best, inputs):
      number, body = inputs
      hit = geometry.intersect(body, point, direction)
      closer = (hit < best[0]) & (mine != number)
      return (
        jnp.where(closer, hit, best[0]),
        jnp.where(closer, number, best[1]),
      ), None

    start = jnp.full(mine.shape, geometry.FAR), jnp.full_like(mine, -1)
    numbers = jnp.arange(num, dtype=jnp.int32)
    (distance, index), _ = jax.lax.scan(one, start, (numbers, rows))
    place = image[:, None] * (num + 1) + jnp.where(index < 0, num, index)
    here = jax.tree.map(lambda x: x[place], table)
    seen = _surface(
      here,
      (rows, colors),
      lights,
      point,
      direction,
      distance,
      index,
      textured,
      footprint=0.0,  # No gloss is seen in a mirror.
    )
    return shading.mirrored(materials, lights, seen)

  dark = jnp.zeros((b * t, owner.shape[-1]))
  light = tiles.for_flagged(flags, work, geometry.Vector(dark, dark, dark))
  return jax.tree.map(lambda x: x.reshape(owner.shape), light)


def _smooth(picture, seen):
  """Mixes edge pixels with what lies across the edge, by coverage.

  Args:
    picture: [3, H, W] light at the centers of pixels.
    seen: `tiles.Seen` [H, W], what is seen there.

  Returns:
    [3, H, W].
  """
  h, w = seen.index.shape
  # A frame of nobody's pixels around the picture.
  colors = jnp.pad(picture, ((0, 0), (1, 1), (1, 1)))
  numbers = jnp.pad(seen.index, 1, constant_values=_OUTSIDE)
  shifts = jnp.array([(0, 1), (2, 1), (1, 0), (1, 2)], jnp.int32)

  # A loop, and not four terms, so that XLA makes the picture once and not anew
  # for every neighbor that reads it.
  def one(i, state):
    across, within, other, found = state
    y, x = shifts[i, 0], shifts[i, 1]
    color = jax.lax.dynamic_slice(colors, (0, y, x), (3, h, w))
    number = jax.lax.dynamic_slice(numbers, (y, x), (h, w))
    # An object whose outline reaches into the pixel from the side.
    match = (number == seen.beside_index) & (seen.beside > 0.0) & ~within
    across = jnp.where(match[None], color, across)
    within |= match
    # What lies behind the outline of the pixel's own object.
    match = (number != seen.index) & (number != _OUTSIDE) & ~found
    other = jnp.where(match[None], color, other)
    return across, within, other, found | match

  nowhere = jnp.zeros((h, w), bool)
  across, within, other, _ = jax.lax.fori_loop(
    0, 4, one, (picture, nowhere, picture, nowhere)
  )
  picture = picture + (1.0 - seen.cover)[None] * (other - picture)
  share = jnp.where(within, seen.beside, 0.0)
  return picture + share[None] * (across - picture)
