"""Renders CLEVR scenes: rays, shadows, reflections and antialiased edges."""

import jax
import jax.numpy as jnp

from slot_attention_jax.data.procedural import scene_family
from slot_attention_jax.data.procedural.clevr import (
  lighting,
  passes,
  scene,
  smoothing,
  srgb,
  surfaces,
  tiles,
  tracing,
)
from slot_attention_jax.data.procedural.clevr import materials as materials_lib
from slot_attention_jax.data.procedural.clevr import view as view_lib


def render(
  s: scene.Scene,
  resolution: tuple[int, int],
  view: view_lib.View,
  materials: materials_lib.Materials = materials_lib.FITTED,
  textured: bool = False,
) -> scene_family.Rendering:
  """Renders a scene.

  Args:
    s: the scene.
    resolution: (H, W) in pixels.
    view: the part of the camera's frame to show.
    materials: constants of the lamps and materials.
    textured: whether objects and backdrop have textures, sampled from
      `Scene.texture_seed`.

  Returns:
    A `Rendering`. The segmentation is what the ray through a pixel's center
    hits; the image is antialiased along outlines.

  Raises:
    ValueError: on an empty resolution or frame.
  """
  scene_family.check_resolution(resolution)
  bodies = surfaces.get_bodies(s)
  grid = tiles.Grid(resolution)
  camera = view_lib.get_camera(s, resolution, view)
  seen = tracing.see(grid, bodies, camera)
  light = passes.light(
    grid,
    materials,
    textured,
    seen,
    bodies,
    surfaces.get_objects(s, bodies, textured),
    lighting.get_lamps(s, bodies),
    camera,
  )
  # Already clipped, so that antialiased edges stay smooth at highlights.
  linear = jnp.stack([grid.image(x) for x in (light.x, light.y, light.z)])
  seen = jax.tree.map(grid.image, seen)
  linear = smoothing.smooth(linear, seen)
  image = 2.0 * srgb.to_srgb(linear) - 1.0
  segmentation = seen.index + 1
  numbers = jnp.arange(1, s.present.shape[0] + 1, dtype=jnp.int32)
  return scene_family.Rendering(
    image=jnp.moveaxis(image, 0, -1),
    segmentation=segmentation,
    # A loop, so that XLA does not store a mask of every object.
    visibility=jax.lax.map(
      lambda number: (segmentation == number).sum(dtype=jnp.int32), numbers
    ),
  )


def segment(
  s: scene.Scene, resolution: tuple[int, int], view: view_lib.View
) -> jax.Array:
  """Renders the segmentation only: that of `render`, [H, W] int32."""
  scene_family.check_resolution(resolution)
  grid = tiles.Grid(resolution)
  seen = tracing.see(
    grid, surfaces.get_bodies(s), view_lib.get_camera(s, resolution, view)
  )
  return grid.image(seen.index) + 1
