"""Tests of the wheel: what is in it, and that it runs from any directory."""

import importlib.metadata
import shutil
import subprocess
import sys
import zipfile

import pytest

import slot_attention_jax as sa
from tests import command_line

ROOT = command_line.ROOT
SCENES = "tetrominoes_scenes"


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


@pytest.mark.thorough
def test_the_wheel_has_all_that_runs_and_no_more(wheel):
  with zipfile.ZipFile(wheel) as file:
    names = {name for name in file.namelist() if ".dist-info/" not in name}
  package = ROOT / "slot_attention_jax"
  weights = package / "pretrained"
  expected = [
    *package.rglob("*.py"),
    *weights.glob("*.safetensors"),
    *weights.glob("*.md"),
    weights / "sha256.json",
    package / "py.typed",
    *(package / "report" / "static").iterdir(),
  ]
  files = {path.relative_to(ROOT).as_posix() for path in expected}
  configs = (ROOT / "configs").glob("*.py")
  files |= {f"slot_attention_jax/configs/{path.name}" for path in configs}
  assert names == files


@pytest.mark.thorough
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


@pytest.mark.thorough
def test_the_quickstart_runs_from_the_wheel(installed, hostile, tmp_path):
  log = command_line.assert_trains_and_evaluates(
    "quickstart:debug",
    tmp_path / "run",
    command_line.discovery(SCENES),
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
  command_line.assert_trains_and_evaluates(
    "clevr_set:debug",
    tmp_path / "run",
    command_line.prediction("clevr_scenes"),
    TFDS_DATA_DIR=str(tmp_path / "no_data"),
    **where,
  )
  metrics = command_line.printed(
    command_line.run(
      "--config=tetrominoes:debug",
      "--mode=render",
      f"--workdir={tmp_path / 'scenes'}",
      XLA_FLAGS="",  # As users run it.
      **where,
    )
  )
  assert metrics[f"{SCENES}/validation/num_scenes"] == 6


@pytest.mark.thorough
def test_help_of_the_script_explains_the_flags(tmp_path):
  result = command_line.run("--help", directory=tmp_path, script=True)
  for name in ("--config", "--mode", "--workdir", "--[no]print_config"):
    assert f"\n  {name}: " in result.stdout
