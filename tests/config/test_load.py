"""Tests of finding a config by name or path, from any directory."""

import pathlib

import pytest

import slot_attention_jax as sa
from slot_attention_jax.config import load

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = ROOT / "configs"

MINE = """
from slot_attention_jax.config import arguments, base

def get_config(arg=""):
  config = base.base_config()
  config.seed = 77
  return arguments.apply_arguments(config, arg)
"""


def write(path, text=MINE):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
  """Nothing depends on the working directory."""
  monkeypatch.chdir(tmp_path)


def test_names_are_those_of_the_files():
  files = {path.stem for path in CONFIGS.glob("*.py")} - {"__init__"}
  assert set(load.config_names()) == files


@pytest.mark.parametrize(
  ("name", "arg"),
  [
    ("clevr_set", ""),
    ("clevr_set:", ""),
    ("clevr_set:small", "small"),
    ("clevr_set:small,seed=3", "small,seed=3"),
    ("clevr_set:data.data_dir=C:/x", "data.data_dir=C:/x"),
    ("configs/clevr_set.py:small", "small"),
    (str(CONFIGS / "clevr_set.py:small"), "small"),
  ],
)
def test_configs_of_the_package_are_found_from_any_directory(name, arg):
  path, found = load.find_config(name)
  assert path.resolve() == CONFIGS / "clevr_set.py"
  assert found == arg


@pytest.mark.parametrize("name", ["clevr_set.py", "configs/clevr_set.py"])
def test_a_file_that_exists_wins(name, tmp_path):
  mine = write(tmp_path / name)
  assert load.find_config(f"{name}:debug")[0].resolve() == mine.resolve()
  config = sa.load_config(f"{name}:debug")
  assert (config.seed, config.train.num_steps) == (77, 2)


def test_a_name_is_the_package_s_beside_a_file_of_that_name(tmp_path):
  write(tmp_path / "clevr_set.py")
  write(tmp_path / "clevr_set")
  assert load.find_config("clevr_set")[0].resolve() == CONFIGS / "clevr_set.py"


def test_a_path_outside_of_the_package_is_loaded(tmp_path):
  path = write(tmp_path / "my experiments" / "my_config.py")
  assert sa.load_config(str(path)).seed == 77
  assert sa.load_config(f"{path}:seed=3").seed == 3


def test_a_foreign_package_named_configs_is_not_in_the_way(
  tmp_path, monkeypatch
):
  write(tmp_path / "configs" / "__init__.py", "raise RuntimeError('foreign')")
  write(tmp_path / "configs" / "mine.py")
  monkeypatch.syspath_prepend(tmp_path)
  assert sa.load_config("quickstart:debug").train.num_steps == 2
  assert sa.load_config("configs/quickstart.py:debug").train.num_steps == 2
  assert sa.load_config("configs/mine.py").seed == 77


def test_a_config_without_arguments_needs_none(tmp_path):
  write(
    tmp_path / "plain.py",
    "import ml_collections\n"
    "def get_config():\n  return ml_collections.ConfigDict({'a': 1})\n",
  )
  config = sa.load_config("plain.py")
  assert config.a == 1
  assert config.is_locked


@pytest.mark.parametrize(
  ("name", "suggestion"),
  [
    ("clevr_sett", " Did you mean 'clevr_set'?"),
    ("clever_set.py:debug", " Did you mean 'clevr_set'?"),
    ("configs/quikstart.py", " Did you mean 'quickstart'?"),
    ("../clevr_set.py", " Did you mean 'clevr_set'?"),
    ("nothing/like/it.py", ""),
    ("__init__", ""),
    ("", ""),
  ],
)
def test_an_unknown_config_lists_all_and_suggests_the_nearest(name, suggestion):
  with pytest.raises(
    ValueError, match=r"\['clevr_discovery', .*\], the"
  ) as info:
    load.find_config(name)
  message = str(info.value)
  file = name.partition(":")[0]
  missing = ", which does not exist" if ".py" in file else ""
  assert message.endswith(f"got {file!r}{missing}.{suggestion}")


@pytest.mark.parametrize("name", ["gs://bucket/run", "gs://bucket/my.py:debug"])
def test_a_config_in_a_bucket_is_an_error(name):
  with pytest.raises(ValueError, match="on a file system, got 'gs://bucket"):
    load.find_config(name)


def test_an_argument_without_a_default_is_empty_without_variants(tmp_path):
  write(
    tmp_path / "plain.py",
    "import ml_collections\n"
    "def get_config(arg):\n  return ml_collections.ConfigDict({'arg': arg})\n",
  )
  assert sa.load_config("plain.py").arg == ""
  assert sa.load_config("plain.py:debug").arg == "debug"


def test_variants_of_a_config_without_any_are_an_error(tmp_path):
  write(tmp_path / "plain.py", "def get_config():\n  return {}\n")
  with pytest.raises(ValueError, match=r"no variants, as .*got 'debug'"):
    sa.load_config("plain.py:debug")


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("x = 1", "a function get_config in .*my.py, got none"),
    ("def get_config():\n  return None", "return a ConfigDict, got NoneType"),
  ],
)
def test_a_file_that_gives_no_config_is_an_error(text, expected, tmp_path):
  write(tmp_path / "my.py", text)
  with pytest.raises(ValueError, match=expected):
    sa.load_config("my.py")


def test_a_file_that_is_not_python_is_an_error(tmp_path):
  write(tmp_path / "my.txt", "{}")
  with pytest.raises(ValueError, match="Expected a Python file"):
    sa.load_config("my.txt")
