import itertools
import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from slot_attention_jax.data.procedural.clevr import (
  placement,
  sampling,
  scene,
  visibility,
)

NUM_SCENES = 4096
# Seeds are fixed; when the draws change, a test fails by chance alone with
# about this probability.
ALPHA = 1e-3
RADII = np.array([0.35, 0.7])
AXES = np.array([scene.RIGHT[:2], scene.BEHIND[:2]])


def draw(num, seed=0, **options):
  """Scenes as NumPy arrays [num, ...]."""
  make = jax.jit(jax.vmap(lambda key: sampling.sample(key, **options)))
  keys = jax.random.split(jax.random.key(seed), num)
  return jax.tree.map(np.asarray, make(keys))


def count(s):
  """Estimated visible pixels [num, O] of scenes, and of each object alone."""

  def one(*args):
    alone = jax.vmap(visibility.visible_pixels, in_axes=(*[None] * 5, 0))
    *rest, present = args
    each = jnp.eye(present.shape[0], dtype=bool) & present[:, None]
    return visibility.visible_pixels(*args), jnp.diagonal(alone(*rest, each))

  args = (s["camera"], s["coords"], s["rotation"], s["shape"])
  radius = RADII[s["size"]].astype(np.float32)
  pixels, alone = jax.jit(jax.vmap(one))(*args, radius, s["present"])
  return np.asarray(pixels), np.asarray(alone)


def fields(s):
  names = ("camera", "coords", "rotation", "shape", "size", "present")
  return {name: getattr(s, name) for name in names}


def gaps(coords, present):
  """For pairs of one scene: offset along the axes, and distance."""
  points = coords[present][:, :2]
  i, j = np.triu_indices(len(points), 1)
  offset = (points[i] - points[j]).astype(np.float64)
  return np.abs(offset @ AXES.T), np.linalg.norm(offset, axis=1), (i, j)


def check_rules(s, margin):
  for n in range(len(s.present)):
    along, distance, (i, j) = gaps(s.coords[n], s.present[n])
    radius = s.coords[n, s.present[n], 2]
    assert along.min(initial=np.inf) >= margin - 1e-5
    edges = distance - radius[i] - radius[j]
    assert edges.min(initial=np.inf) >= 0.25 - 1e-5


def nearest(coords, present):
  points = coords[present][:, :2]
  distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
  return (distance + 99 * np.eye(len(points))).min(axis=1)


@pytest.fixture(scope="module")
def many():
  return draw(NUM_SCENES)


@pytest.fixture(scope="module")
def few():
  return draw(64)


@pytest.fixture(
  params=["few", pytest.param("many", marks=pytest.mark.thorough)]
)
def drawn(request):
  return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def counted(many):
  """Visible pixels of the objects of `many`, and of each alone."""
  return count(fields(many))


class TestRules:
  def test_objects_stand_apart(self, drawn):
    check_rules(drawn, 0.4)

  def test_few_ranges(self, few):
    floor = few.coords[few.present][:, :2]
    assert -3 <= floor.min() < -2.8
    assert 2.8 < floor.max() <= 3
    np.testing.assert_allclose(
      few.coords[few.present][:, 2], RADII[few.size[few.present]]
    )
    assert set(few.present.sum(axis=1).tolist()) == set(range(3, 11))
    for name, num in (("material", 2), ("shape", 3), ("color", 8), ("size", 2)):
      values = getattr(few, name)[few.present]
      assert set(values.tolist()) == set(range(num)), name

  @pytest.mark.thorough
  def test_ranges(self, many):
    real = many.present
    floor = many.coords[real][:, :2]
    assert -3 <= floor.min() < -2.95
    assert 2.95 < floor.max() <= 3
    np.testing.assert_allclose(many.coords[real][:, 2], RADII[many.size[real]])
    assert 0 <= many.rotation[real].min() < 1
    assert 359 < many.rotation[real].max() < 360
    assert many.texture_seed.shape == (NUM_SCENES, 11)
    assert many.texture_seed.dtype == np.uint32
    assert len(np.unique(many.texture_seed)) > 0.999 * NUM_SCENES * 11

  def test_objects_come_first_and_padding_is_zero(self, drawn):
    np.testing.assert_array_equal(
      drawn.present, np.sort(drawn.present, axis=1)[:, ::-1]
    )
    for name in ("coords", "rotation", "size", "material", "shape", "color"):
      assert not getattr(drawn, name)[~drawn.present].any(), name

  @pytest.mark.thorough
  def test_every_object_of_few_scenes_can_be_seen(self, few):
    pixels, _ = count(fields(few))
    assert pixels[few.present].min() >= 200

  @pytest.mark.thorough
  def test_every_object_can_be_seen(self, many, counted):
    pixels, _ = counted
    least = np.where(many.present, pixels, 9999).min(axis=1)
    assert least.min() >= 200
    # There are scenes near the bound: no more is asked than the rule does.
    assert np.quantile(least, 0.05) < 260

  @pytest.mark.thorough
  def test_counts_are_uniform(self, many):
    counts = np.bincount(many.present.sum(axis=1), minlength=11)
    assert counts[:3].sum() == 0
    assert scipy.stats.chisquare(counts[3:]).pvalue > ALPHA

  @pytest.mark.thorough
  def test_number_is_kept_though_most_attempts_fail(self):
    s = draw(64, num_objects=(10, 10))
    assert s.present.all()
    check_rules(s, 0.4)

  @pytest.mark.thorough
  @pytest.mark.parametrize("pair", [(14, 14, 0.2), (16, 16, 0.1)])
  def test_many_objects_have_room(self, pair):
    lo, hi, margin = pair
    s = draw(32, num_objects=(lo, hi), max_objects=16)
    assert (s.present.sum(axis=1) == lo).all()
    check_rules(s, margin)
    pixels, _ = count(fields(s))
    assert pixels[s.present].min() >= 200

  @pytest.mark.thorough
  def test_margin_of_the_axes_not_of_x_and_y(self, many):
    offsets = [
      np.abs(np.diff(c[p][:2, :2], axis=0))
      for c, p in zip(many.coords, many.present, strict=True)
    ]
    assert np.concatenate(offsets).min() < 0.02


@pytest.mark.thorough
class TestProperties:
  def test_looks_are_uniform_and_independent(self, many):
    real = many.present
    looks = {n: getattr(many, n)[real] for n in ("material", "color")}
    for name, values in looks.items():
      assert scipy.stats.chisquare(np.bincount(values)).pvalue > ALPHA, name
    looks |= {n: getattr(many, n)[real] for n in ("shape", "size")}
    for a, b in itertools.combinations(looks, 2):
      if {a, b} != {"shape", "size"}:
        table = np.zeros((8, 8))
        np.add.at(table, (looks[a], looks[b]), 1)
        table = table[table.any(axis=1)][:, table.any(axis=0)]
        assert scipy.stats.chi2_contingency(table).pvalue > ALPHA, (a, b)

  def test_rotation_is_uniform(self, many):
    values = many.rotation[many.present] / 360
    assert scipy.stats.kstest(values, "uniform").pvalue > ALPHA

  def test_objects_of_a_scene_are_independent(self, many):
    for name in ("material", "color"):
      first, second = getattr(many, name)[:, :2].T
      table = np.zeros((8, 8))
      np.add.at(table, (first, second), 1)
      table = table[table.any(axis=1)][:, table.any(axis=0)]
      assert scipy.stats.chi2_contingency(table).pvalue > ALPHA, name

  @pytest.mark.parametrize("name", ["camera", "key", "fill", "back"])
  def test_jitter_is_uniform(self, many, name):
    attribute = name if name == "camera" else f"{name}_light"
    width = 0.5 if name == "camera" else 1.0
    base = getattr(scene, attribute.upper())
    shift = (getattr(many, attribute) - np.float32(base)) / width
    assert np.abs(shift).max() <= 1 + 1e-5
    for i in range(3):
      test = scipy.stats.kstest(shift[:, i], "uniform", args=(-1, 2))
      assert test.pvalue > ALPHA, i
    assert np.abs(np.corrcoef(shift.T) - np.eye(3)).max() < 0.06

  def test_colors_of_cogent(self):
    allowed = np.ones((3, 8), bool)
    allowed[0, 4:] = False  # Cubes: gray, blue, brown, yellow.
    allowed[2, :4] = False  # Cylinders: the others.
    s = draw(512, num_objects=(3, 5), shape_color_allowed=allowed)
    for shape in range(3):
      colors = s.color[s.present & (s.shape == shape)]
      counts = np.bincount(colors, minlength=8)
      assert not counts[~allowed[shape]].any()
      assert scipy.stats.chisquare(counts[allowed[shape]]).pvalue > ALPHA


class TestDeterminism:
  @pytest.mark.thorough
  def test_same_key_same_scene_whatever_the_batch(self, many):
    keys = jax.random.split(jax.random.key(0), NUM_SCENES)
    jitted = jax.jit(sampling.sample)
    for n in (0, 7, 4000):
      one = jitted(keys[n])
      again = jitted(keys[n])
      for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(again, name), name)
        # Another batch size may round the jitter differently.
        np.testing.assert_allclose(
          value, getattr(many, name)[n], rtol=1e-6, atol=1e-6, err_msg=name
        )

  @pytest.mark.thorough
  def test_scenes_differ(self, many):
    assert len(np.unique(many.coords[:, 0, 0])) > 0.9 * NUM_SCENES
    assert len(np.unique(many.camera[:, 0])) > 0.99 * NUM_SCENES

  @pytest.mark.thorough
  def test_nested_vmap(self):
    keys = jax.random.split(jax.random.key(3), 6)

    def sample(key):
      return sampling.sample(key, num_objects=(3, 4), max_objects=4)

    flat = jax.jit(jax.vmap(sample))(keys)
    nested = jax.jit(jax.vmap(jax.vmap(sample)))(keys.reshape(2, 3))
    np.testing.assert_array_equal(
      nested.coords.reshape(flat.coords.shape), flat.coords
    )

  @pytest.mark.thorough
  def test_first_valid_attempt_is_taken(self):
    rules = placement.Rules(max_objects=10, margin=0.4, min_pixels=200)
    keys = jax.random.split(jax.random.key(5), 24)
    num = jnp.full((24,), 9, jnp.int32)
    camera = jnp.broadcast_to(jnp.asarray(scene.CAMERA), (24, 3))
    chosen = jax.jit(jax.vmap(placement.search(rules)))(keys, camera, num)

    @jax.jit
    def scores(attempt):
      return jax.vmap(
        lambda k, c, n: placement._score(k, attempt, c, n, rules)
      )(keys, camera, num)

    valid = (
      np.stack([scores(jnp.int32(a)) for a in range(24)]) >= rules.min_estimate
    )
    known = valid.any(axis=0)
    assert known.sum() > 20
    assert (np.asarray(chosen)[known] > 2).any()
    np.testing.assert_array_equal(
      np.asarray(chosen)[known], valid.argmax(axis=0)[known]
    )

  @pytest.mark.thorough
  def test_best_attempt_stands_if_all_fail(self, monkeypatch):
    monkeypatch.setattr(placement, "_ATTEMPTS", 5)
    rules = placement.Rules(max_objects=3, margin=0.4, min_pixels=9000)
    keys = jax.random.split(jax.random.key(6), 4)
    num = jnp.full((4,), 3, jnp.int32)
    camera = jnp.broadcast_to(jnp.asarray(scene.CAMERA), (4, 3))
    chosen = jax.vmap(placement.search(rules))(keys, camera, num)
    score = jax.jit(
      jax.vmap(
        lambda k, a, c, n: placement._score(k, a, c, n, rules), (0, None, 0, 0)
      )
    )
    scores = [score(keys, jnp.int32(a), camera, num) for a in range(5)]
    np.testing.assert_array_equal(chosen, np.argmax(scores, axis=0))


def original(num, rng):
  """`add_random_objects`, transcribed: [(x, y, r)] without properties."""
  directions = [
    [sign * axis[0], sign * axis[1]]
    for axis in (scene.RIGHT, scene.BEHIND)
    for sign in (1, -1)
  ]
  while True:
    positions = []
    for _ in range(num):
      r = rng.choice([0.35, 0.7])
      for _ in range(50):
        x, y = rng.uniform(-3, 3), rng.uniform(-3, 3)
        good = all(
          math.hypot(x - xx, y - yy) - r - rr >= 0.25
          and not any(
            0 < (x - xx) * d[0] + (y - yy) * d[1] < 0.4 for d in directions
          )
          for xx, yy, rr in positions
        )
        if good:
          positions.append((x, y, r))
          break
      else:
        break
    if len(positions) == num:
      return positions


@pytest.mark.thorough
class TestOriginal:
  @pytest.mark.parametrize("num", [4, 9])
  @pytest.mark.parametrize("min_pixels", [0, 200])
  def test_transcription_of_the_original(self, num, min_pixels):
    rng = random.Random(num)
    total = 700
    theirs = np.array([original(num, rng) for _ in range(total)], np.float32)
    size = (theirs[..., 2] > 0.5).astype(np.int32)
    shape = np.random.default_rng(0).integers(0, 3, size.shape, np.int32)
    present = np.ones(size.shape, bool)
    ours = draw(
      total, num_objects=(num, num), max_objects=num, min_pixels=min_pixels
    )
    if min_pixels:
      turn = np.random.default_rng(1).uniform(0, 360, size.shape)
      s = {"camera": ours.camera, "coords": theirs, "size": size}
      s |= {"shape": shape, "rotation": np.float32(turn), "present": present}
      seen = (count(s)[0] >= min_pixels).all(axis=1)
      theirs, size, shape = theirs[seen], size[seen], shape[seen]
    for i in (0, num - 1):  # The last has to take what room is left.
      for axis in range(2):
        a, b = (c[:, i, :2] @ AXES[axis] for c in (theirs, ours.coords))
        assert scipy.stats.ks_2samp(a, b).pvalue > ALPHA, (i, axis)
      table = [
        np.bincount(labels[:, i], minlength=2) for labels in (size, ours.size)
      ]
      assert scipy.stats.chi2_contingency(table).pvalue > ALPHA, i
    near = [
      np.array([nearest(c, np.ones(num, bool)).min() for c in coords])
      for coords in (theirs, ours.coords)
    ]
    assert scipy.stats.ks_2samp(*near).pvalue > ALPHA
    shapes = [np.bincount(x.ravel()) for x in (shape, ours.shape)]
    assert scipy.stats.chi2_contingency(shapes).pvalue > ALPHA

  def test_scenes_of_the_original_generator(self, many, counted, calibration):
    """40 scenes and as many of ours for each as there are of its number."""
    number = many.present.sum(axis=1)
    theirs, ours = {}, {}
    pixels, alone = count(calibration)
    real = calibration["present"]
    exact = calibration["num_pixels"]
    theirs["pixels"] = exact[real]
    # Both by the estimate: a mask's error would tell them apart near 0.
    theirs["hidden"] = 1 - (pixels / np.maximum(alone, 1))[real]
    our_pixels, our_alone = counted
    share = our_pixels / np.maximum(our_alone, 1)
    rows = np.concatenate(
      [np.flatnonzero(number == n)[:40] for n in calibration["num_objects"]]
    )
    present = many.present[rows]
    ours["pixels"] = our_pixels[rows][present]
    ours["hidden"] = 1 - share[rows][present]
    for name, data, mask in (
      ("theirs", calibration["coords"], real),
      ("ours", many.coords[rows], present),
    ):
      into = theirs if name == "theirs" else ours
      into["x"], into["y"] = data[mask][:, 0], data[mask][:, 1]
      into["right"], into["behind"] = AXES @ data[mask][:, :2].T
      into["nearest"] = np.concatenate(
        [nearest(c, p) for c, p in zip(data, mask, strict=True)]
      )
    theirs["rotation"] = calibration["rotation"][real]
    ours["rotation"] = many.rotation[rows][present]
    for name in theirs:
      # Objects of a scene are not independent, hence a smaller level.
      test = scipy.stats.ks_2samp(theirs[name], ours[name])
      assert test.pvalue > ALPHA / 10, name
    for name in ("size", "shape", "material", "color"):
      values = getattr(many, name)[rows][present]
      table = [
        np.bincount(calibration[name][real]),
        np.bincount(values),
      ]
      assert scipy.stats.chi2_contingency(table).pvalue > ALPHA, name
    assert pixels[real].mean() == pytest.approx(exact[real].mean(), rel=0.01)


class TestErrors:
  @pytest.mark.parametrize(
    ("options", "message"),
    [
      ({"num_objects": (0, 3)}, "1 <= lo"),
      ({"num_objects": (5, 3)}, "1 <= lo"),
      ({"num_objects": (3, 17), "max_objects": 17}, "<= 16"),
      ({"num_objects": (3, 12)}, "max_objects of at least 12"),
      ({"margin": 0.5}, "0.4"),
      ({"num_objects": (16, 16), "max_objects": 16, "margin": 0.4}, "fewer"),
      ({"min_pixels": 5000}, "200"),
      ({"shape_color_allowed": np.ones((8, 3), bool)}, "rows are cube"),
      ({"shape_color_allowed": np.ones((3, 8))}, "dtype bool"),
      ({"shape_color_allowed": np.zeros((3, 8), bool)}, "at least one"),
    ],
  )
  def test_what_is_wrong_is_said(self, options, message):
    with pytest.raises(ValueError, match=message):
      jax.eval_shape(
        lambda key: sampling.sample(key, **options), jax.random.key(0)
      )
