"""Shading of CLEVR's rubber, metal and backdrop.

Direct light of the four lamps is computed as in Cycles, with a diffuse and a
microfacet term for each material. Indirect light is approximated by a smooth
function of the normal, the height and the mirrored direction. The constants are
in `materials`.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from slot_attention_jax.data.procedural.clevr import (
  geometry,
  lighting,
  materials,
)

# Colors of the key, fill and back lamp and of the sun.
_LAMP_COLORS = (
  (1.0, 0.9323092, 0.8166637),
  (0.7616662, 0.8177196, 1.0),
  (1.0, 1.0, 1.0),
  (1.0, 1.0, 1.0),
)
# Lower bound of the cosine that the microfacet terms divide by.
_GRAZING = 0.05


@flax.struct.dataclass
class Surface:
  """Points to shade; all fields are [P].

  Attributes:
    point: locations.
    normal: unit normals.
    view: unit directions to the eye.
    kind: int32, `materials.BACKDROP` and so on.
    albedo: color, linear light, as (x, y, z) = (red, green, blue).
    radius: half extent of the object.
    seen: visible fraction of each of the 4 lamps.
    covered: form factors of the other objects, summed.
    bounced: the same, weighted by their colors.
    spread: how far the normal turns within a pixel, in radians.
  """

  point: geometry.Vector
  normal: geometry.Vector
  view: geometry.Vector
  kind: jax.Array
  albedo: geometry.Vector
  radius: jax.Array
  seen: list[jax.Array]
  covered: jax.Array
  bounced: geometry.Vector
  spread: jax.Array


def _fresnel(cosine: jax.Array, ior: jax.Array) -> jax.Array:
  """Reflectance of a dielectric for unpolarized light."""
  g = jnp.sqrt(jnp.maximum(ior * ior - 1.0 + cosine * cosine, 1e-6))
  a = (g - cosine) / (g + cosine)
  b = (cosine * (g + cosine) - 1.0) / (cosine * (g - cosine) + 1.0)
  return 0.5 * a * a * (1.0 + b * b)


def _facets(
  cosine: jax.Array, alpha: jax.Array, spread: jax.Array
) -> jax.Array:
  """Density of GGX microfacets, averaged over the normals within a pixel.

  Without the average, highlights narrower than a pixel would flicker at edges.
  """
  # The normals of a pixel are uniform within the spread, in both directions.
  a2 = alpha * alpha + jnp.minimum(spread * spread / 6.0, 0.1)
  return a2 / jnp.square(cosine * cosine * (a2 - 1.0) + 1.0)


def _bounces(weights: jax.Array, v: geometry.Vector, s: Surface) -> jax.Array:
  """Indirect light from a direction `v`, a polynomial of `v` and the height."""
  z = s.point.z / (2.0 * s.radius)
  terms = (
    1.0,
    v.z,
    v.x,
    v.y,
    v.z * v.z,
    v.x * v.y,
    v.x * v.x,
    z,
    z * v.z,
    0.1 * s.point.x,
  )
  total: Any = 0.0
  for i, term in enumerate(terms):
    total = total + weights[i] * term
  return total


def _lamp(
  m: materials.Materials, lamps: lighting.Lamps, point: geometry.Vector, j: int
) -> tuple[geometry.Vector, jax.Array]:
  """Unit directions to lamp j and its irradiance there, without shadows."""
  if j == 3:
    sun = geometry.Vector.of(jnp.asarray(lighting.SUN, jnp.float32))
    return sun, m.power[3]
  lamp = jax.tree.map(lambda x: x[j], lamps.location)
  axis = jax.tree.map(lambda x: x[j], lamps.axis)
  towards = geometry.Vector(
    lamp.x - point.x, lamp.y - point.y, lamp.z - point.z
  )
  inverse = 1.0 / towards.dot(towards)
  towards = towards * jnp.sqrt(inverse)
  facing = -(towards.x * axis.x + towards.y * axis.y + towards.z * axis.z)
  return towards, m.power[j] * jnp.maximum(facing, 0.0) * inverse


def _along(a: geometry.Vector, b: geometry.Vector) -> jax.Array:
  return a.x * b.x + a.y * b.y + a.z * b.z


def irradiance(
  m: materials.Materials,
  lamps: lighting.Lamps,
  point: geometry.Vector,
  normal: geometry.Vector,
) -> list[jax.Array]:
  """Irradiance of surfaces from each of the 4 lamps, without shadows."""
  out = []
  for j in range(4):
    towards, strength = _lamp(m, lamps, point, j)
    out.append(strength * jnp.maximum(_along(normal, towards), 0.0))
  return out


def _diffuse(
  irradiances: list[jax.Array], seen: list[jax.Array]
) -> geometry.Vector:
  """Irradiance of surfaces from all lamps, with shadows, as a color."""
  red: Any = 0.0
  green: Any = 0.0
  blue: Any = 0.0
  for j in range(4):
    light = irradiances[j] * seen[j]
    r, g, b = _LAMP_COLORS[j]
    red, green, blue = red + r * light, green + g * light, blue + b * light
  return geometry.Vector(red, green, blue)


def _glossy(m: materials.Materials, lamps: lighting.Lamps, s: Surface, alphas):
  """Light of the lamps that microfacets reflect, a color for each roughness."""
  facing = jnp.maximum(s.normal.dot(s.view), 1e-3)
  colors: list[list[Any]] = [[0.0, 0.0, 0.0] for _ in alphas]
  for j in range(4):
    towards, strength = _lamp(m, lamps, s.point, j)
    cosine = jnp.maximum(_along(s.normal, towards), 0.0)
    # |view + towards|^2 = 2 + 2 view . towards.
    length = jnp.maximum(2.0 + 2.0 * _along(s.view, towards), 1e-6)
    half = (_along(s.normal, s.view) + _along(s.normal, towards)) * (
      jax.lax.rsqrt(length)
    )
    masking = 0.25 / jnp.maximum(jnp.maximum(cosine, facing), _GRAZING)
    # Fades in at the terminator.
    lit = strength * s.seen[j] * jnp.minimum(20.0 * cosine, 1.0) * masking
    for i, alpha in enumerate(alphas):
      light = lit * _facets(half, alpha, s.spread)
      for c in range(3):
        colors[i][c] = colors[i][c] + _LAMP_COLORS[j][c] * light
  return [geometry.Vector(*c) for c in colors]


def _rubber(m, s, diffuse, coat) -> geometry.Vector:
  facing = jnp.maximum(s.normal.dot(s.view), 1e-3)
  gloss = _fresnel(facing, m.rubber_ior[0])
  sheen = _fresnel(facing, m.rubber_ior[1])
  ambient = _bounces(m.rubber_ambient, s.normal, s)
  below = (1.0 - gloss) * (1.0 - sheen + m.rubber_gain[1] * sheen)
  out = [
    below * albedo * (m.rubber_gain[0] * light + around)
    + gloss * (m.rubber_gain[2] * shine + m.rubber_gain[3] * around)
    for albedo, light, shine, around in zip(
      *map(_components, (s.albedo, diffuse, coat)),
      indirect(m, s.covered, s.bounced, ambient, 1),
      strict=True,
    )
  ]
  return geometry.Vector(*out)


def indirect(
  m: materials.Materials,
  covered: jax.Array,
  bounced: geometry.Vector,
  ambient: jax.Array,
  i: int,
) -> list[jax.Array]:
  """Indirect light on the backdrop (i = 0) or rubber (i = 1), by color.

  Args:
    m: constants of the materials.
    covered: as in `Surface`, [P].
    bounced: as in `Surface`, [P].
    ambient: what falls on a surface with no objects around, [P] or [].
    i: 0 or 1.

  Returns:
    [P] for each of the three colors.
  """
  left = ambient * jnp.maximum(1.0 - m.neighbor[i] * covered, 0.0)
  gain = m.neighbor[2 + i]
  return [left + gain * color for color in _components(bounced)]


def _components(v: geometry.Vector) -> tuple[jax.Array, ...]:
  return v.x, v.y, v.z


def backdrop(
  albedo: geometry.Vector,
  irradiances: list[jax.Array],
  seen: list[jax.Array],
  around: list[jax.Array],
) -> geometry.Vector:
  """Light from the backdrop to the eye; `radiance` without objects.

  Args:
    albedo: its color [P].
    irradiances: of `irradiance`, [P] for each of the 4 lamps.
    seen: visible fraction [P] of each of the 4 lamps.
    around: indirect light [P] of the three colors.

  Returns:
    Linear light [P].
  """
  out = [
    color * (light + floor)
    for color, light, floor in zip(
      *map(_components, (albedo, _diffuse(irradiances, seen))),
      around,
      strict=True,
    )
  ]
  return geometry.Vector(*out)


def mirrored(
  m: materials.Materials, lamps: lighting.Lamps, s: Surface
) -> geometry.Vector:
  """Light from surfaces that are seen in a mirror, without gloss."""
  diffuse = _diffuse(irradiance(m, lamps, s.point, s.normal), s.seen)
  ambient = _bounces(m.rubber_ambient, s.normal, s)
  metal = m.mirrored_metal[0] + m.mirrored_metal[1] * s.normal.z
  out = []
  for albedo, light, floor, around in zip(
    _components(s.albedo),
    _components(diffuse),
    indirect(m, s.covered, s.bounced, m.backdrop_ambient, 0),
    indirect(m, s.covered, s.bounced, ambient, 1),
    strict=True,
  ):
    backdrop = albedo * (light + floor)
    rubber = albedo * (m.rubber_gain[0] * light + around)
    color = jnp.where(s.kind == materials.RUBBER, rubber, backdrop)
    color = jnp.where(s.kind == materials.METAL, albedo * metal, color)
    out.append(
      jnp.where(s.kind == materials.NOTHING, m.mirrored_nothing, color)
    )
  return geometry.Vector(*out)


def radiance(
  m: materials.Materials,
  lamps: lighting.Lamps,
  s: Surface,
  surroundings: geometry.Vector,
) -> geometry.Vector:
  """Light from surfaces to the eye.

  Args:
    m: constants of lamps and materials.
    lamps: the lamps.
    s: the surfaces [P].
    surroundings: light [P] from the direction of the mirrored view.

  Returns:
    Linear light, (x, y, z) = (red, green, blue), [P] each; may exceed 1.
  """
  diffuse = _diffuse(irradiance(m, lamps, s.point, s.normal), s.seen)
  is_metal = s.kind == materials.METAL
  broad = jnp.where(is_metal, m.metal_alpha[1], m.rubber_alpha)
  coat, sharp = _glossy(m, lamps, s, (broad, m.metal_alpha[0]))
  rubber = _rubber(m, s, diffuse, coat)
  reflected = s.normal * (2.0 * s.normal.dot(s.view)) - s.view
  ambient = _bounces(m.metal_ambient, reflected, s)
  out = []
  for albedo, light, soft, shine, mirror, plain, floor in zip(
    *map(_components, (s.albedo, diffuse, coat, sharp, surroundings, rubber)),
    indirect(m, s.covered, s.bounced, m.backdrop_ambient, 0),
    strict=True,
  ):
    backdrop = albedo * (light + floor)
    metal = albedo * (
      m.metal_gain[0] * mirror
      + m.metal_gain[1] * shine
      + m.metal_gain[2] * (soft + ambient)
    )
    color = jnp.where(is_metal, metal, plain)
    out.append(jnp.where(s.kind == materials.BACKDROP, backdrop, color))
  return geometry.Vector(*out)
