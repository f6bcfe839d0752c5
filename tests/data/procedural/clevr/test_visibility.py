import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data import types
from slot_attention_jax.data.procedural.clevr import (
  sampling,
  scene,
  visibility,
)

visible_pixels = jax.jit(visibility.visible_pixels)


@pytest.fixture(scope="module")
def drawn():
  """A scene of 6 objects."""
  draw = jax.jit(
    lambda key: sampling.sample(key, num_objects=(6, 6), max_objects=6)
  )
  return draw(jax.random.key(0))


class TestScene:
  def test_points_lie_where_the_generator_says(self, calibration):
    project = jax.vmap(lambda c, p: scene.project(c, p, (240, 320)))
    got = project(calibration["camera"], calibration["coords"])
    got = np.asarray(got)[calibration["present"]]
    expected = calibration["pixel_coords"][calibration["present"]]
    # The generator rounds columns and rows.
    np.testing.assert_allclose(got[:, :2], expected[:, :2], atol=0.502)
    np.testing.assert_allclose(got[:, 2], expected[:, 2], rtol=1e-5)

  def test_height_sets_the_scale_of_a_tall_image(self):
    points = jnp.asarray([[1.0, 0.5, 0.7]])
    wide, tall = (
      scene.project(jnp.asarray(scene.CAMERA), points, size)[0]
      for size in ((240, 320), (320, 240))
    )
    np.testing.assert_allclose(tall[:2] - wide[:2], [-40, 40], atol=1e-3)

  def test_palette_is_in_the_order_of_the_labels(self):
    labels = types.CLEVR_LAYOUT["color"].labels
    rgb = dict(zip(labels, (255 * scene.PALETTE).round().tolist(), strict=True))
    assert rgb["brown"] == [129, 74, 25]
    assert rgb["cyan"] == [41, 208, 208]
    assert rgb["gray"] == [87, 87, 87]

  @pytest.mark.thorough
  def test_degrees_are_read_as_radians(self, drawn):
    s = drawn
    assert np.max(s.angle) < 2 * math.pi < np.max(s.rotation)
    np.testing.assert_allclose(np.cos(s.angle), np.cos(s.rotation), atol=2e-4)

  @pytest.mark.thorough
  def test_radius_is_the_height_of_the_center(self, drawn):
    np.testing.assert_array_equal(drawn.radius, drawn.coords[:, 2])
    assert len(np.unique(drawn.size)) == 2


class TestVisiblePixels:
  def test_equal_to_masks(self, calibration):
    """The original meshes' exact masks, with all their occlusions."""
    names = ("camera", "coords", "rotation", "shape")
    args = [calibration[name] for name in names]
    radius = np.float32(scene.RADII)[calibration["size"]]
    real = calibration["present"]
    estimate = jax.jit(jax.vmap(visibility.visible_pixels))
    pixels = np.asarray(estimate(*args, radius, real))
    exact = calibration["num_pixels"][real]
    error = (pixels[real] - exact) / exact
    assert np.abs(error).mean() < 0.008
    assert abs(error.mean()) < 0.003
    assert np.abs(pixels[real] - exact)[exact < 400].max() < 25
    for shape in range(3):
      assert abs(error[calibration["shape"][real] == shape].mean()) < 0.005

  def test_spheres_by_their_rays(self):
    """Spheres in each other's way, by the rays of all pixels, in NumPy."""
    rng = np.random.default_rng(0)
    camera = np.array(scene.CAMERA)
    right, up, forward = map(np.asarray, scene.camera_axes(jnp.asarray(camera)))
    rows, columns = np.mgrid[:240, :320] + 0.5
    focal = 350.0  # 35 mm lens, 32 mm sensor on 320 pixels.
    rays = (
      forward
      + (columns - 160)[..., None] / focal * right
      - (rows - 120)[..., None] / focal * up
    )
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    got, expected = [], []
    for _ in range(8):
      size = rng.integers(0, 2, 10)
      radius = np.array(scene.RADII)[size]
      # On a grid, so that they do not meet.
      cells = rng.permutation(16)[:10]
      floor = np.stack([cells // 4, cells % 4], -1) * 1.6 - 2.4
      coords = np.concatenate([floor, radius[:, None]], -1)
      middle = rays @ (coords - camera).T  # [H, W, O]
      square = ((coords - camera) ** 2).sum(-1) - radius**2
      distance = middle - np.sqrt(np.maximum(middle**2 - square, 0))
      distance = np.where(middle**2 > square, distance, np.inf)
      first = np.where(np.isfinite(distance.min(-1)), distance.argmin(-1), -1)
      expected.append([(first == i).sum() for i in range(10)])
      got.append(
        visible_pixels(
          *(np.asarray(a, np.float32) for a in (camera, coords)),
          np.zeros(10, np.float32),
          np.ones(10, np.int32),
          np.asarray(radius, np.float32),
          np.ones(10, bool),
        )
      )
    got, expected = np.array(got), np.array(expected)
    assert (expected < 200).any()
    np.testing.assert_allclose(got, expected, rtol=0.02, atol=15)
    assert abs(got.sum() / expected.sum() - 1) < 0.005

  def test_outside_the_image_is_not_seen(self):
    coords = jnp.asarray([[9.0, 0.0, 0.7], [0.0, 0.0, 0.7]])
    args = (jnp.zeros(2), jnp.zeros(2, jnp.int32), jnp.full(2, 0.7))
    present = jnp.ones(2, bool)
    camera = jnp.asarray(scene.CAMERA)
    pixels = visible_pixels(camera, coords, *args, present)
    assert pixels[0] == 0
    assert pixels[1] > 1000
