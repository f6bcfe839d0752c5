"""Shadows against rays to points of the lamps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data.procedural.clevr import (
  annotations,
  geometry,
  lighting,
  surfaces,
)

# Half sides of the lamps and half the angle of the sun; not the fitted ones, so
# that the test is of the method.
HALF_SIZE = np.array([0.3, 0.35, 0.5, 0.1], np.float32)
# The method takes lamps for discs and measures penumbrae behind an object's
# center, not behind the edge that throws them: both make them too narrow.
WIDER = 1.3
NUM_POINTS = 1500
NUM_SAMPLES = 196


def scene_of(*objects):
  items = [
    {
      "3d_coords": [x, y, radius],
      "rotation": 20.0,
      "size": "large" if radius == 0.7 else "small",
      "shape": shape,
      "material": "rubber",
      "color": "red",
    }
    for shape, x, y, radius in objects
  ]
  return annotations.parse_scene({"objects": items}, max_objects=3)


def vector(array):
  return geometry.Vector.of(jnp.asarray(array, jnp.float32))


@jax.jit
def visibility(scene, point, owner):
  lamps = lighting.get_lamps(scene, surfaces.get_bodies(scene))
  return jnp.stack(lighting.visibility(lamps, point, owner, WIDER * HALF_SIZE))


def seen_of(scene, points, owner=None):
  if owner is None:
    owner = np.full(len(points), -1, np.int32)
  return np.asarray(visibility(scene, vector(points), jnp.asarray(owner)))


@jax.jit
def blocked(scene, point, towards, limit):
  """Whether an object is nearer than `limit` along rays [P, S]."""
  bodies = surfaces.get_bodies(scene)
  each = jax.tree.map(lambda x: x[:, None, None], bodies)
  point, towards = jax.tree.map(lambda x: x[None], (point, towards))
  hit = geometry.intersect(each, point, towards)
  return (hit < limit[None]).any(axis=0)


def sampled(scene, points):
  """Shares [4, P] of the square lamps, and of the sun's disc, that are seen."""
  side = int(np.sqrt(NUM_SAMPLES))
  steps = (np.arange(side) + 0.5) / side * 2 - 1
  u, v = (x.ravel() for x in np.meshgrid(steps, steps))
  angle, r = np.pi * (u + 1), np.sqrt((v + 1) / 2)
  out = []
  for j in range(4):
    lamps = (scene.key_light, scene.fill_light, scene.back_light, lighting.SUN)
    center = np.asarray(lamps[j], np.float64)
    axis = center / np.linalg.norm(center)
    across = np.cross(axis, [0, 0, 1])
    across /= np.linalg.norm(across)
    up = np.cross(across, axis)
    a, b = (u, v) if j < 3 else (r * np.cos(angle), r * np.sin(angle))
    spot = HALF_SIZE[j] * (a[:, None] * across + b[:, None] * up)
    origin = points[:, None]
    if j < 3:
      towards = center + spot[None] - origin
    else:
      towards = np.broadcast_to(axis + spot, (len(points), *spot.shape))
    length = np.linalg.norm(towards, axis=-1, keepdims=True)
    limit = length[..., 0] if j < 3 else np.full(towards.shape[:2], 1e3)
    hidden = blocked(
      scene,
      vector(np.broadcast_to(origin, towards.shape)),
      vector(towards / length),
      jnp.asarray(limit, jnp.float32),
    )
    out.append(1.0 - np.asarray(hidden).mean(axis=1))
  return np.stack(out)


@pytest.mark.thorough
@pytest.mark.parametrize(
  "shape",
  [
    "cube",
    *(
      pytest.param(shape, marks=pytest.mark.thorough)
      for shape in ("sphere", "cylinder")
    ),
  ],
)
def test_shadows_on_the_floor(shape):
  scene = scene_of((shape, 0.2, -0.3, 0.7))
  rng = np.random.default_rng(1)
  points = np.concatenate(
    [rng.uniform(-4, 4, (NUM_POINTS, 2)), np.zeros((NUM_POINTS, 1))], axis=1
  )
  under = np.hypot(points[:, 0] - 0.2, points[:, 1] + 0.3) < 1.05
  points = points[~under]
  expected, got = sampled(scene, points), seen_of(scene, points)
  for j in range(4):
    dark, partly = expected[j] == 0, (expected[j] > 0) & (expected[j] < 1)
    light = expected[j] == 1
    # The sun's core shadow is all below the sphere.
    assert dark.sum() > 5 or j == 3, j
    assert partly.sum() > 5, j
    assert got[j][dark].sum() <= 0.02 * dark.sum(), j
    assert got[j][light].mean() > 0.999, j
    assert np.abs(got[j] - expected[j])[partly].mean() < 0.07, j


@pytest.mark.thorough
def test_padding_casts_no_shadow():
  rng = np.random.default_rng(2)
  points = rng.uniform((-3, -3, 0), (3, 3, 2), (200, 3))
  np.testing.assert_array_equal(seen_of(scene_of(), points), 1.0)
  # Padding between objects, and a present one for contrast.
  scene = scene_of(("sphere", 0.0, 0.0, 0.7), ("cube", 2.0, 1.0, 0.7))
  one = scene_of(("sphere", 0.0, 0.0, 0.7))
  alone = scene.replace(present=np.array([True, False, False]))
  got = seen_of(alone, points)
  np.testing.assert_array_equal(got, seen_of(one, points))
  assert (got < 0.5).any()
  assert (got != seen_of(scene, points)).any()


def test_objects_cast_no_shadow_on_themselves():
  scene = scene_of(("sphere", 0.0, 0.0, 0.7), ("sphere", -1.5, 0.6, 0.35))
  rng = np.random.default_rng(3)
  away = rng.normal(size=(400, 3))
  away /= np.linalg.norm(away, axis=1, keepdims=True)
  first = np.array([0.0, 0.0, 0.7]) + 0.7 * away
  second = np.array([-1.5, 0.6, 0.35]) + 0.35 * away
  alone = scene.replace(present=np.array([True, False, False]))
  owner = np.zeros(400, np.int32)
  np.testing.assert_array_equal(seen_of(alone, first, owner), 1.0)
  # The key lamp's side hides the small sphere from it.
  shaded = seen_of(scene, second, owner + 1)
  assert shaded[0].min() < 0.05
  itself = scene.replace(present=np.array([False, True, False]))
  np.testing.assert_array_equal(seen_of(itself, second, owner + 1), 1.0)
  assert seen_of(itself, second, owner - 1).min() < 0.5


@pytest.mark.thorough
def test_shadows_multiply():
  points = np.array([[-2.2, 1.0, 0.0], [-2.0, 0.8, 0.1], [-1.5, 0.9, 0.0]])
  a, b = ("sphere", 0.0, 0.0, 0.7), ("cylinder", -0.8, 1.2, 0.7)
  both = seen_of(scene_of(a, b), points)
  each = seen_of(scene_of(a), points) * seen_of(scene_of(b), points)
  np.testing.assert_allclose(both, each, atol=1e-5)
  assert (both < 0.9).any()


@pytest.mark.thorough
def test_no_shadow_between_lamp_and_object():
  scene = scene_of(("sphere", 0.0, 0.0, 0.7))
  center = np.array([0.0, 0.0, 0.7])
  lamps = (scene.key_light, scene.fill_light, scene.back_light)
  for j, lamp in enumerate(lamps):
    share = np.array([[0.3], [0.6], [0.8], [1.3]])
    got = seen_of(scene, lamp + share * (center - lamp))[j]
    np.testing.assert_array_equal(got, [1, 1, 1, 0])


@pytest.fixture(scope="module")
def near(crowds):
  """Shadows near balls of 64 points each: the pairs, and what they leave."""
  scene = jax.tree.map(lambda x: x[:2], crowds)

  @jax.jit
  def compute(scene, center, points):
    lamps = jax.vmap(lambda s: lighting.get_lamps(s, surfaces.get_bodies(s)))(
      scene
    )
    radius = jnp.full(center.x.shape, 0.3)
    pairs = jax.vmap(lighting.pairs_near)(lamps, center, radius)
    owner = jnp.full(points.x.shape[1:], -1, jnp.int32).reshape(-1)
    each = jax.tree.map(lambda x: x.reshape(2, -1), points)
    expected = jax.vmap(lighting.visibility, (0, 0, None))(lamps, each, owner)
    rows = jax.tree.map(lambda x: x.reshape(-1, 64), points)
    image = jnp.repeat(jnp.arange(2, dtype=jnp.int32), 40)
    got = lighting.visibility_of_pairs(
      lamps, image, pairs.reshape(80, -1), rows
    )
    return pairs, jnp.stack(expected), jnp.stack(got)

  rng = np.random.default_rng(4)
  center = rng.uniform((-4, -4, 0), (4, 4, 0.5), (2, 40, 3))
  away = rng.normal(size=(2, 40, 64, 3))
  away *= 0.3 / np.linalg.norm(away, axis=-1, keepdims=True)
  points = center[:, :, None] + away
  pairs, expected, got = compute(scene, vector(center), vector(points))
  return (
    scene,
    np.asarray(pairs),
    np.asarray(expected).reshape(4, 2, 40, 64),
    np.asarray(got).reshape(4, 2, 40, 64),
  )


@pytest.mark.thorough
def test_shadows_nearby_are_all_shadows(near):
  _, _, expected, got = near
  assert (expected < 0.5).mean() > 0.05
  np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.thorough
def test_few_shadows_are_near(near):
  scene, pairs, _, _ = near
  present = np.repeat(scene.present, 4, axis=-1)
  assert not pairs[:, :, :][
    np.broadcast_to(~present[:, None], pairs.shape)
  ].any()
  # Of up to 40; the others cost nothing.
  assert 1.0 < pairs.sum(axis=-1).mean() < 0.4 * present.sum(axis=-1).mean()
