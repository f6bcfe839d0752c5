"""The passes that light an image: backdrop, mirrored light, objects.

Each pass computes only the pixels that need it. The backdrop fills most of an
image and needs little, so it is lit tile by tile. Objects are small: their
pixels are gathered from the tiles into rows of one scene, those of metal first.
"""

import functools

import jax
import jax.numpy as jnp

from slot_attention_jax.data.procedural.clevr import (
  backdrop,
  geometry,
  lighting,
  rows,
  shading,
  surfaces,
  textures,
  tiles,
  tracing,
  whole_batch,
)
from slot_attention_jax.data.procedural.clevr import materials as materials_lib


def light(
  grid: tiles.Grid,
  materials: materials_lib.Materials,
  textured: bool,
  seen: tracing.Seen,
  bodies: geometry.Body,
  objects: surfaces.Objects,
  lamps: lighting.Lamps,
  camera: tiles.Camera,
) -> geometry.Vector:
  """Light to the eye at the centers of pixels; works under `vmap`.

  Args:
    grid: the tiles.
    materials: constants of the lamps and materials.
    textured: whether objects and backdrop have textures.
    seen: what is seen, [T, S].
    bodies: the objects [O].
    objects: the objects and, last, the backdrop, [O + 1].
    lamps: the lamps.
    camera: the camera.

  Returns:
    Linear light in [0, 1], (x, y, z) = (red, green, blue), [T, S] each.
  """
  light_batch = functools.partial(_light, grid, materials, textured)
  return whole_batch.of_single(light_batch)(
    seen.index, seen.distance, bodies, objects, lamps, camera
  )


def _light(
  grid, materials, textured, index, distance, bodies, objects, lamps, camera
):
  """`light` on a batch [B]."""
  p = _Passes(
    grid, materials, textured, index, distance, bodies, objects, lamps, camera
  )
  return p.objects(p.backdrop())


class _Passes:
  """The passes over a batch of B scenes."""

  def __init__(
    self,
    grid,
    materials,
    textured,
    index,
    distance,
    bodies,
    objects,
    lamps,
    camera,
  ):
    self._grid, self._materials, self._textured = grid, materials, textured
    self._index, self._distance = index, distance
    self._bodies, self._table = bodies, objects
    self._lamps, self._camera = lamps, camera
    self._shape = index.shape  # (B, T, S)
    self._num = bodies.radius.shape[1]
    self._flat = jax.tree.map(lambda x: x.reshape(-1), objects)

  def _scenes(self, image):
    """Parameters of the scenes of C rows, [O, ..., C, 1] and [C, 1].

    Returns:
      Bodies, their colors, lamps and camera. Shadows are many numbers: they are
      those of all scenes, [O, B, ...].
    """
    albedo = jax.tree.map(lambda x: x[:, :-1], self._table.albedo)
    bodies, colors, lamps = jax.tree.map(
      lambda x: jnp.moveaxis(x[image], 0, -1)[..., None],
      (self._bodies, albedo, self._lamps),
    )
    shadows = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), self._lamps)
    lamps = shadows.replace(location=lamps.location, axis=lamps.axis)
    return bodies, colors, lamps, self._cameras(image)

  def _cameras(self, image):
    return jax.tree.map(lambda x: x[image][:, None], self._camera)

  def backdrop(self) -> geometry.Vector:
    """The backdrop's light, where it is seen: [B, T, S]."""
    b, t, s = self._shape
    pairs = _shadows_near(self._grid, self._lamps, self._camera)
    pairs = pairs.reshape(b * t, -1)
    shown = (self._index < 0).any(axis=-1).reshape(-1)

    def work(item):
      return self._backdrop_at(item // t, item % t, pairs[item])

    dark = jnp.zeros((b * t, s))
    out = tiles.for_flagged(
      shown,
      work,
      geometry.Vector(dark, dark, dark),
      pairs.sum(axis=1, dtype=jnp.int32),
    )
    return jax.tree.map(lambda x: x.reshape(self._shape), out)

  def _backdrop_at(self, image, tile, pairs):
    """The backdrop's light on C tiles of given scenes, [C, S]."""
    m = self._materials
    bodies, colors, lamps, camera = self._scenes(image)
    # All but shadows and textures is smooth within a tile, so that values at a
    # few nodes are enough.
    direction = tiles.rays(camera, *self._grid.nodes(tile))  # [C, N]
    distance, normal = backdrop.intersect(camera.eye, direction)
    reach = jnp.minimum(distance, 100.0)
    point = jax.tree.map(lambda o, d: o + d * reach, camera.eye, direction)
    owner = jnp.full(reach.shape, -1, jnp.int32)
    covered, bounced = lighting.neighbors(bodies, colors, point, normal, owner)
    irradiances = shading.irradiance(m, lamps, point, normal)
    around = shading.indirect(m, covered, bounced, m.backdrop_ambient, 0)
    point, irradiances, around = tiles.interpolate(
      (point, irradiances, around)
    )  # [C, S]
    here = jax.tree.map(lambda x: x[image, -1][:, None], self._table)
    albedo = here.albedo
    if self._textured:
      albedo = textures.mix(here.texture, albedo, point)
    seen = lighting.visibility_of_pairs(self._lamps, image, pairs, point)
    return _clip(shading.backdrop(albedo, irradiances, seen, around))

  def objects(self, total: geometry.Vector) -> geometry.Vector:
    """Adds the light of the objects to that of the backdrop, [B, T, S]."""
    b, t, s = self._shape
    hit = self._index >= 0
    owner = jnp.where(hit, self._index, self._num).reshape(b, -1)
    kind = jnp.take_along_axis(self._table.kind, owner, axis=1)
    metal = kind == materials_lib.METAL
    pixels, num_metal, num_hit = rows.gather(metal, hit.reshape(b, -1))
    pixels = pixels.reshape(b * t, s)
    mirrored = self._mirrored(pixels, num_metal)

    def work(item, real, total):
      image = item // t
      bodies, colors, lamps, camera = self._scenes(image)
      pixel, here, index, distance, direction = self._look(
        image, pixels[item], camera
      )
      surface = surfaces.surface_at(
        here,
        (bodies, colors),
        lamps,
        camera.eye,
        direction,
        distance,
        index,
        self._textured,
        jnp.sqrt(camera.column.dot(camera.column)),
        image,
      )
      around = jax.tree.map(lambda x: x[item], mirrored)
      color = _clip(shading.radiance(self._materials, lamps, surface, around))
      # Rows are filled up with pixels that do not exist.
      real = real[:, None] & (pixels[item] < t * s)
      target = jnp.where(real, image[:, None] * (t * s) + pixel, b * t * s)
      return jax.tree.map(
        lambda all_, new: all_.at[target].set(new, mode="drop"), total, color
      )

    flags = rows.flag(num_hit, self._shape)
    total = jax.tree.map(lambda x: x.reshape(-1), total)
    total = tiles.for_rows(
      tiles.by_weight(flags, self._crowds()),
      flags.sum(dtype=jnp.int32),
      work,
      total,
    )
    return jax.tree.map(lambda x: x.reshape(self._shape), total)

  def _look(self, image, pixel, camera):
    """What is seen at the pixels [C, S] of given scenes [C].

    Returns:
      The pixels, of which those that do not exist are replaced by the last one,
      the objects, their indices and distances, and the directions of the rays.
    """
    _, t, s = self._shape
    pixel = jnp.minimum(pixel, t * s - 1)
    place = image[:, None] * (t * s) + pixel
    index = self._index.reshape(-1)[place]
    distance = self._distance.reshape(-1)[place]
    here = self._at(image, index)
    direction = tiles.rays(camera, *self._grid.places(pixel))
    return pixel, here, index, distance, direction

  def _at(self, image, index):
    """The objects of given indices [C, S], or the backdrop, for -1."""
    place = jnp.where(index < 0, self._num, index)
    place += image[:, None] * (self._num + 1)
    return jax.tree.map(lambda x: x[place], self._flat)

  def _mirrored(self, pixels, num_metal) -> geometry.Vector:
    """Light that metal mirrors in the rows of pixels, [B * T, S].

    Arbitrary values for other materials.
    """
    _, t, _ = self._shape

    def work(item):
      image = item // t
      bodies, colors, lamps, camera = self._scenes(image)
      _, here, owner, distance, direction = self._look(
        image, pixels[item], camera
      )
      reach = jnp.minimum(distance, 100.0)
      point = jax.tree.map(lambda o, d: o + d * reach, camera.eye, direction)
      normal = geometry.normal(here.body, point)
      direction = direction - normal * (2.0 * normal.dot(direction))
      distance, index = geometry.intersect_nearest(
        bodies, point, direction, owner, geometry.MIRRORED_STEPS
      )
      surface = surfaces.surface_at(
        self._at(image, index),
        (bodies, colors),
        lamps,
        point,
        direction,
        distance,
        index,
        self._textured,
        footprint=0.0,  # Mirrored surfaces have no gloss.
        image=image,
      )
      return shading.mirrored(self._materials, lamps, surface)

    dark = jnp.zeros(pixels.shape)
    return tiles.for_flagged(
      rows.flag(num_metal, self._shape),
      work,
      geometry.Vector(dark, dark, dark),
      self._crowds(),
    )

  def _crowds(self):
    """Objects of the scene of each row, [B * T] int32: loops are as long."""
    num = self._bodies.present.sum(axis=1, dtype=jnp.int32)
    return jnp.repeat(num, self._shape[1])


def _clip(v: geometry.Vector) -> geometry.Vector:
  return jax.tree.map(lambda x: jnp.clip(x, 0.0, 1.0), v)


def _shadows_near(
  grid: tiles.Grid, lamps: lighting.Lamps, camera: tiles.Camera
) -> jax.Array:
  """Which shadows may fall on the backdrop in a tile, [B, T, O * 4] bool."""
  left, top = grid.corners()
  half = tiles.SIDE / 2

  def one(lamps, camera):
    def point(x, y):
      direction = tiles.rays(camera, x, y)
      distance, _ = backdrop.intersect(camera.eye, direction)
      reach = jnp.minimum(distance, 100.0)
      return jax.tree.map(lambda o, d: o + d * reach, camera.eye, direction)

    center = point(jnp.asarray(left + half), jnp.asarray(top + half))
    square = jnp.zeros(left.shape)
    for dx in (0, tiles.SIDE):
      for dy in (0, tiles.SIDE):
        away = point(jnp.asarray(left + dx), jnp.asarray(top + dy)) - center
        square = jnp.maximum(square, away.dot(away))
    # The corners are the farthest points of a flat tile; where the backdrop
    # bends, hardly nearer than the farthest.
    return lighting.pairs_near(lamps, center, 1.1 * jnp.sqrt(square))

  return jax.vmap(one)(lamps, camera)
