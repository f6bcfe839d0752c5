"""Tiles against all pixels and all objects."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data.procedural.clevr import (
  geometry,
  surfaces,
  tiles,
  tracing,
  view,
)

# Neither is a multiple of a tile's side.
RESOLUTION = (75, 100)
FINE = 6
NUM_SCENES = 12


@pytest.fixture(scope="module")
def scenes(crowds):
  return jax.tree.map(lambda x: x[:NUM_SCENES], crowds)


def get_camera(scene, resolution):
  return view.get_camera(scene, resolution, view.View())


def look(scene):
  """What is seen, as images [H, W]."""
  grid = tiles.Grid(RESOLUTION)
  bodies = surfaces.get_bodies(scene)
  seen = tracing.see(grid, bodies, get_camera(scene, RESOLUTION))
  return jax.tree.map(grid.image, seen)


@pytest.fixture(scope="module")
def seen(scenes):
  return jax.device_get(jax.jit(jax.vmap(look))(scenes))


def brute_force(scene, resolution):
  """Distances [O, H, W] of all objects at all pixels."""
  camera = get_camera(scene, resolution)
  x, y = (jnp.arange(size) + 0.5 for size in reversed(resolution))
  rays = tiles.rays(camera, x[None], y[:, None])
  each = jax.tree.map(lambda v: v[:, None, None], surfaces.get_bodies(scene))
  rays = jax.tree.map(lambda v: v[None], rays)
  return geometry.intersect(each, camera.eye, rays)


@pytest.mark.thorough
def test_nearest_objects(scenes, seen):
  distance = jax.device_get(
    jax.jit(jax.vmap(lambda s: brute_force(s, RESOLUTION)))(scenes)
  )
  nearest = distance.min(axis=1)
  index = np.where(nearest < geometry.FAR, distance.argmin(axis=1), -1)
  assert seen.index.shape == (NUM_SCENES, *RESOLUTION)
  # Sums in another order: a ray that grazes an object may go either way.
  same = seen.index == index
  assert (~same).sum() <= 3
  # Near a silhouette the distance changes fast from ray to ray.
  np.testing.assert_allclose(seen.distance[same], nearest[same], rtol=1e-3)
  assert len(np.unique(index)) >= 10


@pytest.mark.thorough
def test_single_scene_equals_batched(scenes, seen):
  one = jax.jit(look)
  for n in (0, 3):
    got = one(jax.tree.map(lambda x, n=n: x[n], scenes))
    np.testing.assert_array_equal(got.index, seen.index[n])
    np.testing.assert_allclose(got.distance, seen.distance[n], rtol=1e-4)
    np.testing.assert_allclose(got.cover, seen.cover[n], atol=1e-2)


@pytest.mark.thorough
def test_shares_of_edge_pixels(scenes, seen):
  """`cover` and `beside` are shares of the pixel, as rays tell them."""
  fine = tuple(FINE * size for size in RESOLUTION)
  for n in range(4):
    scene = jax.tree.map(lambda x, n=n: x[n], scenes)
    hits = np.asarray(jax.jit(brute_force, static_argnums=1)(scene, fine))
    share = (hits < geometry.FAR).reshape(
      -1, RESOLUTION[0], FINE, RESOLUTION[1], FINE
    )
    share = share.mean(axis=(2, 4))  # [O, H, W]
    for index, got, edge in (
      (seen.index[n], seen.cover[n], seen.cover[n] < 1),
      (seen.beside_index[n], seen.beside[n], seen.beside[n] > 0),
    ):
      own = np.take_along_axis(share, np.maximum(index, 0)[None], axis=0)[0]
      partly = (index >= 0) & (own > 0) & (own < 1)
      assert partly.sum() > 20
      assert np.abs(got - own)[partly].mean() < 0.06
      # Elsewhere there is nothing to mix.
      assert np.abs(got - own)[edge & (index >= 0)].mean() < 0.06
    nothing = seen.index[n] < 0
    np.testing.assert_array_equal(seen.cover[n][nothing], 1.0)


@pytest.mark.parametrize("resolution", [(1, 1), (8, 16), (37, 53), (240, 320)])
def test_image_of_tiles(resolution):
  grid = tiles.Grid(resolution)
  x, y = grid.pixels()
  assert x.shape == y.shape == (grid.num_tiles, tiles.SIDE**2)
  rows, columns = np.indices(resolution) + 0.5
  np.testing.assert_array_equal(grid.image(x), columns)
  np.testing.assert_array_equal(grid.image(y), rows)
  number = jnp.arange(x.size, dtype=jnp.int32).reshape(x.shape)
  np.testing.assert_array_equal(grid.places(number), (x, y))
  assert grid.num_tiles == -(-resolution[0] // 8) * -(-resolution[1] // 8)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_work_on_flagged_rows(share):
  num = 333  # Several chunks, the last not full.
  flags = np.random.default_rng(0).random(num) < share
  start = jnp.full((num, 2), -1.0)
  got = jax.jit(
    lambda f: tiles.for_flagged(
      f, lambda item: jnp.stack([item, 2 * item], -1).astype(jnp.float32), start
    )
  )(jnp.asarray(flags))
  row = np.arange(num)
  expected = np.where(flags[:, None], np.stack([row, 2 * row], -1), -1)
  np.testing.assert_array_equal(got, expected)


def test_order_is_that_of_argsort():
  keys = np.random.default_rng(0).integers(-40, 2, 500)
  got = jax.jit(tiles.order)(jnp.asarray(keys, jnp.int32))
  np.testing.assert_array_equal(got, np.argsort(keys, kind="stable"))


def at_nodes_and_pixels():
  """Columns and rows: of the nodes [T, N], of the pixels [T, S]."""
  grid = tiles.Grid((24, 40))
  nodes = grid.nodes(jnp.arange(grid.num_tiles, dtype=jnp.int32))
  return jax.device_get((nodes, grid.pixels()))


@pytest.mark.parametrize("axis", [0, 1])
def test_interpolation_keeps_its_bound(axis):
  """`|f - p| <= max |f^(n)| / (2^(n - 1) n!)`, along columns and rows."""
  nodes, pixels = at_nodes_and_pixels()
  n = tiles.NUM_NODES[axis]
  half = tiles.SIDE / 2
  for wave in (0.5, 1.0, 2.0):  # All derivatives of the cosine are <= wave^n.
    at_node, expected = (
      np.cos(wave * v[axis] / half + 0.3) for v in (nodes, pixels)
    )
    error = np.abs(tiles.interpolate([at_node])[0] - expected).max()
    bound = wave**n / (2 ** (n - 1) * math.factorial(n))
    assert 0.3 * bound - 1e-5 < error <= bound + 1e-5


def test_interpolation_of_polynomials_is_exact():
  nodes, pixels = at_nodes_and_pixels()
  columns, rows = tiles.NUM_NODES

  def polynomial(x, y):
    return (x / 40) ** (columns - 1) * (y / 24) ** (rows - 1)

  values = {"a": polynomial(*nodes), "b": np.ones_like(nodes[0])}
  got = tiles.interpolate(values)
  np.testing.assert_allclose(got["a"], polynomial(*pixels), atol=1e-5)
  np.testing.assert_allclose(got["b"], 1.0, atol=1e-5)
