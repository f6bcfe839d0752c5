"""Tests of the command line, from a checkout and from the wheel.

Each config's `:debug` runs from end to end. What `--config` accepts is tested
in tests/config/.
"""

import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from absl import app, flags
from absl.testing import flagsaver

import slot_attention_jax as sa
from slot_attention_jax import main
from slot_attention_jax.config import arguments, base

ROOT = pathlib.Path(__file__).parents[1]
CLEVR = ROOT / "tests" / "testdata" / "clevr_array_record"
SCENES = "tetrominoes_scenes"
# Programs are compiled in a fifth of the time; no test measures their speed.
FAST_COMPILE = (
  "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
# As the script that pip makes of the wheel's entry point.
CONSOLE_SCRIPT = (
  "import sys; from slot_attention_jax.main import entry_point; "
  "sys.exit(entry_point())"
)


def run(*arguments, directory=ROOT, path=ROOT, script=False, **environment):
  """Runs the command line on the machine's own devices.

  Args:
    *arguments: flags of the command.
    directory: the working directory.
    path: where the package is imported from.
    script: whether as the console script, or by `python -m`.
    **environment: variables that are added.

  Returns:
    The completed process.
  """
  start = ["-c", CONSOLE_SCRIPT] if script else ["-m", f"{sa.__name__}.main"]
  variables = {
    "PYTHONPATH": str(path),
    "XLA_FLAGS": FAST_COMPILE,
    **environment,
  }
  return subprocess.run(
    [sys.executable, *start, "--compilation_cache=", *map(str, arguments)],
    cwd=directory,
    env=os.environ | variables,
    capture_output=True,
    text=True,
    check=False,
  )


def printed(result):
  """Metrics that a run printed, by name."""
  assert result.returncode == 0, result.stderr
  lines = [line.split(": ") for line in result.stdout.splitlines()]
  return {name: float(value) for name, value in lines}


def assert_trains_and_evaluates(config, workdir, names, **options):
  """Trains, then evaluates; both print the same metrics. Returns the log."""
  settings = sa.load_config(config)
  last = settings.train.num_steps
  command = [f"--config={config}", f"--workdir={workdir}"]
  trained = run(*command, **options)
  metrics = printed(trained)
  assert set(metrics) == names
  saved = {int(p.name) for p in (workdir / "checkpoints").iterdir()}
  assert saved == {settings.checkpoint.every_steps, last}
  rows = (workdir / "metrics.jsonl").read_text().splitlines()
  assert max(json.loads(row)["step"] for row in rows) == last
  assert (workdir / "images" / f"{last:08d}.png").exists()
  assert (workdir / "config.json").exists()

  evaluated = printed(run(*command, "--mode=evaluate", **options))
  # An evaluation has more than training shows.
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


# The wheel.


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  """The wheel of the source distribution of a copy of this checkout."""
  directory = tmp_path_factory.mktemp("wheel")
  source = directory / "checkout"
  for name in ("configs", "slot_attention_jax"):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / name, source / name, ignore=ignored)
  for path in ROOT.iterdir():
    if path.is_file() and path.name != ".git":
      shutil.copy(path, source)

  def build(kind, source):
    code = f"from setuptools import build_meta as b; b.build_{kind}('..')"
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=source, check=True, capture_output=True)

  build("sdist", source)
  (archive,) = directory.glob("*.tar.gz")
  shutil.unpack_archive(archive, directory)
  build("wheel", directory / archive.name.removesuffix(".tar.gz"))
  (path,) = directory.glob("*.whl")
  return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
  """A directory of packages into which the wheel was unpacked."""
  directory = tmp_path_factory.mktemp("site")
  with zipfile.ZipFile(wheel) as file:
    file.extractall(directory)
  return directory


@pytest.fixture
def hostile(tmp_path):
  """A working directory with files that have the names of the package's."""
  directory = tmp_path / "hostile"
  (directory / "configs").mkdir(parents=True)
  for name in ("configs/__init__.py", "clevr_set.py", "quickstart.py"):
    (directory / name).write_text("raise RuntimeError('not of the package')\n")
  return directory


def test_the_wheel_has_all_that_runs_and_no_more(wheel):
  with zipfile.ZipFile(wheel) as file:
    names = {name for name in file.namelist() if ".dist-info/" not in name}
  package = ROOT / "slot_attention_jax"
  weights = package / "pretrained"
  expected = [
    *package.rglob("*.py"),
    *weights.glob("*.safetensors"),
    *weights.glob("*.md"),
    package / "py.typed",
  ]
  files = {path.relative_to(ROOT).as_posix() for path in expected}
  configs = (ROOT / "configs").glob("*.py")
  files |= {f"slot_attention_jax/configs/{path.name}" for path in configs}
  assert names == files


def test_the_wheel_describes_itself(wheel, installed):
  (about,) = importlib.metadata.distributions(path=[str(installed)])
  assert about.version == sa.__version__
  (script,) = about.entry_points
  assert (script.name, script.group) == ("slot-attention", "console_scripts")
  assert script.value == "slot_attention_jax.main:entry_point"
  assert "https://arxiv.org/abs/2006.15055" in str(about.metadata)
  # The source distribution also says how to cite this version.
  (citation,) = wheel.parent.glob("slot_attention_jax-*/CITATION.cff")
  assert f"\nversion: {sa.__version__}\n" in citation.read_text()


def test_the_quickstart_runs_from_the_wheel(installed, hostile, tmp_path):
  log = assert_trains_and_evaluates(
    "quickstart:debug",
    tmp_path / "run",
    discovery(SCENES),
    directory=hostile,
    path=installed,
    script=True,
  )
  assert f" on {SCENES}, " in log
  assert "Traceback" not in log


@pytest.mark.slow
def test_set_prediction_and_rendering_run_from_the_wheel(
  installed, hostile, tmp_path
):
  where = {"directory": hostile, "path": installed}
  assert_trains_and_evaluates(
    "clevr_set:debug",
    tmp_path / "run",
    prediction("clevr_scenes"),
    TFDS_DATA_DIR=str(tmp_path / "no_data"),
    **where,
  )
  metrics = printed(
    run(
      "--config=tetrominoes:debug",
      "--mode=render",
      f"--workdir={tmp_path / 'scenes'}",
      **where,
    )
  )
  assert metrics[f"{SCENES}/validation/num_scenes"] == 6


# A checkout.


def test_set_prediction_trains_and_evaluates_on_clevr(tmp_path):
  places = f"data.data_dir={CLEVR},data.cache_dir={tmp_path / 'cache'}"
  config = (
    "configs/clevr_set.py:small,debug,data.name=clevr,data.scenes.num_train=0"
  )
  workdir = tmp_path / "run"
  assert_trains_and_evaluates(
    f"{config},{places}", workdir, prediction("clevr:3.1.0")
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
  assert_trains_and_evaluates(
    f"configs/clevr_discovery.py:debug,{places}",
    tmp_path / "run",
    discovery("clevr:3.1.0", masks=False),
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "names"),
  [
    ("clevr_set", prediction("clevr_scenes")),
    ("clevr_discovery", discovery("clevr_scenes_3_to_6")),
    ("multi_dsprites", discovery("multi_dsprites_scenes")),
    ("tetrominoes", discovery("tetrominoes_scenes")),
  ],
  ids=["clevr_set", "clevr_discovery", "multi_dsprites", "tetrominoes"],
)
def test_configs_train_on_synthetic_scenes_without_data(name, names, tmp_path):
  log = assert_trains_and_evaluates(
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
  done = run(
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
  assert_trains_and_evaluates(
    f"tetrominoes:with_masks,debug,{splits},{places}",
    tmp_path / "run",
    {f"{name}/records[30:40]/{n}" for n in ("mse", "fg_ari", "ari", "miou")},
  )
  metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
  assert (metadata["own_scenes"], metadata["num_examples"]) == (False, 30)


def test_scenes_are_rendered(tmp_path):
  command = [
    "--config=tetrominoes:debug",
    "--mode=render",
    f"--workdir={tmp_path / 'scenes'}",
  ]
  metrics = printed(run(*command))
  name = f"{SCENES}/validation"
  assert metrics == {f"{name}/num_scenes": 6, f"{name}/num_objects": 18}
  # Nothing of another export is overwritten.
  other = run(*command, "--config.seed=1")
  assert other.returncode != 0
  assert "--workdir" in other.stderr


def test_print_config_needs_no_device(hostile):
  """A config of one's own, from another directory, beside other `configs`."""
  (hostile / "my_config.py").write_text(
    "from slot_attention_jax.config import arguments, base\n"
    "def get_config(arg=''):\n"
    "  config = base.base_config()\n"
    "  config.seed = 77\n"
    "  return arguments.apply_arguments(config, arg)\n"
  )
  result = run(
    f"--config={hostile / 'my_config.py'}:debug",
    "--config.model.num_slots=5",
    "--print_config",
    directory=hostile.parent,
    path=os.pathsep.join([str(hostile), str(ROOT)]),
    JAX_PLATFORMS="no_such_platform",
  )
  assert result.returncode == 0, result.stderr
  config = base.base_config()
  exec(result.stdout, {"config": config})
  expected = base.base_config()
  arguments.apply_arguments(expected, "seed=77,debug,model.num_slots=5")
  assert config.to_dict() == expected.to_dict()
  assert list(hostile.parent.iterdir()) == [hostile]


# Errors.


def test_help_of_the_script_explains_the_flags(tmp_path):
  result = run("--help", directory=tmp_path, script=True)
  for name in ("--config", "--mode", "--workdir", "--[no]print_config"):
    assert f"\n  {name}: " in result.stdout


@pytest.mark.parametrize(
  ("flag", "expected"),
  [
    ("--mode=train", "Flag --config must have a value other than None"),
    ("--config=quickstart:debgu", "got 'debgu'. Did you mean 'debug'?"),
  ],
)
def test_wrong_flags_are_errors_without_a_traceback(flag, expected, tmp_path):
  result = run(flag, directory=tmp_path)
  assert result.returncode != 0
  assert expected in result.stderr
  assert "Traceback" not in result.stderr
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("values", "arguments", "expected"),
  [
    ({"pretrained": "quickstart"}, [], "Expected --mode=evaluate for --pretr"),
    ({"workdir": "gs://bucket/run"}, [], "Mount it"),
    ({}, ["train"], r"Expected only flags, got \['train'\]"),
  ],
)
def test_flags_that_do_not_go_together_are_errors(values, arguments, expected):
  flags.FLAGS.mark_as_parsed()
  try:
    with (
      flagsaver.as_parsed(config="quickstart:debug", **values),
      pytest.raises(app.UsageError, match=expected),
    ):
      main.main(["main", *arguments])
  finally:
    flags.FLAGS.unparse_flags()


def test_evaluation_before_training_says_what_to_do(tmp_path):
  result = run(
    "--config=quickstart:debug", "--mode=evaluate", directory=tmp_path
  )
  assert result.returncode != 0
  # The directory that would have been the run's, too.
  assert "quickstart_debug" in result.stderr
  assert "--mode=train" in result.stderr
