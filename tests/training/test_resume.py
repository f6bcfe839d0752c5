"""What may change when a run is resumed, and what becomes of other files."""

import json

import pytest

import slot_attention_jax as sa
from slot_attention_jax.config import arguments, base
from slot_attention_jax.data import types
from slot_attention_jax.runtime import files
from slot_attention_jax.training import config_changes, metadata, resume

# Every key that may change without a word, and every one that may on request.
# All others never may: a new key does not until it is put in a table.
FREE = """
data.cache_dir data.fallback data.on_device eval.batch_size eval.checkpoint
model.remat_decoder model.unroll train.max_minutes train.quick_compilation
train.steps_per_call
checkpoint.every_steps checkpoint.keep checkpoint.keep_best
checkpoint.best_metric checkpoint.best_mode
logging.every_steps logging.num_images logging.tensorboard logging.writers
"""
WITH_FLAG = """
data.data_dir data.scenes.num_eval eval.split eval.every_steps eval.num_slots
eval.num_iterations eval.seed eval.thresholds train.batch_size train.num_steps
optim.schedule optim.learning_rate optim.warmup_steps optim.decay_rate
optim.decay_steps optim.b1 optim.b2 optim.eps optim.clip_norm
"""


def saved_config(config):
  return json.loads(json.dumps(files.jsonable(config.to_dict())))


def other_value(value):
  if isinstance(value, str):
    return f"{value}x"
  return (*value, 3) if isinstance(value, tuple) else type(value)(value + 1)


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize(
  "key", [key for key, _ in arguments.flatten(base.base_config())]
)
def test_which_keys_may_change(key, allow):
  config = base.base_config()
  saved = saved_config(config)
  value = dict(arguments.flatten(config))[key]
  if isinstance(value, bool):
    value = not value
  config.update_from_flattened_dict({key: other_value(value)})
  changes = config_changes.changed_keys(saved, config.to_dict())
  assert list(changes) == ([] if key in FREE.split() else [key])
  allowed = key in FREE.split() or (allow and key in WITH_FLAG.split())
  if allowed:
    config_changes.check_changes("run", 5, changes, allow)
  else:
    with pytest.raises(ValueError, match=f"\n  {key} "):
      config_changes.check_changes("run", 5, changes, allow)


def test_the_message_fits_on_one_screen():
  config = sa.load_config("clevr_set")
  other = sa.load_config("clevr_discovery:small")
  changes = config_changes.changed_keys(saved_config(config), other.to_dict())
  assert len(changes) > 15
  with pytest.raises(ValueError, match=r"and [0-9]+ more") as error:
    config_changes.check_changes("run", 5, changes, True)
  lines = str(error.value).splitlines()
  assert len(lines) < 20
  assert all(len(line) < 120 for line in lines[2:-1])


def test_keys_that_an_older_run_does_not_have_count_with_their_defaults():
  config = sa.load_config("quickstart:plain").copy_and_resolve_references()
  saved = saved_config(config)
  for name in (
    "background_grid",
    "background_logit",
    "background_weight",
    "foreground_fall",
    "foreground_ramp",
    "overlap_ramp",
    "foreground_weight",
    "train_iterations",
    "early_iterations",
    "early_steps",
  ):
    del saved["model"][name]
  saved["data"]["num_scenes"] = saved["data"].pop("scenes")["num_eval"]
  saved["model"]["slot_start"] = saved["model"].pop("slot_init")
  config.model.background_grid = 2
  changes = config_changes.changed_keys(saved, config.to_dict())
  assert changes == {"model.background_grid": (0, 2)}


def test_a_directory_of_data_may_be_spelled_in_other_ways(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  config = base.base_config()
  config.data.data_dir = "~/data"
  saved = saved_config(config)
  config.data.data_dir = "/home/me/data"
  assert not config_changes.changed_keys(saved, config.to_dict())
  config.data.data_dir = "/home/me/other"
  assert config_changes.changed_keys(saved, config.to_dict())


def test_records_of_a_run_without_checkpoints_are_set_aside(tmp_path):
  config = base.base_config().to_dict()
  resume.set_aside(tmp_path / "new", config)
  assert not list(tmp_path.iterdir())
  for name in ("config.json", "metrics.jsonl"):
    files.write_json(tmp_path / name, config)
  resume.set_aside(tmp_path, config)  # The same run: it begins again.
  assert len(list(tmp_path.iterdir())) == 2
  for n in (1, 2):
    files.write_json(tmp_path / "config.json", config)
    resume.set_aside(tmp_path, config | {"seed": n})
    saved = tmp_path / "earlier" / str(n)
    assert json.loads((saved / "config.json").read_text())["seed"] == 0
  assert (tmp_path / "earlier" / "1" / "metrics.jsonl").exists()
  assert [path.name for path in tmp_path.iterdir()] == ["earlier"]


@pytest.mark.parametrize("value", [3, [], None, "text"])
def test_records_without_the_groups_of_a_config_are_set_aside(value, tmp_path):
  config = base.base_config().to_dict()
  for damaged in ({"data": value}, {"seed": 1, "data": {"scenes": value}}):
    files.write_json(tmp_path / "config.json", damaged)
    resume.set_aside(tmp_path, config)
    assert not (tmp_path / "config.json").exists()


def test_a_directory_of_rendered_scenes_is_no_run(tmp_path):
  files.write_json(tmp_path / "metadata.json", {"settings": {}})
  with pytest.raises(ValueError, match="scenes that --mode=render wrote"):
    resume.check_directory(tmp_path, base.base_config(), True)


@pytest.mark.parametrize("text", ["{", "[]", '{"changes": 3}'])
def test_damaged_metadata_are_an_error(text, tmp_path):
  (tmp_path / "metadata.json").write_text(text)
  with pytest.raises(ValueError, match=r"metadata\.json"):
    resume.read_metadata(tmp_path)


def info_of(version):
  values = {"own_scenes": version is not None, "scenes_version": version}
  return types.DatasetInfo("shapes", "train", (8, 8, 3), None, **values)


@pytest.mark.parametrize(
  ("old", "new", "got"),
  [
    ({"scenes_version": 1, "code": "0.1, commit abc"}, 2, "version 1"),
    ({"scenes_version": 2}, 1, "version 2"),
    ({"scenes_version": None}, 2, "a version not recorded"),
    ({}, 3, "a version not recorded"),
  ],
)
def test_other_images_of_scenes_are_told(old, new, got, tmp_path, caplog):
  files.write_json(tmp_path / "metadata.json", {"own_scenes": True} | old)
  changes = resume.check_same_data(tmp_path, 5, info_of(new), allow=False)
  was = old.get("scenes_version") or "none"
  assert changes == {"scenes_version": (was, new)}
  (message,) = caplog.messages
  assert f"Expected shapes of {got}, as in the first 5 steps" in message
  assert f"got version {new}" in message
  assert f"trained so far ({old.get('code', 'not recorded')})" in message
  assert "\n" not in message
  # Recorded, it is told once.
  config = base.base_config().to_dict()
  metadata.write_metadata(
    tmp_path, config, info_of(new), changes=changes, step=5
  )
  assert not resume.check_same_data(tmp_path, 7, info_of(new), allow=False)
  assert len(caplog.messages) == 1
  changed = {"step": 5, "key": "scenes_version", "old": was, "new": new}
  assert resume.read_metadata(tmp_path)["changes"] == [changed]


@pytest.mark.parametrize(
  ("old", "new"),
  [
    ({"scenes_version": 2, "own_scenes": True}, 2),
    ({"own_scenes": True}, 1),  # The images of this family never changed.
    ({"own_scenes": False}, None),  # No scenes.
  ],
)
def test_the_same_images_are_not_told(old, new, tmp_path, caplog):
  files.write_json(tmp_path / "metadata.json", old)
  assert not resume.check_same_data(tmp_path, 5, info_of(new), allow=False)
  assert not caplog.messages


def test_a_finished_run_is_given_no_version(tmp_path):
  files.write_json(tmp_path / "metadata.json", {"own_scenes": True})
  config = base.base_config().to_dict()
  metadata.write_metadata(tmp_path, config, info_of(2), step=5, finished=True)
  assert resume.read_metadata(tmp_path)["scenes_version"] is None
