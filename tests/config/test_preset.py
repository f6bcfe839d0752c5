"""Tests of `model.preset` and of the config for a folder of images."""

import math

import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax import data as data_lib
from slot_attention_jax import models
from slot_attention_jax.config import arguments, preset
from slot_attention_jax.models import from_config
from slot_attention_jax.pretrained import weights_file
from slot_attention_jax.runtime import files
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import config_changes

NAMES = [name for name in preset.PRESETS if name]


def resolved(name, resolution, arg="quickstart"):
  config = sa.load_config(arg)
  config.model.preset, config.data.resolution = name, resolution
  return preset.resolve(config)


@pytest.mark.parametrize("resolution", [(64, 64), (128, 96), (35, 37)])
@pytest.mark.parametrize("name", NAMES)
def test_any_size_gets_a_decoder_of_that_size(name, resolution):
  config = resolved(name, resolution)
  # Raises unless the grid times the strides covers the images.
  model = from_config.create_model(
    "discovery", config.model, resolution=resolution
  )
  assert model.decoder.resolution == resolution
  # Slots attend to the grid that they are decoded on.
  grid = model.encoder.feature_grid(resolution)
  assert grid == config.model.broadcast_size
  if name.startswith("strided"):
    assert grid[0] == math.ceil(resolution[0] / int(name[7]))
  assert {*model.encoder.channels} == {64 if "wide" in name else 32}


@pytest.mark.parametrize(
  ("resolution", "grid"),
  [
    ((20, 17), (20, 17)),
    ((35, 35), (18, 18)),
    ((28, 28), (14, 14)),
    ((33, 63), (9, 16)),
    ((36, 36), (18, 18)),
    ((64, 64), (16, 16)),
    ((128, 128), (16, 16)),
    ((256, 256), (32, 32)),
    ((512, 384), (64, 48)),
    ((100, 50), (13, 7)),
  ],
)
def test_auto_finds_a_grid_for_any_size(resolution, grid):
  config = resolved("auto", resolution)
  assert config.model.broadcast_size == grid
  scale = math.prod(config.model.decoder_strides)
  # The grid covers the image, and without its last row or column does not.
  for cells, side in zip(grid, resolution, strict=True):
    assert scale * (cells - 1) < side <= scale * cells


def test_auto_takes_a_finer_grid_for_a_gpu():
  assert resolved("auto_wide", (128, 128)).model.broadcast_size == (32, 32)
  assert resolved("auto_wide", (64, 64)).model.broadcast_size == (32, 32)


def test_presets_are_the_models_that_were_tried():
  for name, size, other in (
    ("strided2", (28, 28), "quickstart:plain"),
    ("strided4", (64, 64), "clevr_discovery:small"),
    ("strided4_wide", (128, 128), "clevr_discovery:fast"),
  ):
    tried = dict(arguments.flatten(sa.load_config(other)))
    values = preset.architecture(name, size)
    assert {*values} == {*preset.DERIVED}
    assert values == {key: tried[key] for key in preset.DERIVED}


def test_no_preset_changes_nothing_and_a_second_time_changes_nothing():
  config = sa.load_config("quickstart")
  assert preset.resolve(config, preset.DERIVED) is config
  once = resolved("strided4", (64, 64))
  assert once.is_locked
  assert preset.resolve(once).to_dict() == once.to_dict()
  assert config.to_dict() == sa.load_config("quickstart").to_dict()


def test_a_key_that_the_preset_decides_is_not_set_besides():
  config = sa.load_config("quickstart")
  config.model.preset = "strided4"
  with pytest.raises(ValueError, match=r"got both: model\.broadcast_size\."):
    preset.resolve(config, ["seed", "model.broadcast_size"])


def test_a_resumed_run_may_not_change_the_preset():
  config = resolved("strided2", (64, 64))
  saved = files.jsonable(config.to_dict())
  assert not config_changes.changed_keys(saved, config.to_dict())
  other = resolved("strided4", (64, 64))
  changed = config_changes.changed_keys(saved, other.to_dict())
  assert {"model.preset", "model.broadcast_size"} <= {*changed}
  # Runs of earlier versions have none.
  del saved["model"]["preset"]
  assert {*config_changes.changed_keys(saved, config.to_dict())} == {
    "model.preset"
  }


def test_weights_come_with_their_own_architecture():
  config = resolved("strided4", (64, 64))
  metadata = sa.pretrained_metadata("quickstart")
  config = preset.resolve(weights_file.with_model_of(config, metadata))
  assert config.model.preset == ""
  assert config.model.broadcast_size == (14, 14)
  assert isinstance(metadata.create_model(), models.SlotAttentionAutoEncoder)


@pytest.mark.parametrize("num_images", [1, 12])
def test_a_few_images_are_enough_for_the_config_of_folders(
  num_images, tmp_path
):
  rng = np.random.default_rng(0)
  for i in range(num_images):
    image = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    files.save_png(tmp_path / "images" / f"{i}.png", image)
  config = sa.load_config("folder")
  config.data.data_dir = str(tmp_path / "images")
  config.data.cache_dir = str(tmp_path / "cache")
  for split in ("train", config.eval.split):
    dataset = data_lib.create_dataset(
      config,
      split,
      batch_size=8,
      sharding=mesh_lib.batch_sharding(mesh_lib.create_mesh()),
    )
    assert dataset.info.num_examples == num_images
    batch = dataset.batch(0)
    assert batch["image"].shape == (8, 64, 64, 3)


def test_held_out_images_are_not_trained_on():
  config = sa.load_config("folder:held_out")
  assert config.data.folder.train_split == "train"
  assert config.eval.split == "validation"
