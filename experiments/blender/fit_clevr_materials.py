"""Fits the lamps and materials of the CLEVR renderer to Blender's renderings.

Prints `materials.FITTED`. Only pixels away from outlines are used, so that
errors in the geometry do not influence the fit:

  python -m experiments.blender.fit_clevr_materials --data=IMAGES.npz \
    --scenes=SCENES.json

The files are those of `compare_with_blender.py`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from slot_attention_jax.data.procedural.clevr import (
  annotations,
  geometry,
  lighting,
  shading,
  srgb,
  surfaces,
  tiles,
  view,
)
from slot_attention_jax.data.procedural.clevr import materials as materials_lib

_DATA = flags.DEFINE_string("data", None, "Images and masks.", required=True)
_SCENES = flags.DEFINE_string("scenes", None, "Their scenes.", required=True)
_LIMIT = flags.DEFINE_integer("limit", 0, "Number of scenes; 0: all.")
_STEPS = flags.DEFINE_integer("steps", 3000, "Number of optimization steps.")
_PIXELS = flags.DEFINE_integer(
  "pixels", 3000, "Pixels of objects, and of the backdrop, per image."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed for choosing pixels and batches.")
_SIZE = (240, 320)
# Larger errors, in gray levels, count linearly: they are at highlights.
_LARGE = 60.0


def _interior(mask: np.ndarray) -> np.ndarray:
  """Whether the eight neighbors of each pixel show the same object."""
  same = np.ones_like(mask, bool)
  for y in (-1, 0, 1):
    for x in (-1, 0, 1):
      same &= np.roll(mask, (y, x), (0, 1)) == mask
  same[[0, -1]] = same[:, [0, -1]] = False
  return same


@jax.jit
def _surfaces(s, columns, rows):
  """Surfaces at pixels of an image, and those that they mirror."""
  size = _SIZE
  bodies = surfaces.get_bodies(s)
  lamps = lighting.get_lamps(s, bodies)
  objects = surfaces.get_objects(s, bodies, False)
  others = bodies, jax.tree.map(lambda x: x[:-1], objects.albedo)
  camera = view.get_camera(s, size, view.View(frame=size))

  width = jnp.sqrt(camera.column.dot(camera.column))

  def hit(origin, direction, owner):
    distance, index = geometry.intersect_nearest(
      bodies, origin, direction, owner
    )
    here = jax.tree.map(lambda x: x[index], objects)
    return index, surfaces.surface_at(
      here, others, lamps, origin, direction, distance, index, False, width
    )

  nobody = jnp.full(columns.shape, -1, jnp.int32)
  index, surface = hit(camera.eye, tiles.rays(camera, columns, rows), nobody)
  back = surface.view
  mirror = surface.normal * (2.0 * surface.normal.dot(back)) - back
  _, mirrored = hit(surface.point, mirror, index)
  return lamps, surface, mirrored, index + 1


def _samples(images, masks, scenes, rng):
  """What the fit needs of P pixels of each of S images, stacked: [S, P]."""
  rows = []
  for image, mask, item in zip(images, masks, scenes, strict=True):
    inside = _interior(mask)
    picks = []
    for places in (inside & (mask > 0), inside & (mask == 0)):
      picks.append(rng.choice(np.flatnonzero(places), _PIXELS.value))
    y, x = np.divmod(np.concatenate(picks), mask.shape[1])
    lamps, surface, mirrored, seen = _surfaces(
      annotations.parse_scene(item),
      jnp.asarray(x + 0.5, jnp.float32),
      jnp.asarray(y + 0.5, jnp.float32),
    )
    agree = np.asarray(seen) == mask[y, x]
    color = image[y, x].astype(np.float32).T  # [3, P]
    rows.append((lamps, surface, mirrored, color, agree))
  return jax.tree.map(lambda *x: np.stack(x), *rows)


def _predict(materials, lamps, surface, mirrored):
  surroundings = shading.mirrored(materials, lamps, mirrored)
  light = shading.radiance(materials, lamps, surface, surroundings)
  light = jnp.stack([light.x, light.y, light.z])
  # Keeps a gradient where the light is clipped.
  over = jnp.maximum(light - 1.0, 0.0)
  return 255.0 * srgb.to_srgb(light) + 5.0 * over


def _loss(materials, samples):
  lamps, surface, mirrored, color, agree = samples
  predicted = jax.vmap(_predict, (None, 0, 0, 0))(
    materials, lamps, surface, mirrored
  )
  error = jnp.abs(predicted - color)
  weight = jnp.where(surface.kind == materials_lib.BACKDROP, 0.3, 1.0) * agree
  return (weight[:, None] * jnp.minimum(error, _LARGE) * error).mean()


def main(argv):
  """Fits the constants; prints them and the error for each material."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  rng = np.random.default_rng(_SEED.value)
  with np.load(_DATA.value) as data, open(_SCENES.value) as file:
    limit = _LIMIT.value or None
    images, masks = data["image"][:limit], data["mask"][:limit]
    if images.shape[1:3] != _SIZE:
      raise ValueError(f"Expected images of {_SIZE}, got {images.shape}.")
    samples = _samples(images, masks, json.load(file)[:limit], rng)
  materials = jax.tree.map(jnp.asarray, materials_lib.FITTED)
  optimizer = optax.adam(optax.cosine_decay_schedule(0.01, _STEPS.value))

  @jax.jit
  def step(materials, state, batch):
    loss, gradient = jax.value_and_grad(_loss)(materials, batch)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(materials, updates), state, loss

  state = optimizer.init(materials)
  for i in range(_STEPS.value):
    some = rng.choice(len(images), 8, replace=False)
    pixels = rng.choice(2 * _PIXELS.value, 1500, replace=False)

    def pick(x, some=some, pixels=pixels):
      per_pixel = x.shape[-1] == 2 * _PIXELS.value
      return x[some][..., pixels] if per_pixel else x[some]

    batch = jax.tree.map(pick, samples)
    materials, state, loss = step(materials, state, batch)
    if i % 500 == 0:
      print(f"step {i}: loss {float(loss):.2f}", flush=True)
  lamps, surface, mirrored, color, agree = samples
  predict = jax.jit(jax.vmap(_predict, (None, 0, 0, 0)))
  error = np.asarray(predict(materials, lamps, surface, mirrored)) - color
  for kind, name in enumerate(("backdrop", "rubber", "metal")):
    chosen = agree & (np.asarray(surface.kind) == kind)
    squares = np.square(np.moveaxis(error, 1, -1)[chosen])
    print(
      f"{name}: root mean square error {np.sqrt(squares.mean()):.2f} of 255"
    )
  for field, value in vars(materials).items():
    print(f"  {field}={np.round(np.asarray(value), 4).tolist()},")


if __name__ == "__main__":
  app.run(main)
