import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from slot_attention_jax.data import procedural
from slot_attention_jax.data.procedural import multi_dsprites
from slot_attention_jax.runtime import mesh as mesh_lib

VARIANTS = ("binarized", "colored_on_grayscale", "colored_on_colored")
RANGES = {VARIANTS[0]: (2, 3), VARIANTS[1]: (2, 5), VARIANTS[2]: (1, 4)}
NUM_SCENES, NUM_DRAWN = 4000, 500


def sample(family, num_scenes, seed=11):
  """Scenes as NumPy arrays [N, ...]."""
  keys = jax.random.split(jax.random.key(seed), num_scenes)
  return jax.device_get(jax.jit(jax.vmap(family.sample))(keys))


def make(family, seed=11, resolution=(64, 64)):
  """(scene, rendering, targets, description) as NumPy arrays [N, ...].

  The rendering is of the first `NUM_DRAWN` scenes.
  """

  @jax.jit
  def run(keys):
    scenes = jax.vmap(family.sample)(keys)
    few = jax.tree.map(lambda x: x[:NUM_DRAWN], scenes)
    return (
      scenes,
      jax.vmap(lambda s: family.render(s, resolution))(few),
      jax.vmap(family.targets)(scenes),
      jax.vmap(lambda s: family.describe(s, resolution))(scenes),
    )

  keys = jax.random.split(jax.random.key(seed), NUM_SCENES)
  return jax.device_get(run(keys))


@pytest.fixture(
  scope="module",
  params=[
    "colored_on_grayscale",
    *(
      pytest.param(variant, marks=pytest.mark.thorough)
      for variant in ("binarized", "colored_on_colored")
    ),
  ],
)
def many(request):
  family = procedural.MultiDSprites(request.param)
  return family, *make(family)


def test_images_of_a_version_stay(many):
  """Raise `MultiDSprites.version` if this fails, and put in the new means."""
  family, _, rendering, *_ = many
  got = rendering.image.mean(axis=(0, 1, 2), dtype=np.float64)
  expected = {
    ("colored_on_grayscale", 1): [-0.009461, -0.008487, -0.005494],
    ("binarized", 1): [-0.804880] * 3,
    ("colored_on_colored", 1): [-0.000028, -0.011938, -0.007962],
  }[family.variant, family.version]
  np.testing.assert_allclose(got, expected, atol=1e-5)


def check_uniform(values, options):
  """`values` are `options`, equally often: p of chi-square above 1e-4."""
  index = np.abs(np.ravel(values)[:, None] - np.asarray(options)).argmin(axis=1)
  np.testing.assert_allclose(values, np.asarray(options)[index], atol=1e-6)
  counts = np.bincount(index, minlength=len(options))
  assert scipy.stats.chisquare(counts).pvalue > 1e-4, counts


# What is drawn.


def test_numbers_of_sprites(many):
  family, scene, *_ = many
  low, high = RANGES[family.variant]
  assert family.max_objects == high
  assert scene.present.shape == (NUM_SCENES, high)
  check_uniform(scene.present.sum(axis=1), np.arange(low, high + 1))
  # The sprites come first.
  assert (scene.present[:, 1:] <= scene.present[:, :-1]).all()


def test_properties_are_uniform_on_the_values_of_dsprites(many):
  family, scene, *_ = many
  for o in range(family.max_objects):
    check_uniform(scene.shape[:, o], np.arange(3))
    check_uniform(scene.scale[:, o], [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    check_uniform(scene.orientation[:, o], np.arange(40) * 2 * np.pi / 39)
    for axis in range(2):
      check_uniform(scene.position[:, o, axis], np.arange(32) / 31)


def test_properties_are_independent(many):
  _, scene, *_ = many
  angle = np.rint(scene.orientation[:, 0] * 39 / (2 * np.pi)).astype(int)
  y, x = np.rint(scene.position[:, 0].T * 31).astype(int)
  # The last bits of the indices too: two draws of one key would share those.
  columns = {
    "number": scene.present.sum(axis=1) - 1,
    "shape": scene.shape[:, 0],
    "scale": np.rint(scene.scale[:, 0] * 10).astype(int) - 5,
    "angle": angle // 4,
    "step of angle": angle % 4,
    "y": y // 4,
    "step of y": y % 4,
    "x": x // 4,
    "step of x": x % 4,
    "red": (scene.color[:, 0, 0] * 3.99).astype(int),
    "background": (scene.background[:, 0] * 3.99).astype(int),
    "next shape": scene.shape[:, -1],
  }
  names = list(columns)
  for i, a in enumerate(names):
    for b in names[:i]:
      table = np.zeros((10, 10))
      np.add.at(table, (columns[a], columns[b]), 1)
      table = table[table.any(axis=1)][:, table.any(axis=0)]
      p = scipy.stats.contingency.chi2_contingency(table).pvalue
      assert p > 1e-5, (a, b, table)


def check_uniform_interval(values, low, high):
  p = scipy.stats.kstest(np.ravel(values), "uniform", (low, high - low)).pvalue
  assert p > 1e-4


def test_colors(many):
  family, scene, *_ = many
  if family.variant == "binarized":
    np.testing.assert_array_equal(scene.color, 1)
    np.testing.assert_array_equal(scene.background, 0)
    return
  if family.variant == "colored_on_colored":
    for c in range(3):
      check_uniform_interval(scene.color[..., c], 0, 1)
      check_uniform_interval(scene.background[:, c], 0, 1)
    assert abs(np.corrcoef(scene.background.T) - np.eye(3)).max() < 0.1
    return
  for c in (1, 2):
    np.testing.assert_array_equal(
      scene.background[:, c], scene.background[:, 0]
    )
  check_uniform_interval(scene.background[:, 0], 0, 1)
  hsv = [colorsys.rgb_to_hsv(*map(float, c)) for c in scene.color[:, 0]]
  hue, saturation, value = np.array(hsv).T
  check_uniform_interval(hue, 0, 1)
  check_uniform_interval(saturation, 0.5, 1)
  check_uniform_interval(value, 0.5, 1)


def test_hsv():
  hsv = np.random.default_rng(0).random((200, 3)).astype(np.float32)
  hsv[:3] = [(0, 0, 0), (1, 1, 1), (0, 1, 1)]
  expected = [colorsys.hsv_to_rgb(*map(float, c)) for c in hsv]
  got = multi_dsprites._hsv_to_rgb(jnp.asarray(hsv))
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_image_segmentation_and_visibility_agree(many):
  family, scene, rendering, *_ = many
  scene = jax.tree.map(lambda x: x[:NUM_DRAWN], scene)
  segmentation = rendering.segmentation
  assert segmentation.dtype == rendering.visibility.dtype == np.int32
  for o in range(family.max_objects):
    pixels = (segmentation == o + 1).sum(axis=(1, 2))
    np.testing.assert_array_equal(rendering.visibility[:, o], pixels)
    np.testing.assert_array_equal(pixels[~scene.present[:, o]], 0)
    # Most of the sprites can be seen, the last one always whole.
    assert (pixels[scene.present[:, o]] > 0).mean() > 0.95
  last = scene.present.sum(axis=1) - 1
  assert rendering.visibility[np.arange(NUM_DRAWN), last].min() > 50
  palette = np.concatenate([scene.background[:, None], scene.color], axis=1)
  each = np.arange(200)[:, None, None]
  expected = 2 * palette[each, segmentation[:200]] - 1
  np.testing.assert_allclose(rendering.image[:200], expected, atol=1e-6)
  assert rendering.image.min() >= -1
  assert rendering.image.max() <= 1


# What is told about it.


def test_targets_and_description_agree(many):
  family, scene, _, targets, described = many
  assert targets.shape == (NUM_SCENES, family.max_objects, 12)
  assert targets.min() >= 0
  assert targets.max() <= 1
  present = scene.present
  np.testing.assert_array_equal(targets[..., -1], present)
  np.testing.assert_array_equal(described["present"], present)
  np.testing.assert_array_equal(targets[~present], 0)
  values = family.layout.decode(targets[present])
  real = {k: v[present] for k, v in described.items()}
  for name, value in described.items():
    np.testing.assert_array_equal(value[~present], 0, err_msg=name)
  np.testing.assert_allclose(values["coords"][:, 0], real["y"], atol=1e-6)
  np.testing.assert_allclose(values["coords"][:, 1], real["x"], atol=1e-6)
  np.testing.assert_array_equal(values["shape"] + 1, real["shape"])
  assert described["shape"].dtype == np.int32
  assert set(real["shape"]) == {1, 2, 3}
  np.testing.assert_allclose(values["scale"][:, 0], real["scale"], atol=1e-6)
  cos, sin = values["orientation"].T
  np.testing.assert_allclose(cos, np.cos(real["orientation"]), atol=1e-6)
  np.testing.assert_allclose(sin, np.sin(real["orientation"]), atol=1e-6)
  channels = 1 if family.variant == "binarized" else 3
  assert described["color"].shape == (NUM_SCENES, family.max_objects, channels)
  expected = np.broadcast_to(real["color"], values["color"].shape)
  np.testing.assert_allclose(values["color"], expected, atol=1e-6)


@pytest.mark.thorough
def test_shapes_are_static_and_keys_typed():
  family = procedural.MultiDSprites(num_objects=(3, 7))
  key = jax.eval_shape(lambda: jax.random.key(0))
  scene = jax.eval_shape(family.sample, key)
  assert scene.background.shape == (3,)
  rows = jax.tree.leaves(scene.replace(background=None))
  assert {a.shape[0] for a in rows} == {7}
  rendering = jax.eval_shape(lambda s: family.render(s, (20, 30)), scene)
  assert rendering.image.shape == (20, 30, 3)
  assert rendering.visibility.shape == (7,)
  assert jax.eval_shape(family.targets, scene).shape == (7, 12)
  # Without jit and vmap the same scene.
  one = family.sample(jax.random.split(jax.random.key(11), 4)[2])
  for got, rows in zip(
    jax.tree.leaves(one), jax.tree.leaves(sample(family, 4)), strict=True
  ):
    np.testing.assert_allclose(got, rows[2], atol=1e-6)


@pytest.mark.thorough
def test_batches_on_1_and_4_devices():
  batches = []
  for devices in (1, 4):
    mesh = jax.make_mesh(
      (devices,),
      ("data",),
      axis_types=(jax.sharding.AxisType.Auto,),
      devices=jax.devices()[:devices],
    )
    data = procedural.SceneDataset(
      procedural.MultiDSprites(),
      split="train",
      batch_size=8,
      sharding=mesh_lib.batch_sharding(mesh),
    )
    batches.append(jax.device_get(data.batch(3)))
  assert data.info.name == "multi_dsprites_scenes"
  assert data.info.image_shape == (64, 64, 3)
  assert batches[0]["target"].shape == (8, 5, 12)
  for name, value in batches[0].items():
    np.testing.assert_array_equal(value, batches[1][name], err_msg=name)


# What is refused.


@pytest.mark.parametrize(
  "numbers",
  [
    (0, 2),
    (3, 2),
    (1, 17),
    (0, 0),
    (-1, 2),
    (2,),
    (1, 2, 3),
    4,
    (1.0, 2),
    "ab",
  ],
)
def test_bad_numbers_of_sprites(numbers):
  with pytest.raises(ValueError, match=r"1 <= lo <= hi <= 16, got") as e:
    procedural.MultiDSprites("binarized", num_objects=numbers)
  assert repr(numbers) in str(e.value)
  assert "(2, 3)" in str(e.value)


def test_good_numbers_of_sprites():
  for numbers in ((1, 1), (16, 16), [np.int32(2), 9]):
    family = procedural.MultiDSprites(num_objects=numbers)
    assert family.max_objects == numbers[1]
    assert hash(family) == hash(
      procedural.MultiDSprites(num_objects=tuple(map(int, numbers)))
    )
  present = sample(procedural.MultiDSprites(num_objects=(4, 4)), 50).present
  assert present.all()
  present = sample(procedural.MultiDSprites(num_objects=(1, 16)), 2000).present
  check_uniform(present.sum(axis=1), np.arange(1, 17))


def test_other_errors():
  with pytest.raises(ValueError, match=r"'binarized'.*got 'colored'"):
    procedural.MultiDSprites("colored")
  family = procedural.MultiDSprites(num_objects=(1, 1))
  scene = jax.eval_shape(family.sample, jax.random.key(0))
  for method in (family.render, family.describe):
    with pytest.raises(ValueError, match=r"at least \(1, 1\), got \(0, 64\)"):
      jax.eval_shape(lambda s, method=method: method(s, (0, 64)), scene)
