"""Tests of the command line: each config's `:debug` run from end to end."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CLEVR = ROOT / "tests" / "testdata" / "clevr_array_record"
OWN = "tetrominoes_scenes"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  """Compiled programs, kept from run to run as a user's are."""
  return tmp_path_factory.mktemp("xla")


def run(*arguments, cache="", directory=ROOT, **environment):
  """Runs the command line as a user does, on the machine's own devices."""
  path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
  command = [sys.executable, "-m", "slot_attention_jax.main"]
  command += [f"--compilation_cache={cache}", *map(str, arguments)]
  return subprocess.run(
    command,
    cwd=directory,
    env=os.environ | {"PYTHONPATH": path, "XLA_FLAGS": ""} | environment,
    capture_output=True,
    text=True,
    check=False,
  )


def printed(result):
  """Metrics that a run printed, by name."""
  assert result.returncode == 0, result.stderr
  lines = [line.split(": ") for line in result.stdout.splitlines()]
  return {name: float(value) for name, value in lines}


def rows_of(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def assert_trains_and_evaluates(config, workdir, names, cache, **environment):
  """Trains, then evaluates; both print the same metrics."""
  file, _, arg = config.partition(":")
  module = importlib.import_module(f"configs.{pathlib.Path(file).stem}")
  settings = module.get_config(arg)
  last = settings.train.num_steps
  common = [f"--config={ROOT / 'configs' / config}", f"--workdir={workdir}"]
  trained = run(*common, cache=cache, **environment)
  metrics = printed(trained)
  assert set(metrics) == names
  saved = {int(p.name) for p in (workdir / "checkpoints").iterdir()}
  assert saved == {settings.checkpoint.every_steps, last}
  assert max(row["step"] for row in rows_of(workdir)) == last
  assert (workdir / "images" / f"{last:08d}.png").exists()
  assert (workdir / "config.json").exists()

  again = run(*common, "--mode=evaluate", cache=cache, **environment)
  evaluated = printed(again)
  # A report has more than training shows.
  assert len(evaluated) > len(metrics)
  assert {k: evaluated[k] for k in metrics} == pytest.approx(
    metrics, rel=1e-4, abs=1e-6
  )
  report = json.loads((workdir / "evaluation.json").read_text())
  assert report["step"] == last
  assert set(report["metrics"]) == set(evaluated)
  assert report["protocol"]["config"].startswith("--config=configs/")
  return trained.stderr


def discovery(data, *, masks=True):
  names = ("mse", "fg_ari", "ari", "miou") if masks else ("mse",)
  return {f"{data}/validation/{name}" for name in names}


def prediction(data):
  names = ("loss", "ap_inf", "ap_1", "ap_0.5", "ap_0.25", "ap_0.125")
  return {f"{data}/validation/{name}" for name in names}


def test_quickstart_trains_and_evaluates(tmp_path, cache):
  log = assert_trains_and_evaluates(
    "quickstart.py:debug", tmp_path, discovery(OWN), cache
  )
  assert "DATA FOUND" not in log
  assert f" on {OWN}, " in log


def test_set_prediction_trains_and_evaluates_on_clevr(tmp_path, cache):
  arguments = f"data.data_dir={CLEVR},data.cache_dir={tmp_path / 'cache'}"
  workdir = tmp_path / "run"
  assert_trains_and_evaluates(
    f"clevr_set.py:debug,{arguments}",
    workdir,
    prediction("clevr:3.1.0"),
    cache,
  )
  metadata = json.loads((workdir / "metadata.json").read_text())
  assert metadata["data"] == "clevr:3.1.0"
  assert metadata["own_scenes"] is False
  assert metadata["num_examples"] == 10
  # How the config was made, not where the data lie.
  assert metadata["recipe"] == "--config=configs/clevr_set.py:debug"


@pytest.mark.slow
def test_discovery_trains_and_evaluates_on_clevr(tmp_path, cache):
  arguments = f"data.data_dir={CLEVR},data.cache_dir={tmp_path / 'cache'}"
  assert_trains_and_evaluates(
    f"clevr_discovery.py:debug,{arguments}",
    tmp_path / "run",
    discovery("clevr:3.1.0", masks=False),
    cache,
  )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tetrominoes", "multi_dsprites"])
def test_other_configs_train_and_evaluate(name, tmp_path, cache):
  log = assert_trains_and_evaluates(
    f"{name}.py:debug",
    tmp_path / "run",
    discovery(f"{name}_scenes"),
    cache,
    TFDS_DATA_DIR=str(tmp_path / "no_data"),
  )
  assert log.count(f"NO {name.upper()} DATA FOUND") == 1


@pytest.mark.slow
def test_a_set_with_masks_from_its_file_to_a_score(tmp_path, cache):
  """Scenes of the package go out in the original layout and come back."""
  scenes = tmp_path / "scenes"
  small = (
    "data.name=tetrominoes_scenes,data.scenes.num_eval=40,train.batch_size=4"
  )
  config = f"--config={ROOT / 'configs/tetrominoes.py'}:{small}"
  done = run(config, "--mode=render", f"--workdir={scenes}", cache=cache)
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
  assert_trains_and_evaluates(
    f"tetrominoes.py:masks,debug,{splits},{places}",
    tmp_path / "run",
    {f"{name}/records[30:40]/{n}" for n in ("mse", "fg_ari", "ari", "miou")},
    cache,
  )
  metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
  assert (metadata["own_scenes"], metadata["num_examples"]) == (False, 30)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "names"),
  [
    ("clevr_set", prediction("clevr_scenes")),
    ("clevr_discovery", discovery("clevr_scenes_3_to_6")),
  ],
  ids=["clevr_set", "clevr_discovery"],
)
def test_clevr_configs_train_on_own_scenes_without_data(
  name, names, tmp_path, cache
):
  empty = tmp_path / "no_data"
  log = assert_trains_and_evaluates(
    f"{name}.py:debug",
    tmp_path / "run",
    names,
    cache,
    TFDS_DATA_DIR=str(empty),
  )
  assert log.count("NO CLEVR DATA FOUND") == 1


def test_scenes_are_rendered(tmp_path, cache):
  config = f"--config={ROOT / 'configs' / 'tetrominoes.py:debug'}"
  command = [config, "--mode=render", f"--workdir={tmp_path / 'scenes'}"]
  metrics = printed(run(*command, cache=cache))
  name = f"{OWN}/validation"
  assert metrics == {f"{name}/num_scenes": 6, f"{name}/num_objects": 18}
  assert (tmp_path / "scenes" / "contact_sheet.png").exists()
  # Nothing of another export is overwritten.
  other = run(*command, "--config.seed=1", cache=cache)
  assert other.returncode != 0
  assert "--workdir" in other.stderr


def test_the_config_must_be_named():
  result = run("--mode=train")
  assert result.returncode != 0
  assert "--config" in result.stderr
  assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
  ("argument", "expected"),
  [
    ("--num_steps=3", "num_steps"),
    ("--mode=predict", "train|evaluate|render|export"),
    ("--pretrained=quickstart", "Expected --mode=evaluate for --pretrained"),
    ("--config.model.num_slot=3", "num_slot"),
    ("quickstart", "Expected only flags, got ['quickstart']"),
  ],
)
def test_unknown_flags_and_arguments_are_errors(argument, expected, tmp_path):
  config = f"--config={ROOT / 'configs' / 'quickstart.py:debug'}"
  result = run(config, argument, directory=tmp_path)
  assert result.returncode != 0
  assert expected in result.stderr + result.stdout
  # Nothing began.
  assert not list(tmp_path.iterdir())


def test_an_unknown_preset_is_an_error(tmp_path):
  config = ROOT / "configs" / "quickstart.py:debgu"
  result = run(f"--config={config}", directory=tmp_path)
  assert result.returncode != 0
  assert "Expected a variant out of ['debug'], got 'debgu'" in result.stderr


def test_evaluation_before_training_says_what_to_do(tmp_path):
  config = ROOT / "configs" / "quickstart.py:debug"
  result = run(f"--config={config}", "--mode=evaluate", directory=tmp_path)
  assert result.returncode != 0
  # The directory that would have been the run's, too.
  assert "quickstart_debug" in result.stderr
  assert "--mode=train" in result.stderr
