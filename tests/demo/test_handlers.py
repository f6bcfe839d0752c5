"""Tests of what the page's controls do; no page is needed."""

import jax
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.demo import handlers as handlers_lib
from slot_attention_jax.demo import scenes
from slot_attention_jax.predict import pictures, trained_model
from tests.predict import tiny

RNG = np.random.default_rng(0)
UPLOADS = [
  RNG.integers(0, 256, shape, np.uint8)
  for shape in ((50, 70, 3), (35, 35, 4), (40, 40))
]
# The model for images of 35 x 35 has 4 slots, the set predictor 3.
DISCOVERY = str(tiny.WEIGHTS)


class ShownError(Exception):
  """In place of the page's."""


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
  path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
  return str(tiny.save_set_predictor(path))


@pytest.fixture(scope="module")
def handlers(predictor):
  available = handlers_lib.Models([DISCOVERY, predictor])
  return handlers_lib.Handlers(available, ShownError)


@pytest.fixture(scope="module")
def pair(handlers):
  return [
    handlers.find(DISCOVERY, 4, 2, 0, image, None) for image in UPLOADS[:2]
  ]


def test_all_slots_of_an_image_decode_to_its_reconstruction(handlers, pair):
  scene, _ = pair
  labels = handlers_lib.slot_labels(scene)
  decoded = handlers.combine(scene, None, labels, [])
  expected = pictures.enlarge(scene.reconstruction())
  np.testing.assert_allclose(decoded, expected, atol=1)


def test_slots_of_two_images_decode_as_the_model_decodes_them(pair):
  a, b = pair
  model, params = sa.load_weights(tiny.WEIGHTS)
  slots = np.concatenate(
    [a.found.slots[:, [0, 2]], b.found.slots[:, [1]]], axis=1
  )
  decode = jax.jit(lambda x: model.apply(params, x, method="decode"))
  expected, _, _ = decode(slots)
  decoded = scenes.combine([(a, [2, 0]), (b, [1])])
  expected = np.clip((np.asarray(expected[0]) + 1) * 127.5, 0, 255)
  np.testing.assert_allclose(decoded, expected, atol=1)


def test_a_scene_without_slots_is_gray(handlers, pair):
  decoded = handlers.combine(*pair, [], [])
  assert decoded.shape[-1] == 3
  assert np.unique(decoded).tolist() == [128]


def test_pictures_of_slots_show_what_they_take(pair):
  scene = pair[0]
  pictures = scene.slot_pictures()
  assert len(pictures) == scene.num_slots == 4
  assert all(p.shape == (35, 35, 3) and p.dtype == np.uint8 for p in pictures)
  shares = [
    float(s.split("(")[1][:-3]) for s in handlers_lib.slot_labels(scene)
  ]
  assert abs(sum(shares) - 100) <= 2
  assert scene.overview().dtype == np.uint8


def test_a_set_predictor_s_objects_are_a_table(handlers, predictor):
  scene = handlers.find(predictor, 5, 1, 0, UPLOADS[2], None)
  assert scene.num_slots == 5
  assert scene.slot_images is None
  assert scene.overview().dtype == np.uint8
  table = handlers.table(None, scene)
  if table is not None:
    assert table["headers"][:2] == ["image", "slot"]
    assert all(row[0] == "B" for row in table["data"])
  assert handlers.combine(scene, None, [], []) is None
  with pytest.raises(ValueError, match="predicts properties"):
    scenes.combine([(scene, [0])])


@pytest.mark.thorough
def test_a_model_s_own_scenes_are_drawn():
  trained = trained_model.load("quickstart")
  first, again, other = (scenes.sample(trained, seed) for seed in (1, 1, 2))
  assert first.input.shape == (28, 28, 3)
  np.testing.assert_array_equal(first.input, again.input)
  assert np.abs(first.input - other.input).max() > 0.5


@pytest.mark.parametrize(
  "changes",
  [
    {"name": "nonsense"},
    {"name": "/etc/passwd"},
    {"name": None},
    {"num_iterations": 0},
    {"num_iterations": 1e9},
    {"num_iterations": 1.5},
    {"num_iterations": float("nan")},
    {"num_iterations": "3"},
    {"seed": -1},
    {"seed": 2**40},
    {"seed": True},
    {"image": None},
    {"image": np.zeros((3, 3, 7), np.uint8)},
    {"image": np.zeros((0, 5, 3), np.uint8)},
    {"image": "text"},
    {"image": np.zeros((2, 2, 2, 2), np.uint8)},
  ],
)
def test_wrong_input_is_shown(handlers, changes):
  arguments = {
    "name": DISCOVERY,
    "num_slots": 4,
    "num_iterations": 2,
    "seed": 0,
    "image": UPLOADS[0],
    "drawn": None,
  }
  with pytest.raises(ShownError, match=r"\w"):
    handlers.find(**(arguments | changes))


def test_images_that_are_too_large_are_refused(handlers):
  image = np.broadcast_to(np.uint8(0), (1, scenes.MOST_PIXELS + 1, 3))
  with pytest.raises(ShownError, match="pixels"):
    handlers.find(DISCOVERY, 4, 2, 0, image, None)


@pytest.mark.thorough
def test_scenes_of_two_models_are_not_combined(handlers, pair):
  other = scenes.find(
    trained_model.load("quickstart"), UPLOADS[0], num_iterations=1
  )
  with pytest.raises(ShownError, match="one model"):
    handlers.combine(pair[0], other, [], [])


def test_models_that_are_not_offered_are_not_loaded(tmp_path):
  offered = handlers_lib.offered("quickstart")
  assert offered.names[0] == "quickstart"
  assert set(offered.names) == set(sa.pretrained_names())
  assert handlers_lib.offered().names[0] == "clevr6"
  assert handlers_lib.offered(DISCOVERY).names[0] == DISCOVERY
  with pytest.raises(ValueError, match="none of these"):
    handlers_lib.offered(str(tmp_path / "none"))
