import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data.procedural import scenes, tetrominoes
from slot_attention_jax.runtime import mesh as mesh_lib

FAMILY = tetrominoes.Tetrominoes()
NUM_SCENES = 2000


def mesh(num_devices):
  return jax.make_mesh(
    (num_devices,),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:num_devices],
  )


def dataset(num_devices=4, *, split="train", family=FAMILY, **options):
  options = {"batch_size": 8} | options
  if split != "train":
    options = {"num_examples": 10} | options
  over_batch = mesh_lib.batch_sharding(mesh(num_devices))
  return scenes.SceneDataset(
    family, split=split, sharding=over_batch, **options
  )


@pytest.fixture(scope="module")
def many():
  """2,000 scenes: (scene, rendering, targets), as NumPy arrays."""

  @jax.jit
  @jax.vmap
  def make(key):
    scene = FAMILY.sample(key)
    return scene, FAMILY.render(scene, (35, 35)), FAMILY.targets(scene)

  return jax.device_get(make(jax.random.split(jax.random.key(7), NUM_SCENES)))


# Tetrominoes.


def test_images_of_a_version_stay(many):
  """Raise `Tetrominoes.version` if this fails, and put in the new means."""
  got = many[1].image.mean(axis=(0, 1, 2), dtype=np.float64)
  expected = {1: [-0.755755, -0.756245, -0.754694]}[FAMILY.version]
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_pieces_are_complete_and_do_not_overlap(many):
  # A piece off the canvas or under another would show fewer than 4 * 5 * 5
  # pixels, or the segmentation fewer than the piece itself.
  _, rendering, _ = many
  np.testing.assert_array_equal(rendering.visibility, 100)
  for i in range(4):
    counts = (rendering.segmentation == i).sum(axis=(1, 2))
    np.testing.assert_array_equal(counts, 100 if i else 35 * 35 - 300)


def test_pieces_are_tetrominoes_at_their_corner(many):
  scene, rendering, _ = many
  shapes = tetrominoes._SHAPE_GRID
  assert len({s.tobytes() for s in shapes}) == 19
  for n in range(50):
    for o in range(3):
      canvas = np.zeros((35, 35), bool)
      row, column = scene.corner[n, o]
      cells = shapes[scene.shape[n, o]].repeat(5, axis=0).repeat(5, axis=1)
      h, w = np.argwhere(cells).max(axis=0) + 1
      canvas[row : row + h, column : column + w] = cells[:h, :w]
      np.testing.assert_array_equal(rendering.segmentation[n] == o + 1, canvas)


def test_frequencies(many):
  scene, _, _ = many
  total = 3 * NUM_SCENES
  colors = np.bincount(scene.color.ravel(), minlength=6)
  assert colors.size == 6
  assert np.abs(colors - total / 6).max() < 5 * np.sqrt(total / 6)
  # Without the condition on overlap shapes would be uniform; with it compact
  # ones come more often, the straight ones less.
  shapes = np.bincount(scene.shape.ravel(), minlength=19)
  assert shapes.size == 19
  assert np.abs(shapes / (total / 19) - 1).max() < 0.6
  # All objects of a scene are alike: none is preferred by the rejection.
  for o in range(3):
    own = np.bincount(scene.shape[:, o], minlength=19)
    assert np.abs(own - shapes / 3).max() < 5 * np.sqrt(NUM_SCENES / 19)
  # Every place of a square is used, about equally often by halves.
  square = list(tetrominoes._SHAPES).index("O0")
  corners = scene.corner[scene.shape == square]
  assert corners.min() == 0
  assert corners.max() == 25
  for axis in range(2):
    low = (corners[:, axis] <= 12).mean()
    assert abs(low - 0.5) < 0.12
    # Pieces keep apart, so the border is preferred, but not by far.
    places = np.bincount(corners[:, axis] // 2, minlength=13) / len(corners)
    assert places.max() < 3 / 13


def test_image_segmentation_and_targets_agree(many):
  scene, rendering, targets = many
  values = FAMILY.layout.decode(targets)
  np.testing.assert_array_equal(values["confidence"], 1)
  np.testing.assert_array_equal(values["shape"], scene.shape)
  np.testing.assert_array_equal(values["color"], scene.color)
  palette = {
    "red": (1, -1, -1),
    "green": (-1, 1, -1),
    "blue": (-1, -1, 1),
    "yellow": (1, 1, -1),
    "magenta": (1, -1, 1),
    "cyan": (-1, 1, 1),
  }
  labels = FAMILY.layout["color"].labels
  colors = np.array([palette[name] for name in labels])[values["color"]]
  background = np.full((NUM_SCENES, 1, 3), -1)
  palettes = np.concatenate([background, colors], axis=1)  # [B, 1 + O, 3]
  expected = palettes[
    np.arange(NUM_SCENES)[:, None, None], rendering.segmentation
  ]
  np.testing.assert_array_equal(rendering.image, expected)
  # The target's position is the center of the bounding box, in pixels.
  for n in range(50):
    for o in range(3):
      at = np.argwhere(rendering.segmentation[n] == o + 1)
      center = (at.min(axis=0) + at.max(axis=0) + 1) / 2
      np.testing.assert_allclose(values["coords"][n, o], center, atol=1e-4)


@pytest.mark.thorough
def test_step_of_the_positions():
  data = dataset(
    family=tetrominoes.Tetrominoes(num_objects=2, step=5), batch_size=64
  )
  batch = jax.device_get(data.batch(0))
  assert batch["target"].shape == (64, 2, 28)
  corners = [
    np.argwhere(s == o).min(axis=0)
    for s in batch["segmentation"]
    for o in (1, 2)
  ]
  np.testing.assert_array_equal(np.array(corners) % 5, 0)
  assert np.max(corners) == 30


def test_other_resolutions(many):
  scene = jax.tree.map(lambda x: x[:4], many[0])
  whole = many[1].segmentation[:4]
  for h, w in ((70, 105), (7, 14)):
    render = jax.vmap(lambda s, size=(h, w): FAMILY.render(s, size))
    got = jax.device_get(jax.jit(render)(scene))
    assert got.image.shape == (4, h, w, 3)
    # Each pixel shows the canvas unit that holds its center.
    rows = ((np.arange(h) + 0.5) * 35 / h).astype(int)
    columns = ((np.arange(w) + 0.5) * 35 / w).astype(int)
    np.testing.assert_array_equal(
      got.segmentation, whole[:, rows][:, :, columns]
    )
    seen = [(got.segmentation == o).sum(axis=(1, 2)) for o in (1, 2, 3)]
    np.testing.assert_array_equal(got.visibility, np.stack(seen, axis=1))


def test_family_errors():
  for number in (0, 4):
    with pytest.raises(ValueError, match=f"1 to 3 tetrominoes.*got {number}"):
      tetrominoes.Tetrominoes(num_objects=number)
  for step in (0, 6):
    with pytest.raises(ValueError, match=f"step of 1 to 5, got {step}"):
      tetrominoes.Tetrominoes(step=step)
  scene = tetrominoes.Scene(
    *(jnp.zeros(s, jnp.int32) for s in ((3,), (3,), (3, 2)))
  )
  with pytest.raises(ValueError, match=r"at least \(1, 1\), got \(35, 0\)"):
    FAMILY.render(scene, (35, 0))


# Batches.


def check_equal(a, b):
  assert set(a) == set(b)
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def training():
  return dataset()


@pytest.fixture(scope="module")
def evaluation():
  return dataset(split="validation")


def test_info(training, evaluation):
  info = training.info
  assert (info.name, info.split) == ("tetrominoes_scenes", "train")
  assert info.image_shape == (35, 35, 3)
  assert (info.max_objects, info.layout) == (3, FAMILY.layout)
  assert info.has_segmentation
  assert info.own_scenes
  assert info.scenes_version == FAMILY.version
  assert info.num_examples is None
  assert training.num_batches is None
  assert evaluation.info.num_examples == 10
  assert evaluation.num_batches == 2
  assert dataset(resolution=(14, 21)).info.image_shape == (14, 21, 3)


def test_batches_are_sharded_and_complete(training):
  batch = training.batch(0)
  assert {k: v.shape for k, v in batch.items()} == {
    "image": (8, 35, 35, 3),
    "segmentation": (8, 35, 35),
    "target": (8, 3, 28),
  }
  assert batch["segmentation"].dtype == jnp.int32
  assert batch["image"].dtype == batch["target"].dtype == jnp.float32
  for value in batch.values():
    assert {s.data.shape[0] for s in value.addressable_shards} == {2}


def test_same_batches_on_1_and_4_devices(training):
  one = dataset(1)
  for step in (0, 3):
    check_equal(one.batch(step), training.batch(step))


def test_training_batches_differ_by_step_row_and_seed(training):
  first = np.asarray(training.batch(0)["segmentation"])
  others = [training.batch(1), dataset(seed=1).batch(0)]
  rows = [first, *(np.asarray(b["segmentation"]) for b in others)]
  rows = np.concatenate(rows).reshape(24, -1)
  assert len(np.unique(rows, axis=0)) == 24


def rows_of(data):
  """All valid rows of an evaluation split."""
  batches = [jax.device_get(data.batch(i)) for i in range(data.num_batches)]
  whole = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  return {k: v[whole["valid"]] for k, v in whole.items()}


def test_evaluation_scenes_do_not_depend_on_batch_size_or_seed(evaluation):
  expected = rows_of(evaluation)
  assert expected["image"].shape[0] == 10
  assert evaluation.batch(1)["valid"].tolist() == [True] * 2 + [False] * 6
  other = dataset(1, split="validation", batch_size=3, seed=5)
  assert other.num_batches == 4
  check_equal(rows_of(other), expected)


def test_splits_differ(training, evaluation):
  splits = [
    training.batch(0),
    rows_of(evaluation),
    rows_of(dataset(split="test")),
  ]
  rows = np.concatenate([np.asarray(b["segmentation"]) for b in splits])
  assert len(np.unique(rows.reshape(28, -1), axis=0)) == 28


def test_training_seeds_never_give_evaluation_scenes():
  # The words of the threefry roots: (0, seed), (2 ** 32 - 2, 0) of training
  # scenes and (2 ** 32 - 1, split) of evaluation.
  fixed = {
    tuple(jax.random.key_data(scenes._root_key(0, s)).tolist())
    for s in ("train", *scenes.EVALUATION_SPLITS)
  }
  assert len(fixed) == 3
  for seed in (0, 1, 2**32 - 1):
    root = scenes._root_key(seed, "train", fixed=False)
    training = jax.random.key_data(root).tolist()
    assert tuple(training) not in fixed
    assert training[0] not in {words[0] for words in fixed}


@pytest.mark.thorough
def test_all_batches_splits_and_seeds_share_one_compiled_program():
  first = dataset(resolution=(7, 14))
  others = (
    dataset(resolution=(7, 14), seed=4),
    dataset(resolution=(7, 14), split="train", num_examples=3),
    dataset(resolution=(7, 14), split="test", num_examples=9),
  )
  for data in (first, *others):
    for step in range(2):
      data.batch(step)
  assert first._program._jitted._cache_size() == 1
  assert all(data._program is first._program for data in others)


def test_a_family_that_is_no_key_of_a_cache():
  names = ("name", "layout", "resolution", "max_objects")
  methods = ("sample", "render", "targets", "describe")
  family = types.SimpleNamespace(
    **{name: getattr(FAMILY, name) for name in (*names, *methods)}
  )
  with pytest.raises(TypeError, match="unhashable"):
    hash(family)
  own = dataset(family=family)
  assert own.info.scenes_version is None
  got = own.batch(1)
  expected = dataset().batch(1)
  for name, values in expected.items():
    np.testing.assert_array_equal(got[name], values, err_msg=name)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_devices_do_not_communicate(split, training, evaluation):
  data = training if split == "train" else evaluation
  arguments = data._arguments(np.uint32(0))
  text = data._program.lower(*arguments).compile().as_text()
  assert "num_partitions=4" in text
  collective = r"all-(reduce|gather|to-all)|collective-permute|reduce-scatter"
  assert not re.search(collective, text)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"split": "dev"}, r"'train' or one of .*got 'dev'"),
    ({"seed": -1}, r"seed in \[0, 2\*\*32\), got -1"),
    ({"seed": 2**32}, r"seed in \[0, 2\*\*32\), got 4294967296"),
    ({"resolution": (0, 4)}, r"at least \(1, 1\), got \(0, 4\)"),
    ({"resolution": (35,)}, r"resolution \(H, W\)"),
    ({"num_examples": 0}, r"training, got 0 for split 'train'"),
    ({"split": "test", "num_examples": None}, "got None for split 'test'"),
    ({"split": "test", "num_examples": 0}, "got 0 for split 'test'"),
  ],
)
def test_dataset_errors(options, message):
  with pytest.raises(ValueError, match=message):
    dataset(**options)
