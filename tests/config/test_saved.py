"""Tests of the configs of runs, which are configs to begin others with."""

import json
import pathlib
import re

import pytest

import slot_attention_jax as sa
from slot_attention_jax.config import load, run_name
from slot_attention_jax.runtime import files


def save(path, config):
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_json(
    path, config.to_dict() if hasattr(config, "lock") else config
  )
  return path


@pytest.mark.parametrize("name", load.config_names())
@pytest.mark.parametrize("arg", ["", ":debug"])
def test_what_is_saved_is_read_with_the_same_values_and_types(
  name, arg, tmp_path
):
  config = sa.load_config(name + arg)
  path = save(tmp_path / "runs/mine/config.json", config)
  read = sa.load_config(str(path))
  assert read.to_dict() == config.to_dict()
  assert repr(read.to_dict()) == repr(config.to_dict())  # 1 is no 1.0.
  assert read.is_locked
  assert sa.load_config(str(path.parent)).to_dict() == config.to_dict()


def test_keys_can_be_set_besides(tmp_path):
  path = save(tmp_path / "config.json", sa.load_config("quickstart"))
  config = sa.load_config(f"{path}:debug,seed=3,data.resolution=(56, 56)")
  assert (config.seed, config.train.num_steps) == (3, 2)
  assert config.data.resolution == (56, 56)
  with pytest.raises(
    ValueError, match=r"Expected a variant out of \['debug'\]"
  ):
    sa.load_config(f"{path}:plain")


@pytest.mark.parametrize(
  ("arg", "expected"), [("", "mine"), ("seed=3", "mine_seed3")]
)
@pytest.mark.parametrize("file", ["", "/config.json"])
def test_its_name_is_that_of_the_run(
  arg, expected, file, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  begin(tmp_path / "runs/mine", "--config=quickstart")
  save(tmp_path / "runs/mine/config.json", sa.load_config("quickstart:seed=2"))
  name = f"runs/mine{file}:{arg}"
  config = sa.load_config(name)
  assert run_name.run_name(config, *load.find_config(name)) == expected


def test_old_names_are_read_and_new_keys_have_their_defaults(tmp_path):
  config = sa.load_config("quickstart").to_dict()
  config["data"]["num_scenes"] = config["data"].pop("scenes")["num_eval"] + 1
  del config["model"]["background_logit"]
  read = sa.load_config(str(save(tmp_path / "config.json", config)))
  assert read.data.scenes.num_eval == 321
  assert read.model.background_logit == 0.0


@pytest.mark.parametrize(
  ("change", "expected"),
  [
    (("model", "num_slots", "five"), "model.num_slots of type int in"),
    (("model", "num_slots", True), "model.num_slots of type int in"),
    (("model", "background_logit", False), "of type float"),
    (("data", "resolution", 64), "data.resolution of type tuple"),
    (("model", "gone", 0.5), r"got ['model.gone'], which this version"),
    (("train", "quick_compilation", 1), "quick_compilation of type bool"),
  ],
)
def test_other_values_are_errors_that_name_key_and_file(
  change, expected, tmp_path
):
  config = sa.load_config("quickstart").to_dict()
  group, key, value = change
  config[group][key] = value
  path = save(tmp_path / "config.json", config)
  with pytest.raises(ValueError, match=re.escape(expected)) as info:
    sa.load_config(str(path))
  assert str(path) in str(info.value)


def test_an_option_that_is_gone_and_was_off_is_left_out(tmp_path):
  config = sa.load_config("quickstart").to_dict()
  config["model"]["gone"] = 0.0
  read = sa.load_config(str(save(tmp_path / "config.json", config)))
  assert "gone" not in read.model


@pytest.mark.parametrize(
  "text", ["", "{", "[]", "3", '{"task": "discovery"}', '{"data": 3}']
)
def test_a_file_that_is_no_config_is_an_error_that_names_it(text, tmp_path):
  path = tmp_path / "config.json"
  path.write_text(text)
  with pytest.raises(ValueError, match=re.escape(str(path))):
    sa.load_config(str(path))


def test_a_group_that_is_no_object_is_an_error(tmp_path):
  config = sa.load_config("quickstart").to_dict()
  path = tmp_path / "config.json"
  path.write_text(json.dumps(config | {"optim": 3}))
  with pytest.raises(ValueError, match="optim"):
    sa.load_config(str(path))


def test_a_directory_that_is_no_run_is_an_error(tmp_path):
  with pytest.raises(ValueError, match=r"a directory without config\.json\."):
    sa.load_config(str(tmp_path))


def begin(path, *flags):
  """A run's directory as far as configs read it."""
  name = flags[0].removeprefix("--config=")
  save(path / "config.json", sa.load_config(name).to_dict())
  files.write_json(path / "metadata.json", {"recipe": " ".join(flags)})
  return path


@pytest.mark.parametrize(
  "place", ["runs/mine", "other/mine", "my run", "t18:40"]
)
@pytest.mark.parametrize("file", ["", "/", "/config.json"])
def test_a_run_is_found_where_it_is(place, file, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  run = begin(tmp_path / place, "--config=quickstart")
  for name in (f"{place}{file}", f"{run}{file}"):
    config = sa.load_config(name)
    found = run_name.run_directory(config, *load.find_config(name))
    assert found.resolve() == run
  monkeypatch.chdir(run)
  found = run_name.run_directory(config, *load.find_config("."))
  assert found.resolve() == run


@pytest.mark.parametrize("seed", [0, 3])
def test_another_run_has_another_directory(seed, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  begin(tmp_path / "other/mine", "--config=quickstart:seed=2")
  name = f"other/mine:seed={seed}"
  config = sa.load_config(name)
  found = run_name.run_directory(config, *load.find_config(name))
  assert found == pathlib.Path(f"runs/mine_seed{seed}")
  # An evaluation may mean the run itself.
  config = sa.load_config("other/mine:eval.split=test")
  where = load.find_config("other/mine:eval.split=test")
  assert run_name.evaluated_runs(config, *where)[1] == pathlib.Path(
    "other/mine"
  )


def test_a_copy_alone_is_no_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ("a.json", "config.json"):
    save(tmp_path / name, sa.load_config("quickstart").to_dict())
    found = run_name.run_directory(
      sa.load_config(name), *load.find_config(name)
    )
    assert found == pathlib.Path("runs", name.removesuffix(".json"))


def test_a_config_of_the_package_wins_over_a_directory(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  begin(tmp_path / "quickstart", "--config=quickstart:seed=2")
  assert sa.load_config("quickstart").seed == 0
  assert sa.load_config("./quickstart").seed == 2
  assert sa.load_config(pathlib.Path("quickstart/config.json")).seed == 2


@pytest.mark.parametrize(
  ("change", "expected"),
  [
    ({"optim": None}, "optim"),
    ({"data": {"name": "clevr", "tfds": 3}}, "an object as 'data.tfds'"),
    ({"data": {"name": "clevr", "scenes": 3}}, "an object as 'data.scenes'"),
    ({"optim": {"learning_rate": "1_0"}}, "optim.learning_rate of type float"),
    ({"optim": {"learning_rate": 10**400}}, "optim.learning_rate of type"),
    ({"data": {"name": "x", "resolution": ["64", 64]}}, "data.resolution of"),
    ({"data": {"name": "x", "resolution": [64.0, 64]}}, "data.resolution of"),
    ({"logging": {"writers": ["jsonl", 3]}}, "logging.writers of type tuple"),
  ],
)
def test_damage_inside_groups_is_found(change, expected, tmp_path):
  config = sa.load_config("quickstart").to_dict() | change
  path = tmp_path / "config.json"
  path.write_text(json.dumps(files.jsonable(config)))
  with pytest.raises(ValueError, match=re.escape(expected)) as info:
    sa.load_config(str(path))
  assert str(path) in str(info.value)
