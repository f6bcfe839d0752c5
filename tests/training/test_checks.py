"""Tests of the checks of a config."""

import json

from configs import clevr_set
from slot_attention_jax.training import checks


def test_runs_saved_with_old_keys_are_the_same_run(caplog):
  config = clevr_set.get_config("data.scenes.num_train=9")
  saved = json.loads(json.dumps(config.to_dict()))
  data = saved["data"]
  scenes, prepared = data.pop("scenes"), data.pop("tfds")
  data["train_split"] = data.pop("folder")["train_split"]
  data["num_train_eval"] = prepared["num_train_eval"]
  data["num_scenes"] = scenes.pop("num_eval")
  data["num_train_scenes"] = scenes.pop("num_train")
  data |= scenes
  checks.check_same_run(config, saved)
  assert not caplog.records
  data["num_train_scenes"] = 8
  checks.check_same_run(config, saved)
  (line,) = [r.getMessage() for r in caplog.records]
  assert line == (
    "Resuming with data.scenes.num_train=9; the checkpoint was made with 8."
  )
