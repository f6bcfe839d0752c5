"""Tests of old config keys: saved runs are read, commands are told."""

import pytest

import slot_attention_jax as sa
from slot_attention_jax.config import aliases, base


def flat(config, prefix=""):
  for name, value in config.items():
    if hasattr(value, "items"):
      yield from flat(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


def test_new_keys_exist_and_old_ones_do_not():
  keys = {key for key, _ in flat(base.base_config())}
  for old, new in aliases.RENAMED.items():
    for name in ("", "folder"):
      assert aliases.new_key(old, name) in keys
    assert new in keys
    assert old not in keys


@pytest.mark.parametrize(("name", "group"), [("x", "tfds"), ("folder",) * 2])
def test_saved_configs_get_todays_keys(name, group):
  saved = {
    "seed": 3,
    "data": {
      "name": name,
      "num_scenes": 40,
      "num_train_scenes": 9,
      "num_objects": [1, 2],
      "held_out": "cogent_a",
      "frame": [320, 480],
      "tetrominoes_step": 5,
      "num_train_eval": 7,
      "train_split": "all",
    },
  }
  expected = {
    "name": name,
    "scenes": {
      "num_eval": 40,
      "num_train": 9,
      "num_objects": [1, 2],
      "held_out": "cogent_a",
      "frame": [320, 480],
      "tetrominoes_step": 5,
    },
    "tfds": {"num_train_eval": 7, "train_split": "train"},
    "folder": {"train_split": "train"},
  }
  expected[group]["train_split"] = "all"
  new = aliases.update_saved(saved)
  assert new == {"seed": 3, "data": expected}
  assert saved["data"]["num_scenes"] == 40  # It was copied.
  assert aliases.update_saved(new) == new


def test_commands_get_todays_keys():
  command = (
    "--config=configs/clevr_set.py:small,data.num_scenes=9,data.frame=(1,2) "
    "--config.data.train_split=all --config.seed=0"
  )
  assert aliases.update_command(command) == (
    "--config=configs/clevr_set.py:small,data.scenes.num_eval=9,"
    "data.scenes.frame=(1,2) --config.data.tfds.train_split=all "
    "--config.seed=0"
  )
  folder = "--config.data.name=folder --config.data.train_split=all"
  assert aliases.update_command(folder) == (
    "--config.data.name=folder --config.data.folder.train_split=all"
  )
  same = "--config=a.py:data.scenes.num_objects=(1, 2) --workdir=data.frame"
  assert aliases.update_command(same) == same


@pytest.mark.parametrize(
  ("key", "expected"),
  [
    ("data.num_scenes", "'data.scenes.num_eval'"),
    (
      "data.train_split",
      "'data.folder.train_split' or 'data.tfds.train_split'",
    ),
  ],
)
def test_old_keys_are_errors_that_name_the_new_ones(key, expected):
  with pytest.raises(ValueError, match=f"{key}.* now called {expected}"):
    sa.load_config(f"tetrominoes:{key}=9")
  aliases.check_keys(["data.scenes.num_eval", "model.num_slots"])


def test_all_old_keys_are_named():
  message = (
    r"got 2 old names:\n  'data.frame' is now called 'data.scenes.frame'\n"
    r"  'model.slot_start' is now called 'model.slot_init'"
  )
  with pytest.raises(ValueError, match=message):
    sa.load_config(
      "tetrominoes:data.frame=(1, 2),model.slot_start=shared,seed=1"
    )


def test_nested_keys_are_set_and_unknown_ones_are_errors():
  config = sa.load_config("clevr_set:data.scenes.num_eval=9")
  assert config.data.scenes.num_eval == 9
  for key in ("data.scenes", "data.scenes.x", "data.name.x", "data.x.num_eval"):
    with pytest.raises(ValueError, match=f"key of the config, got '{key}'"):
      sa.load_config(f"clevr_set:{key}=9")
