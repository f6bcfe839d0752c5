"""Tests of create_dataset: which data a config gets, and what it is told."""

import importlib
import pathlib
import warnings

import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax import data
from slot_attention_jax.data import from_config
from slot_attention_jax.runtime import mesh

CLEVR = pathlib.Path(__file__).parents[1] / "testdata" / "clevr_array_record"


@pytest.fixture(scope="module")
def tfds():
  # Imported once and with its own deprecations let pass, so that the tests
  # below run with every warning an error.
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    importlib.import_module("tensorflow_datasets")
    importlib.import_module("tensorflow_datasets.proto")


@pytest.fixture
def no_data(monkeypatch, tmp_path):
  """A machine on which no data is prepared."""
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))


@pytest.fixture(scope="module")
def over_batch():
  return mesh.batch_sharding(mesh.create_mesh())


def on_clevr(config, tmp_path):
  config.data.data_dir = str(CLEVR)
  config.data.cache_dir = str(tmp_path / "cache")
  return config


def warnings_in(caplog):
  return [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]


@pytest.mark.parametrize(
  ("config_name", "name", "resolution", "scenes"),
  [
    ("clevr_discovery", "CLEVR", (128, 128), "clevr_scenes_3_to_6"),
    ("clevr_set", "CLEVR", (128, 128), "clevr_scenes"),
    ("multi_dsprites", "MULTI_DSPRITES", (64, 64), "multi_dsprites_scenes"),
    ("tetrominoes", "TETROMINOES", (35, 35), "tetrominoes_scenes"),
  ],
)
def test_synthetic_scenes_stand_in_for_missing_data_with_one_warning(
  config_name, name, resolution, scenes, over_batch, no_data, caplog
):
  config = sa.load_config(f"{config_name}:debug")
  dataset = data.create_dataset(
    config, "train", batch_size=4, sharding=over_batch
  )
  assert dataset.info.own_scenes
  assert dataset.info.name == scenes
  assert dataset.info.image_shape == (*resolution, 3)
  assert dataset.num_batches is None
  (line,) = warnings_in(caplog)
  assert f"NO {name} DATA FOUND" in line
  assert dataset.info.name in line
  assert f"Numbers of this run are not numbers on {name.lower()}" in line
  caplog.clear()
  data.create_dataset(
    config, "validation", batch_size=4, sharding=over_batch, warn=False
  )
  assert not warnings_in(caplog)


def test_synthetic_scenes_asked_for_give_no_warning(
  over_batch, no_data, caplog
):
  config = sa.load_config("tetrominoes:debug,data.name=tetrominoes_scenes")
  dataset = data.create_dataset(
    config, "validation", batch_size=4, sharding=over_batch
  )
  assert not warnings_in(caplog)
  assert dataset.info.own_scenes
  # `debug` has 6 scenes: the second batch is half empty.
  assert dataset.num_batches == 2
  batch = dataset.batch(1)
  assert batch["image"].shape == (4, 35, 35, 3)
  assert batch["valid"].tolist() == [True, True, False, False]


def test_synthetic_scenes_have_every_split_of_clevr(over_batch, no_data):
  config = sa.load_config("clevr_set:debug")
  for split in ("train_eval", "validation", "test"):
    dataset = data.create_dataset(
      config, split, batch_size=4, sharding=over_batch
    )
    assert dataset.info.num_examples == 6


def test_a_named_directory_without_data_is_an_error_with_the_commands(
  over_batch, no_data, tmp_path
):
  config = sa.load_config("clevr_set:debug")
  config.data.data_dir = str(tmp_path)
  with pytest.raises(FileNotFoundError) as error:
    data.create_dataset(config, "train", batch_size=4, sharding=over_batch)
  message = str(error.value)
  assert str(tmp_path) in message
  assert "pip install 'slot_attention_jax[tf]'" in message
  assert f"tfds.builder('clevr', data_dir='{tmp_path}')" in message
  assert "download_and_prepare()" in message
  assert "file_format='array_record'" in message


def test_prepared_clevr_is_used_where_it_is_named(
  over_batch, no_data, tfds, tmp_path, caplog
):
  config = on_clevr(sa.load_config("clevr_set:debug"), tmp_path)
  dataset = data.create_dataset(
    config, "train", batch_size=4, sharding=over_batch
  )
  assert not warnings_in(caplog)
  assert dataset.info.name == "clevr:3.1.0"
  assert not dataset.info.own_scenes
  # 12 prepared, of which `debug` holds out 2.
  assert dataset.info.num_examples == 10
  assert dataset.num_batches is None
  batch = dataset.batch(0)
  assert batch["image"].shape == (4, 128, 128, 3)
  assert batch["target"].shape == (4, 10, 19)
  assert batch["image"].sharding == over_batch
  assert float(abs(batch["image"]).max()) <= 1.0
  assert list((tmp_path / "cache").iterdir())


def test_prepared_clevr_is_used_where_it_is_found(
  over_batch, tfds, tmp_path, monkeypatch
):
  monkeypatch.setenv("TFDS_DATA_DIR", str(CLEVR))
  config = sa.load_config("clevr_set:debug,data.resolution=(16, 16)")
  config.data.cache_dir = str(tmp_path)
  dataset = data.create_dataset(
    config, "validation", batch_size=4, sharding=over_batch
  )
  assert dataset.info.name == "clevr:3.1.0"
  assert (dataset.info.num_examples, dataset.num_batches) == (6, 2)
  assert dataset.batch(1)["valid"].tolist() == [True, True, False, False]


def test_settings_of_the_config_reach_clevr(over_batch, tfds, tmp_path):
  config = on_clevr(
    sa.load_config("clevr_discovery:debug,data.resolution=(16, 16)"), tmp_path
  )

  def images(split="train", **changes):
    changed = config.copy_and_resolve_references()
    changed.data.update_from_flattened_dict(changes)
    dataset = data.create_dataset(
      changed, split, batch_size=4, sharding=over_batch
    )
    return dataset.info.num_examples, np.asarray(dataset.batch(0)["image"])

  count, cropped = images()
  everything, whole = images(crop="", max_objects=0)
  assert everything == 10
  assert 0 < count < everything  # Scenes of at most 6 objects.
  assert not np.array_equal(cropped, images(crop="")[1])
  assert images("train_eval", max_objects=0)[0] == 2
  assert images(**{"tfds.num_train_eval": 5}, max_objects=0)[0] == 7
  # Where the images are kept changes no bit.
  again = images(crop="", max_objects=0, on_device="yes")[1]
  np.testing.assert_array_equal(whole, again)


def test_the_seed_decides_the_order_of_clevr(over_batch, tfds, tmp_path):
  def first(seed):
    config = on_clevr(
      sa.load_config(f"clevr_set:debug,seed={seed},data.resolution=(16, 16)"),
      tmp_path,
    )
    dataset = data.create_dataset(
      config, "train", batch_size=8, sharding=over_batch
    )
    return np.asarray(dataset.batch(0)["image"])

  np.testing.assert_array_equal(first(0), first(0))
  assert not np.array_equal(first(0), first(1))


def test_set_prediction_on_clevrs_test_split_is_an_error(
  over_batch, tfds, tmp_path
):
  config = on_clevr(sa.load_config("clevr_set:debug"), tmp_path)
  with pytest.raises(ValueError, match=r"no annotations.*validation split"):
    data.create_dataset(config, "test", batch_size=4, sharding=over_batch)


def test_discovery_on_clevrs_test_split_has_no_targets(
  over_batch, tfds, tmp_path
):
  config = on_clevr(
    sa.load_config(
      "clevr_discovery:data.resolution=(16, 16),data.max_objects=0"
    ),
    tmp_path,
  )
  dataset = data.create_dataset(
    config, "test", batch_size=4, sharding=over_batch
  )
  assert set(dataset.batch(0)) == {"image", "valid"}
  assert dataset.info.layout is None


@pytest.mark.parametrize(
  ("arg", "split", "message"),
  [
    ("data.name=clever", "train", r"data.name out of .*clevr.*got 'clever'"),
    ("data.on_device=maybe", "train", r"data.on_device out of .*got 'maybe'"),
    ("", "dev", r"split .*got 'dev'"),
    ("data.scenes.tetrominoes_step=9", "train", r"step of 1 to 5, got 9"),
    ("data.resolution=(0, 35)", "train", r"resolution .*got \(0, 35\)"),
    ("data.scenes.num_eval=0", "validation", r"num_examples .*got 0"),
  ],
)
def test_bad_settings_are_errors(arg, split, message, over_batch, no_data):
  config = sa.load_config(f"tetrominoes:{arg}")
  with pytest.raises(ValueError, match=message):
    data.create_dataset(config, split, batch_size=4, sharding=over_batch)


def test_unknown_split_of_clevr_is_an_error(over_batch, tfds, tmp_path):
  config = on_clevr(sa.load_config("clevr_set:debug"), tmp_path)
  with pytest.raises(ValueError, match=r"split of .*got 'dev'"):
    data.create_dataset(config, "dev", batch_size=4, sharding=over_batch)


@pytest.mark.parametrize("config_name", ["tetrominoes", "multi_dsprites"])
def test_rendered_scenes_with_a_data_directory_are_an_error(
  config_name, over_batch, tmp_path
):
  # Else a run would seem to be on data that it never reads.
  config = sa.load_config(config_name)
  config.data.name += "_scenes"
  config.data.data_dir = str(tmp_path)
  with pytest.raises(ValueError, match=r"data.data_dir to be empty.*Remove"):
    data.create_dataset(config, "train", batch_size=4, sharding=over_batch)


@pytest.mark.parametrize(
  ("config_name", "arg", "name", "rows"),
  [
    ("clevr_set", "", "clevr_scenes", 10),
    ("clevr_set", "data.name=clevr_scenes", "clevr_scenes", 10),
    ("clevr_discovery", "", "clevr_scenes_3_to_6", 10),
    (
      "clevr_set",
      "data.scenes.num_objects=(3, 16)",
      "clevr_scenes_3_to_16",
      16,
    ),
    ("clevr_set", "data.variant=textured", "clevr_scenes_textured", 10),
    ("clevr_set", "data.scenes.held_out=cogent_b", "clevr_scenes_cogent_b", 10),
    ("multi_dsprites", "", "multi_dsprites_scenes", 5),
    (
      "multi_dsprites",
      "data.variant=binarized",
      "multi_dsprites_scenes_binarized",
      3,
    ),
    (
      "multi_dsprites",
      "data.scenes.num_objects=(1, 8)",
      "multi_dsprites_scenes",
      8,
    ),
    ("tetrominoes", "", "tetrominoes_scenes", 3),
  ],
)
def test_the_scenes_of_a_config(config_name, arg, name, rows):
  config = sa.load_config(f"{config_name}:{arg}")
  family = data.create_family(config)
  assert (family.name, family.max_objects) == (name, rows)


def test_the_camera_of_a_config():
  family = data.create_family(sa.load_config("clevr_set"))
  assert (family.frame, family.crop) == ((320, 480), None)
  family = data.create_family(sa.load_config("clevr_discovery"))
  assert (family.frame, family.crop) == ((240, 320), "paper")


@pytest.mark.parametrize(
  ("config_name", "arg", "message"),
  [
    (
      "clevr_set",
      "data.scenes.num_objects=(0, 5)",
      r"1 <= lo <= hi <= 16, got \(0, 5",
    ),
    ("clevr_set", "data.scenes.num_objects=(3, 17)", r"got \(3, 17\)"),
    ("clevr_set", "data.max_objects=2", r"got \(3, 2\)"),
    ("clevr_set", "data.variant=binarized", r"'textured'.*got 'binarized'"),
    ("clevr_set", "data.scenes.held_out=cogent_c", r"cogent_a.*got 'cogent_c'"),
    ("clevr_set", "data.scenes.frame=(0, 320)", r"resolution .*got \(0, 320\)"),
    (
      "clevr_set",
      "data.scenes.tetrominoes_step=5",
      r"tetrominoes_step to be 1.*got 5",
    ),
    ("multi_dsprites", "data.variant=textured", r"variant of .*got 'textured'"),
    (
      "multi_dsprites",
      "data.scenes.num_objects=(2, 17)",
      r"1 <= lo.*\(2, 17\)",
    ),
    (
      "multi_dsprites",
      "data.scenes.held_out=cogent_a",
      r"held_out to be ''.*cogent_a",
    ),
    (
      "tetrominoes",
      "data.scenes.num_objects=(1, 2)",
      r"num_objects to be \(0, 0\)",
    ),
    ("tetrominoes", "data.variant=textured", r"variant to be ''.*'textured'"),
    ("tetrominoes", "data.name=clever", r"data.name out of .*got 'clever'"),
  ],
)
def test_scenes_that_do_not_exist_are_errors(config_name, arg, message):
  with pytest.raises(ValueError, match=message):
    data.create_family(sa.load_config(f"{config_name}:{arg}"))


def test_keys_of_scenes_are_errors_when_clevr_is_read(
  over_batch, tfds, tmp_path
):
  config = on_clevr(
    sa.load_config("clevr_set:debug,data.variant=textured"), tmp_path
  )
  with pytest.raises(ValueError, match=r"data.variant .*clevr_scenes"):
    data.create_dataset(config, "train", batch_size=4, sharding=over_batch)


@pytest.mark.parametrize(
  ("config_name", "arg", "command"),
  [
    ("clevr_discovery", "data.fallback=False", "builder('clevr'"),
    ("clevr_discovery", "masks", "prepare --name=clevr_with_masks "),
    ("clevr_set", "masks", "prepare --name=clevr_with_masks "),
    (
      "multi_dsprites",
      "masks",
      "--name=multi_dsprites --variant=colored_on_grayscale ",
    ),
    ("tetrominoes", "masks", "prepare --name=tetrominoes "),
    ("objects_room", "", "--name=objects_room --variant=train "),
    ("objects_room", "data.fallback=True", "--name=objects_room "),
  ],
)
def test_missing_data_without_a_stand_in_are_an_error(
  config_name, arg, command, over_batch, no_data
):
  config = sa.load_config(f"{config_name}:{arg}")
  with pytest.raises(FileNotFoundError) as error:
    data.create_dataset(config, "train", batch_size=4, sharding=over_batch)
  assert command in str(error.value)


def test_variants_that_do_not_exist_are_an_error(over_batch, no_data):
  config = sa.load_config("objects_room:data.variant=seven_objects")
  with pytest.raises(ValueError, match=r"\['train', .*got 'seven_objects'"):
    data.create_dataset(config, "train", batch_size=4, sharding=over_batch)


@pytest.mark.parametrize(
  ("name", "crop", "expected"),
  [
    ("clevr", "auto", "paper"),
    ("clevr_with_masks", "auto", "paper"),
    ("clevr_scenes", "auto", "paper"),
    ("folder", "auto", "center"),
    ("multi_dsprites", "auto", None),
    ("tetrominoes_scenes", "auto", None),
    ("clevr", "", None),
    ("folder", "paper", "paper"),
  ],
)
def test_the_crop_follows_from_the_data(name, crop, expected):
  config = sa.load_config(f"clevr_set:data.name={name},data.crop={crop}")
  assert from_config.resolve_crop(config) == expected


def test_train_split_is_an_error_for_scenes(over_batch, no_data):
  config = sa.load_config("clevr_set:data.tfds.train_split=records[0:8]")
  with pytest.raises(ValueError, match=r"data.tfds.train_split to be 'train'"):
    data.create_dataset(config, "train", batch_size=4, sharding=over_batch)
