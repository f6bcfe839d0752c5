"""Pictures of CLEVR scenes: rays, shadows, reflections and smooth edges."""

import jax
import jax.numpy as jnp

from slot_attention_jax.data.procedural import scenes
from slot_attention_jax.data.procedural.clevr import (
  geometry,
  lighting,
  scene,
  shading,
  smoothing,
  surfaces,
  tiles,
)
from slot_attention_jax.data.procedural.clevr import materials as materials_lib
from slot_attention_jax.data.procedural.clevr import view as view_lib


def render(
  s: scene.Scene,
  resolution: tuple[int, int],
  view: view_lib.View,
  materials: materials_lib.Materials = materials_lib.FITTED,
  textured: bool = False,
) -> scenes.Rendering:
  """Renders a scene.

  Args:
    s: the scene.
    resolution: (H, W) in pixels.
    view: the part of the camera's frame to show.
    materials: constants of light and materials.
    textured: whether objects and backdrop carry the textures of their seeds.

  Returns:
    A `Rendering`; the segmentation says what the ray through a pixel's center
    hits, the image is antialiased along outlines.

  Raises:
    ValueError: on an empty resolution or frame.
  """
  scenes.check_resolution(resolution)
  bodies = surfaces.get_bodies(s)
  grid = tiles.Grid(resolution)
  camera = view_lib.get_camera(s, resolution, view)
  seen = tiles.see(grid, bodies, camera)
  rays = tiles.rays(camera, *grid.pixels())
  objects = surfaces.get_objects(s, bodies, textured)
  lamps = lighting.get_lamps(s, bodies)
  surface = surfaces.surface_at(
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
  surroundings = tiles.batched(surfaces.mirror, materials, textured)(
    surface, seen.index, bodies, objects, lamps
  )
  light = shading.radiance(materials, lamps, surface, surroundings)
  # Clipped before it is mixed, so that edges stay smooth at highlights. In a
  # loop, so that XLA computes the light once, in the order of the tiles, and
  # not again for every pixel that reads it; clipping twice changes nothing.
  light = jax.lax.fori_loop(
    0,
    2,
    lambda _, v: jax.tree.map(lambda x: jnp.clip(x, 0.0, 1.0), v),
    light,
  )
  picture = jnp.stack([grid.picture(x) for x in _components(light)])
  pictures = jax.tree.map(grid.picture, seen)
  picture = smoothing.smooth(picture, pictures)
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
  s: scene.Scene, resolution: tuple[int, int], view: view_lib.View
) -> jax.Array:
  """The segmentation of `render` alone, [H, W] int32."""
  scenes.check_resolution(resolution)
  grid = tiles.Grid(resolution)
  seen = tiles.see(
    grid, surfaces.get_bodies(s), view_lib.get_camera(s, resolution, view)
  )
  return grid.picture(seen.index) + 1


def _components(v: geometry.Vector) -> tuple[jax.Array, ...]:
  return v.x, v.y, v.z
