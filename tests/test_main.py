"""Tests of the command line in a checkout.

Each config's `:debug` runs from end to end. What `--config` accepts is tested
in tests/config/, the installed command in tests/test_wheel.py.
"""

import json
import os
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from slot_attention_jax import main
from slot_attention_jax.config import arguments, base
from tests import command_line

ROOT = command_line.ROOT
CLEVR = ROOT / "tests" / "testdata" / "clevr_array_record"
SCENES = "tetrominoes_scenes"


@pytest.mark.thorough
def test_set_prediction_trains_and_evaluates_on_clevr(tmp_path):
  places = f"data.data_dir={CLEVR},data.cache_dir={tmp_path / 'cache'}"
  config = (
    "configs/clevr_set.py:small,debug,data.name=clevr,data.scenes.num_train=0"
  )
  workdir = tmp_path / "run"
  command_line.assert_trains_and_evaluates(
    f"{config},{places}", workdir, command_line.prediction("clevr:3.1.0")
  )
  metadata = json.loads((workdir / "metadata.json").read_text())
  assert metadata["data"] == "clevr:3.1.0"
  assert metadata["own_scenes"] is False
  assert metadata["num_examples"] == 10
  # How the config was made, not where the data lie.
  assert metadata["recipe"] == f"--config={config}"


@pytest.mark.slow
def test_discovery_trains_and_evaluates_on_clevr(tmp_path):
  places = f"data.data_dir={CLEVR},data.cache_dir={tmp_path / 'cache'}"
  command_line.assert_trains_and_evaluates(
    f"configs/clevr_discovery.py:debug,{places}",
    tmp_path / "run",
    command_line.discovery("clevr:3.1.0", masks=False),
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "names"),
  [
    ("clevr_set", command_line.prediction("clevr_scenes")),
    ("clevr_discovery", command_line.discovery("clevr_scenes_3_to_6")),
    ("multi_dsprites", command_line.discovery("multi_dsprites_scenes")),
    ("tetrominoes", command_line.discovery("tetrominoes_scenes")),
  ],
  ids=["clevr_set", "clevr_discovery", "multi_dsprites", "tetrominoes"],
)
def test_configs_train_on_synthetic_scenes_without_data(name, names, tmp_path):
  log = command_line.assert_trains_and_evaluates(
    f"{name}:debug",
    tmp_path / "run",
    names,
    TFDS_DATA_DIR=str(tmp_path / "no_data"),
  )
  dataset = "CLEVR" if name.startswith("clevr") else name.upper()
  assert log.count(f"NO {dataset} DATA FOUND") == 1


@pytest.mark.slow
def test_a_multi_object_dataset_from_its_file_to_a_score(tmp_path):
  """Scenes of the package go out in the original layout and come back."""
  scenes = tmp_path / "scenes"
  done = command_line.run(
    "--config=tetrominoes",
    f"--config.data.name={SCENES}",
    "--config.data.scenes.num_eval=40",
    "--config.train.batch_size=4",
    "--mode=render",
    f"--workdir={scenes}",
  )
  assert done.returncode == 0, done.stderr
  prepared = subprocess.run(
    [
      *(sys.executable, "-m", "slot_attention_jax.data.prepare"),
      "--name=tetrominoes",
      f"--source={scenes / 'tetrominoes_scenes_validation.tfrecords'}",
      f"--data_dir={tmp_path}",
    ],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert prepared.returncode == 0, prepared.stderr
  assert json.loads(prepared.stdout)["num_objects"] == {"3": 40}
  name = "tetrominoes:1.0.0[40_of_tetrominoes_scenes_validation.tfrecords]"
  splits = "data.tfds.train_split=records[0:30],eval.split=records[30:40]"
  places = f"data.data_dir={tmp_path},data.cache_dir={tmp_path / 'cache'}"
  command_line.assert_trains_and_evaluates(
    f"tetrominoes:with_masks,debug,{splits},{places}",
    tmp_path / "run",
    {f"{name}/records[30:40]/{n}" for n in ("mse", "fg_ari", "ari", "miou")},
  )
  metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
  assert (metadata["own_scenes"], metadata["num_examples"]) == (False, 30)


@pytest.mark.thorough
def test_scenes_are_rendered(tmp_path):
  command = [
    "--config=tetrominoes:debug",
    "--mode=render",
    f"--workdir={tmp_path / 'scenes'}",
  ]
  metrics = command_line.printed(command_line.run(*command))
  name = f"{SCENES}/validation"
  assert metrics == {f"{name}/num_scenes": 6, f"{name}/num_objects": 18}
  # Nothing of another export is overwritten.
  other = command_line.run(*command, "--config.seed=1")
  assert other.returncode != 0
  assert "--workdir" in other.stderr


@pytest.mark.thorough
def test_print_config_says_what_a_training_would_refuse(tmp_path):
  result = command_line.run(
    "--config=quickstart:plain,model.background_logit=3",
    "--print_config",
    directory=tmp_path,
  )
  assert result.returncode == 2
  assert "config.model.background_logit = 3.0" in result.stdout
  assert "model.background_logit: expected 0" in result.stderr
  assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_print_config_needs_no_device(tmp_path):
  """A config of one's own, from another directory, beside other `configs`."""
  mine = tmp_path / "mine"
  (mine / "configs").mkdir(parents=True)
  (mine / "configs" / "__init__.py").write_text("raise RuntimeError\n")
  (mine / "my_config.py").write_text(
    "from slot_attention_jax.config import arguments, base\n"
    "def get_config(arg=''):\n"
    "  config = base.base_config()\n"
    "  config.seed = 77\n"
    "  return arguments.apply_arguments(config, arg)\n"
  )
  result = command_line.run(
    f"--config={mine / 'my_config.py'}:debug",
    "--config.model.num_slots=5",
    "--print_config",
    directory=tmp_path,
    path=os.pathsep.join([str(mine), str(ROOT)]),
    JAX_PLATFORMS="no_such_platform",
  )
  assert result.returncode == 0, result.stderr
  config = base.base_config()
  exec(result.stdout, {"config": config})
  expected = base.base_config()
  arguments.apply_arguments(expected, "seed=77,debug,model.num_slots=5")
  assert config.to_dict() == expected.to_dict()
  assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize(
  ("flag", "expected"),
  [
    ("--config=quickstart:debgu", "got 'debgu'. Did you mean 'debug'?"),
    pytest.param(
      "--mode=train",
      "Flag --config must have a value other than None",
      marks=pytest.mark.thorough,
    ),
  ],
)
def test_wrong_flags_are_errors_without_a_traceback(flag, expected, tmp_path):
  result = command_line.run(flag, directory=tmp_path)
  assert result.returncode == 2
  assert expected in result.stderr
  assert result.stderr.startswith("Error: ")
  assert "Traceback" not in result.stderr
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("values", "arguments", "expected"),
  [
    ({"pretrained": "quickstart"}, [], "Expected --mode=evaluate for --pretr"),
    ({"workdir": "s3://bucket/run"}, [], "Mount other storage"),
    ({}, ["train"], r"Expected only flags, got \['train'\]"),
  ],
)
def test_flags_that_do_not_go_together_are_errors(values, arguments, expected):
  flags.FLAGS.mark_as_parsed()
  try:
    with (
      flagsaver.as_parsed(config="quickstart:debug", **values),
      pytest.raises(ValueError, match=expected),
    ):
      main.main(["main", *arguments])
  finally:
    flags.FLAGS.unparse_flags()


def test_evaluation_before_training_says_what_to_do(tmp_path):
  result = command_line.run(
    "--config=quickstart:debug", "--mode=evaluate", directory=tmp_path
  )
  assert result.returncode == 2
  assert "Traceback" not in result.stderr
  # The directory that would have been the run's, too.
  assert "quickstart_debug" in result.stderr
  assert "--mode=train" in result.stderr
