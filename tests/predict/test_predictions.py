"""Tests of `sa.predict`."""

import json
import shutil

import jax
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.data import transforms
from slot_attention_jax.predict import trained_model
from slot_attention_jax.pretrained import weights_file
from slot_attention_jax.tasks import task as task_lib
from tests.predict import tiny

RNG = np.random.default_rng(0)
IMAGES = [
  RNG.integers(0, 256, shape, np.uint8)
  for shape in ((35, 35, 3), (50, 70, 3), (70, 50, 3))
]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
  path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
  return tiny.save_set_predictor(path)


@pytest.fixture(scope="module")
def found():
  return sa.predict(IMAGES, tiny.WEIGHTS, batch_size=2)


def test_images_of_any_size_are_preprocessed_as_in_training(found):
  for image, seen in zip(IMAGES, found.images, strict=True):
    np.testing.assert_array_equal(
      seen, transforms.preprocess_image(image, (35, 35), None)
    )
  assert found.masks.shape == (3, 4, 35, 35)
  np.testing.assert_allclose(found.masks.sum(axis=1), 1, atol=1e-5)
  assert found.attention.shape == (3, 2, 4, 7, 7)
  assert found.slot_images.shape == (3, 4, 35, 35, 3)
  assert found.segments_in_image(1).shape == (50, 70)


def test_the_model_runs_as_in_evaluation(found):
  model, params = sa.load_weights(tiny.WEIGHTS)
  noise = task_lib.example_noise(jax.random.key(0), 0, 3, 4, 16)
  expected = jax.jit(model.apply)(params, found.images, noise=noise)
  np.testing.assert_allclose(
    found.reconstruction, expected.reconstruction, atol=1e-5
  )
  np.testing.assert_allclose(found.slots, expected.slots, atol=1e-5)


def test_batch_size_and_type_of_the_images_change_nothing(found):
  (again,) = sa.predict(IMAGES[0][None], tiny.WEIGHTS, batch_size=2).masks
  np.testing.assert_allclose(again, found.masks[0], atol=1e-6)
  # The noise of another example is another one.
  moved = sa.predict(IMAGES[::-1], tiny.WEIGHTS, batch_size=2).slots[2]
  assert np.abs(moved - found.slots[0]).max() > 1e-3


def test_a_run_is_its_best_checkpoint(found):
  trained = trained_model.load(tiny.RUN)
  assert (trained.steps, trained.crop, trained.data) == (
    2,
    None,
    "tetrominoes_scenes",
  )
  assert "best checkpoint, step 2" in trained.name
  last = trained_model.load(tiny.RUN, checkpoint="last")
  assert "last checkpoint" in last.name
  again = sa.predict(IMAGES, trained, batch_size=2)
  np.testing.assert_allclose(again.masks, found.masks, atol=1e-6)


def test_the_crop_is_in_the_middle_of_the_image(tmp_path):
  path = tiny.save_set_predictor(
    tmp_path / "w.safetensors", resolution=(8, 8), crop="center", data="mine"
  )
  found = sa.predict([IMAGES[1]], path)
  np.testing.assert_array_equal(
    found.images[0], transforms.preprocess_image(IMAGES[1], (8, 8), "center")
  )
  numbers = found.segments_in_image(0)
  assert found.windows == ((0, 50, 10, 60),)
  assert (numbers[:, :10] == 0).all()
  assert (numbers[:, 60:] == 0).all()
  assert (numbers[:, 10:60] > 0).all()


@pytest.mark.thorough
def test_objects_are_in_the_units_of_the_data(predictor):
  found = sa.predict([IMAGES[1]], predictor, num_slots=5)
  assert found.predictions.shape == (1, 5, 19)
  objects = found.objects(0)
  np.testing.assert_allclose(
    objects["coords"], 6 * found.predictions[0, :, :3] - 3, rtol=1e-5
  )
  assert found.pixels_from == "camera"
  assert objects["pixel"].shape == (5, 2)


@pytest.mark.thorough
def test_without_a_camera_pixels_are_centers_of_attention(tmp_path):
  path = tiny.save_set_predictor(tmp_path / "w.safetensors", data="mine")
  found = sa.predict([IMAGES[1]], path)
  assert found.pixels_from == "attention"
  pixel = found.objects(0)["pixel"]
  assert ((pixel > 0) & (pixel < (70, 50))).all()


@pytest.mark.parametrize(
  ("images", "options", "message"),
  [
    ([], {}, "at least one image"),
    ([IMAGES[0].astype(np.float32)], {}, "image 0: Expected .* uint8"),
    (IMAGES[0], {}, r"\[H, W, 3\] uint8, got \(35, 3\)"),
    (IMAGES, {"num_slots": 7}, "Expected 4 slots.* got 7"),
    (IMAGES, {"num_iterations": 0}, "num_iterations of at least 1, got 0"),
    (IMAGES, {"batch_size": 0}, "batch_size of at least 1, got 0"),
    (IMAGES, {"model": "clever"}, r"\['clevr6', .*got 'clever'"),
  ],
)
def test_wrong_arguments(images, options, message):
  with pytest.raises(ValueError, match=message):
    sa.predict(images, **({"model": tiny.WEIGHTS} | options))


def test_a_directory_that_is_no_run(tmp_path):
  with pytest.raises(FileNotFoundError, match="no 'checkpoints'"):
    sa.predict(IMAGES, tmp_path)
  (tmp_path / "checkpoints").mkdir()
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ValueError, match=r"config\.json to have the keys"):
    sa.predict(IMAGES, tmp_path)


@pytest.mark.parametrize("value", [3, [], None, "best"])
def test_a_value_in_place_of_a_group_of_the_config_is_an_error(value, tmp_path):
  (tmp_path / "checkpoints").mkdir()
  (tmp_path / "config.json").write_text(json.dumps({"checkpoint": value}))
  message = r"config\.json to have an object as 'checkpoint', got .*Give the"
  with pytest.raises(ValueError, match=message):
    sa.predict(IMAGES, tmp_path)


def test_a_config_of_a_checkpoint_without_its_groups_is_damaged(tmp_path):
  run = shutil.copytree(tiny.RUN, tmp_path / "run")
  config = run / "checkpoints" / "2" / "config" / "metadata"
  changed = json.loads(config.read_text()) | {"data": None}
  config.write_text(json.dumps(changed))
  with pytest.raises(ValueError, match=r"an object as 'data', got None"):
    sa.predict(IMAGES, run)


def test_objects_of_an_autoencoder_are_an_error(found):
  with pytest.raises(ValueError, match="Expected a set predictor"):
    found.objects(0)


@pytest.mark.parametrize(
  ("command", "data", "task", "crop"),
  [
    ("--config=a.py", "clevr_scenes_3_to_6", "discovery", "paper"),
    ("--config=a.py", "clevr:3.1.0", "set_prediction", None),
    ("--config=a.py", "folder:mine", "discovery", "center"),
    ("--config=a.py", "tetrominoes_scenes", "discovery", None),
    ("--config=a.py:data.crop=literal", "clevr_scenes", "discovery", "literal"),
    ("--config=a.py --config.data.crop=", "folder:x", "discovery", None),
    (
      "--config=a.py --config.data.crop=auto",
      "folder:x",
      "discovery",
      "center",
    ),
  ],
)
def test_weights_without_a_crop_have_that_of_their_command(
  command, data, task, crop
):
  content = {"command": command, "data": data, "task": task}
  assert weights_file._crop_of_older(content) == crop
