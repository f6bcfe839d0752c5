"""Procedural textures in the spirit of ClevrTex.

A texture blends two colors by a smooth pattern in space: stripes, checks,
rings, or warped noise made of sines. On objects it is defined in the object's
axes and turns with it; on the backdrop in world axes.
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
  """Parameters of textures; all fields are [...].

  Attributes:
    strength: largest weight of the second color, in [0, 1]; 0: no texture.
    color: second color, linear light, (red, green, blue).
    pattern: int32: 0 stripes, 1 checks, 2 rings, 3 noise.
    axis: unit direction of the stripes and rings.
    waves: wave numbers, in radians per object radius, on the backdrop per unit
      of length.
    bend: how far noise bends the pattern, in radians.
    phases: 6 phases of the noise, each [...].
  """

  strength: jax.Array
  color: geometry.Vector
  pattern: jax.Array
  axis: geometry.Vector
  waves: jax.Array
  bend: jax.Array
  phases: list[jax.Array]


def sample(seeds: jax.Array) -> Texture:
  """Samples textures.

  Args:
    seeds: [O + 1] uint32; the last is the backdrop's, whose texture has less
      contrast and is coarser, so that objects stand out.

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
  """Creates `num` textures without effect."""
  zero = jnp.zeros(num)
  vector = geometry.Vector(zero, zero, zero)
  return Texture(
    zero, vector, zero.astype(jnp.int32), vector, zero, zero, [zero] * 6
  )


def mix(
  texture: Texture, albedo: geometry.Vector, point: geometry.Vector
) -> geometry.Vector:
  """Computes the colors of textured surfaces.

  Args:
    texture: textures [P].
    albedo: first colors [P].
    point: points [P] in the object's axes, in units of its radius.

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
