"""Where the sprites of Multi-dSprites are drawn, and in which order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data import procedural
from slot_attention_jax.data.procedural import multi_dsprites


def scene_of(sprites, background=(0.0, 0.0, 0.0)):
  """A scene of (shape, scale, orientation, y, x); the colors are shades."""
  shape, scale, orientation, y, x = map(np.array, zip(*sprites, strict=True))
  shades = np.linspace(0.3, 1.0, len(sprites))[:, None] * np.ones(3)
  float32 = [scale, orientation, np.stack([y, x], -1), shades, background]
  scale, orientation, position, shades, background = (
    jnp.asarray(a, jnp.float32) for a in float32
  )
  return multi_dsprites.Scene(
    present=jnp.ones(len(sprites), bool),
    shape=jnp.asarray(shape, jnp.int32),
    scale=scale,
    orientation=orientation,
    position=position,
    color=shades,
    background=background,
  )


render = jax.jit(
  lambda family, scene, resolution: family.render(scene, resolution),
  static_argnums=(0, 2),
)


def draw(sprites, resolution=(64, 64)):
  family = procedural.MultiDSprites(num_objects=(1, len(sprites)))
  return jax.device_get(render(family, scene_of(sprites), resolution))


def outline(shape):
  """Corners [N, 2] (x, y downwards) of an upright sprite of scale 1."""
  if shape == 0:
    return 0.15 * np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
  if shape == 1:
    t = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    return np.stack([0.2 * np.cos(t), 0.1125 * np.sin(t)], axis=-1)
  # Right half of the heart from the tip up the flank, over the lobe, to the
  # notch; 2.15 x + y = 0.275 meets x + y = 0.1315 and then the lobe's edge.
  x = (0.275 - 0.1315) / 1.15
  flank = [(0, 0.1315), (x, 0.1315 - x), (0.149, 0.275 - 2.15 * 0.149)]
  end = -np.pi + np.arcsin((0.087 - 0.071) / 0.074)
  t = np.linspace(0, end, 4000)
  lobe = np.stack([0.075 + 0.074 * np.cos(t), -0.071 + 0.074 * np.sin(t)], -1)
  half = np.concatenate([flank, lobe, [(0, -0.087)]])
  return np.concatenate([half, half[::-1] * (-1, 1)])


def oracle(sprite, resolution):
  """Even-odd test at pixel centers: mask [H, W], distance to the outline."""
  shape, scale, angle, y, x = sprite
  turn = np.array(
    [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
  )  # Counter-clockwise to the eye: y is downwards.
  center = 0.25 + 0.5 * np.array([x, y])
  corners = scale * outline(shape) @ turn.T + center
  h, w = resolution
  py, px = np.meshgrid(
    (np.arange(h) + 0.5) / h, (np.arange(w) + 0.5) / w, indexing="ij"
  )
  inside, distance = np.zeros((h, w), bool), np.full((h, w), np.inf)
  for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
    crosses = (a[1] > py) != (b[1] > py)
    if crosses.any():
      at = a[0] + (py - a[1]) * (b[0] - a[0]) / (b[1] - a[1])
      inside ^= crosses & (px < at)
    d = b - a
    length = d @ d
    t = ((px - a[0]) * d[0] + (py - a[1]) * d[1]) / max(length, 1e-30)
    t = np.clip(t, 0, 1)
    gap = np.hypot(px - a[0] - t * d[0], py - a[1] - t * d[1])
    distance = np.minimum(distance, gap)
  return inside, distance


@pytest.mark.parametrize(
  "shape", [0, 1, pytest.param(2, marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize(
  "resolution",
  [
    (48, 80),
    pytest.param((64, 64), marks=pytest.mark.thorough),
    pytest.param((160, 200), marks=pytest.mark.thorough),
  ],
)
def test_masks_are_the_points_in_the_outline(shape, resolution):
  for scale, turns, y, x in (
    (1.0, 0, 0, 31),
    (0.7, 7, 12, 20),
    (0.5, 33, 5, 9),
  ):
    sprite = (shape, scale, turns * 2 * np.pi / 39, y / 31, x / 31)
    got = draw([sprite], resolution).segmentation == 1
    expected, distance = oracle(sprite, resolution)
    assert expected.sum() > 30
    # Only what rounding may put on either side of the outline differs.
    assert (distance[got != expected] < 1e-6).all()


# Pixels of dSprites' sprites at scales 0.5, 0.6, ... 1, upright at (0, 0).
DSPRITES_PIXELS = {
  0: ((100, 144, 196, 256, 324, 400), 0),
  1: ((76, 104, 144, 184, 228, 288), 4),
  2: ((58, 84, 108, 140, 182, 222), 6),
}


@pytest.mark.parametrize("shape", range(3))
def test_sizes_are_those_of_dsprites(shape):
  expected, tolerance = DSPRITES_PIXELS[shape]
  for scale, pixels in zip(np.arange(5, 11) / 10, expected, strict=True):
    got = draw([(shape, scale, 0.0, 0.0, 0.0)]).visibility[0]
    assert abs(got - pixels) <= tolerance, scale


def centroid(mask):
  return (np.argwhere(mask) + 0.5).mean(axis=0)


def test_positions_and_turns_are_those_of_dsprites():
  for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
    for shape in (0, 1):
      mask = draw([(shape, 0.8, 0.0, y, x)]).segmentation
      np.testing.assert_allclose(centroid(mask), (16 + 32 * y, 16 + 32 * x))
  # Center of a heart's pixels after k steps of 2 pi / 39: turning to the left.
  pixels = {0: (14.07, 16.0), 10: (16.17, 14.1), 20: (17.99, 16.13)}
  for k, expected in pixels.items():
    mask = draw([(2, 1.0, k * 2 * np.pi / 39, 0.0, 0.0)]).segmentation
    np.testing.assert_allclose(centroid(mask), expected, atol=0.15)


def test_sprites_lie_wholly_on_the_canvas():
  for shape in range(3):
    for angle in np.linspace(0, 2 * np.pi, 40):
      mask = draw([(shape, 1.0, angle, 0.0, 1.0)]).segmentation
      edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
      assert not np.concatenate(edges).any()


def test_later_sprites_cover_earlier_ones():
  middle = (0, 1.0, 0.0, 0.5, 0.5)
  small = (0, 0.5, 0.0, 0.5, 0.5)
  rendering = draw([middle, small])
  assert rendering.visibility.tolist() == [300, 100]
  assert rendering.segmentation[32, 32] == 2
  np.testing.assert_allclose(rendering.image[32, 32], 1.0)
  np.testing.assert_allclose(rendering.image[24, 24], 2 * 0.3 - 1, atol=1e-6)
  # Wholly hidden: counted as such, and in no pixel.
  rendering = draw([small, middle])
  assert rendering.visibility.tolist() == [0, 400]
  assert set(np.unique(rendering.segmentation)) == {0, 2}


@pytest.mark.thorough
def test_padding_is_never_drawn():
  family = procedural.MultiDSprites(num_objects=(1, 2))
  both = scene_of([(0, 0.5, 0.0, 0.0, 0.0), (0, 1.0, 0.0, 1.0, 1.0)])
  one = both.replace(present=jnp.array([True, False]))
  assert family.render(both, (64, 64)).visibility.tolist() == [100, 400]
  rendering = family.render(one, (64, 64))
  assert rendering.visibility.tolist() == [100, 0]
  assert int(rendering.segmentation.max()) == 1


def examples(family, number, resolution=(64, 64)):
  """(rendering, description) of a few scenes, as NumPy arrays."""

  @jax.jit
  @jax.vmap
  def one(key):
    scene = family.sample(key)
    return family.render(scene, resolution), family.describe(scene, resolution)

  return jax.device_get(one(jax.random.split(jax.random.key(11), number)))


@pytest.mark.thorough
def test_same_image_at_twice_the_resolution():
  family = procedural.MultiDSprites("colored_on_colored")
  small = examples(family, 50)[0]
  large = examples(family, 50, (128, 128))[0]
  seen = 0
  for n, o in np.argwhere(small.visibility > 60):
    a = small.segmentation[n] == o + 1
    b = large.segmentation[n] == o + 1
    np.testing.assert_allclose(centroid(b) / 2, centroid(a), atol=0.3)
    assert abs(b.sum() / 4 / a.sum() - 1) < 0.1
    seen += 1
  assert seen > 80
  # Every other pixel's center lies within half a pixel of the small image's.
  same = large.segmentation[:, ::2, ::2] == small.segmentation
  assert same.mean() > 0.97


def test_description_is_where_and_what_is_seen():
  family = procedural.MultiDSprites(num_objects=(1, 1))
  rendering, described = examples(family, 100)
  for n in range(100):
    mask = rendering.segmentation[n] == 1
    center = 16 + 32 * np.array([described["y"][n, 0], described["x"][n, 0]])
    # A heart's center of mass is not the point it turns about.
    atol = 2.6 if described["shape"][n, 0] == 3 else 0.3
    np.testing.assert_allclose(centroid(mask), center, atol=atol)
    at = tuple(np.argwhere(mask)[0])
    expected = 2 * described["color"][n, 0] - 1
    np.testing.assert_allclose(rendering.image[n][at], expected, atol=1e-6)
