"""Procedural textures in the spirit of ClevrTex.

A texture is a mixture of two colors by a smooth pattern in space: stripes,
checks, rings, or warped noise of sines. Objects carry it in their own axes, so
that it turns with them; the backdrop in the world's.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import geometry

_OCTAVES = 3


@flax.struct.dataclass
class Texture:
  """Parameters of textures, [...] each; plain where `strength` is 0.

  Attributes:
    strength: contrast of the second color, in [0, 1].
    color: second color, linear light, (red, green, blue).
    pattern: int32: 0 stripes, 1 checks, 2 rings, 3 noise.
    axis: unit direction of the stripes and rings.
    waves: wave numbers, in radians per object radius (per unit on the floor).
    bend: how far noise bends the pattern, in radians.
    phases: [6] offsets of the noise, each [...].
  """

  strength: jax.Array
  color: geometry.Vector
  pattern: jax.Array
  axis: geometry.Vector
  waves: jax.Array
  bend: jax.Array
  phases: list[jax.Array]


def of_seeds(seeds: jax.Array) -> Texture:
  """Draws textures.

  Args:
    seeds: [O + 1] uint32; the last is the backdrop's, which is kept paler and
      larger so that objects stand out.

  Returns:
    A `Texture` [O + 1].
  """

  def one(seed):
    keys = jax.random.split(jax.random.key(seed), 6)
    return Texture(
      strength=jax.random.uniform(keys[0], minval=0.5, maxval=1.0),
      color=geometry.Vector.of(
        jax.random.uniform(keys[1], (3,), minval=0.02, maxval=0.9)
      ),
      pattern=jax.random.randint(keys[2], (), 0, 4, jnp.int32),
      axis=geometry.Vector.of(jax.random.normal(keys[3], (3,))).unit(),
      waves=jax.random.uniform(keys[4], minval=4.0, maxval=12.0),
      bend=jax.random.uniform(keys[5], maxval=2.0),
      phases=list(
        jax.random.uniform(
          jax.random.fold_in(keys[5], 1), (6,), maxval=2.0 * np.pi
        )
      ),
    )

  drawn: Any = jax.vmap(one)(seeds)
  last = jnp.arange(seeds.shape[0]) == seeds.shape[0] - 1
  return drawn.replace(
    strength=jnp.where(last, 0.7 * drawn.strength, drawn.strength),
    waves=jnp.where(last, 0.35 * drawn.waves, drawn.waves),
  )


def plain(num: int) -> Texture:
  """`num` textures without effect."""
  zero = jnp.zeros(num)
  vector = geometry.Vector(zero, zero, zero)
  return Texture(
    zero, vector, zero.astype(jnp.int32), vector, zero, zero, [zero] * 6
  )


def mix(
  texture: Texture, albedo: geometry.Vector, point: geometry.Vector
) -> geometry.Vector:
  """Colors of textured surfaces.

  Args:
    texture: textures [P].
    albedo: first colors [P].
    point: points [P] in the surface's own axes, in units of its radius.

  Returns:
    Colors [P], linear light in [0, 1].
  """
  p, f = texture.phases, texture.waves
  noise = jnp.zeros_like(point.x)
  x, y, z = point.x, point.y, point.z
  for octave in range(_OCTAVES):
    scale = 0.35 * 2.0**octave
    # Each octave bends the next one's axes.
    x, y, z = (
      x + 0.5 / scale * jnp.sin(scale * y + p[octave]),
      y + 0.5 / scale * jnp.sin(scale * z + p[octave + 1]),
      z + 0.5 / scale * jnp.sin(scale * x + p[octave + 2]),
    )
    noise += 0.6**octave * jnp.sin(scale * f * (x + y - z) + p[octave + 3])
  a = texture.axis
  along = point.x * a.x + point.y * a.y + point.z * a.z
  bent = texture.bend * noise
  stripes = jnp.sin(f * along + bent)
  checks = jnp.sin(0.6 * f * point.x + p[0] + 0.3 * bent) * (
    jnp.sin(0.6 * f * point.y + p[1]) * jnp.sin(0.6 * f * point.z + p[2])
  )
  off = jnp.sqrt(jnp.maximum(point.dot(point) - along * along, 0.0) + 1e-6)
  rings = jnp.sin(f * off + bent)
  wave = jnp.where(texture.pattern == 0, stripes, rings)
  wave = jnp.where(texture.pattern == 1, 2.0 * checks, wave)
  wave = jnp.where(texture.pattern == 3, 1.5 * noise, wave)
  share = texture.strength * jax.nn.sigmoid(4.0 * wave)
  return jax.tree.map(lambda u, v: u + share * (v - u), albedo, texture.color)
