"""The surfaces that rays hit, directly or mirrored by metal."""

import flax.struct
import jax
import jax.numpy as jnp

from slot_attention_jax.data.procedural.clevr import (
  backdrop,
  geometry,
  lighting,
  loops,
  scene,
  shading,
  textures,
)
from slot_attention_jax.data.procedural.clevr import materials as materials_lib


@flax.struct.dataclass
class Objects:
  """Objects and, last, the backdrop, as needed for shading: [O + 1]."""

  body: geometry.Body
  kind: jax.Array
  albedo: geometry.Vector
  texture: textures.Texture


def get_bodies(s: scene.Scene) -> geometry.Body:
  """The geometry of a scene's objects [O]."""
  return geometry.Body(
    center=geometry.Vector.of(s.coords),
    radius=s.radius,
    cos=jnp.cos(s.angle),
    sin=jnp.sin(s.angle),
    shape=s.shape,
    present=s.present,
  )


def get_objects(
  s: scene.Scene, bodies: geometry.Body, textured: bool
) -> Objects:
  """The objects of a scene and its backdrop, as needed for shading: [O + 1]."""
  palette = geometry.Vector.of(jnp.asarray(scene.PALETTE)[s.color])
  num = s.present.shape[0]
  if textured:
    texture = textures.sample(s.texture_seed)
  else:
    texture = textures.plain(num + 1)

  def append(x, last):
    return jnp.concatenate([x, jnp.full((1,), last, x.dtype)])

  # Textures of the backdrop use world axes and a unit of 1.
  body = jax.tree.map(lambda x: append(x, 0), bodies)
  body = body.replace(
    radius=append(bodies.radius, 1.0), cos=append(bodies.cos, 1.0)
  )
  return Objects(
    body=body,
    kind=append(1 + s.material, materials_lib.BACKDROP),
    albedo=jax.tree.map(
      lambda x: append(x, materials_lib.BACKDROP_ALBEDO), palette
    ),
    texture=texture,
  )


def surface_at(
  here,
  others,
  lamps,
  origin,
  direction,
  distance,
  index,
  textured,
  footprint,
  image=None,
) -> shading.Surface:
  """The surfaces that rays hit: an object's, the backdrop's, or none.

  Args:
    here: `Objects`, the object that each ray hits, or the backdrop.
    others: bodies and albedo [O] of all objects, for light between them.
    lamps: the lamps.
    origin: origins of the rays.
    direction: unit directions.
    distance: distance to the object.
    index: int32, index of the object; -1 for none.
    textured: whether there are textures.
    footprint: width of a pixel at distance 1.
    image: of `lighting.visibility`.

  Returns:
    A `Surface`.
  """
  is_object = index >= 0
  far, floor_normal = backdrop.intersect(origin, direction)
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
    kind=jnp.where(lost, materials_lib.NOTHING, here.kind),
    albedo=albedo,
    radius=here.body.radius,
    seen=lighting.visibility(
      lamps,
      point,
      index,
      count=loops.count_present(bodies.present),
      image=image,
    ),
    covered=covered,
    bounced=bounced,
    spread=footprint * distance * geometry.curvature(here.body, point),
  )
