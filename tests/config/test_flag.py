"""Tests of `--config` and its overrides, without starting the program."""

import pathlib
import re
import shlex
import sys

import pytest
from absl import flags
from ml_collections import config_flags

import slot_attention_jax as sa
from slot_attention_jax.config import flag
from slot_attention_jax.runtime import files


@pytest.fixture
def parse(monkeypatch):
  """Parses flags into a registry of their own; returns the config."""

  def parse_flags(*arguments):
    registry = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", registry)
    monkeypatch.setattr(config_flags.config_flags, "FLAGS", registry)
    monkeypatch.setattr(sys, "argv", ["main", *arguments])
    holder = flag.define_config_flag("help", registry)
    registry(sys.argv)
    return holder.value

  return parse_flags


def test_overrides_change_the_config_after_its_variants(parse):
  config = parse(
    "--config=clevr_set:small",
    "--config.train.num_steps=7",
    "--config.data.resolution=(32, 48)",
    "--config.model.remat_decoder",
    "--config.data.scenes.num_eval",
    "9",
  )
  assert config.is_locked
  assert config.train.num_steps == 7
  assert config.data.resolution == (32, 48)
  assert config.model.remat_decoder is True
  assert config.data.scenes.num_eval == 9
  # Of the variant.
  assert config.data.name == "clevr_scenes"


@pytest.mark.parametrize(
  ("key", "expected"),
  [
    ("model.num_slot", "Did you mean 'model.num_slots'"),
    ("modle.num_slots", "Did you mean 'model.num_slots'"),
    ("num_slots", "Did you mean 'model.num_slots'"),
    ("data.num_scenes", "now called 'data.scenes.num_eval'"),
    ("model", "Expected a key of the config, got --config.model"),
  ],
)
def test_an_unknown_key_is_an_error_that_names_the_right_one(
  key, expected, parse
):
  with pytest.raises(flags.IllegalFlagValueError, match=expected):
    parse("--config=quickstart", f"--config.{key}=3")


def test_all_old_keys_are_named(parse):
  with pytest.raises(
    flags.IllegalFlagValueError,
    match=r"(?s)2 old names.*scenes\.num_eval.*scenes\.held_out",
  ):
    parse(
      "--config=quickstart",
      "--config.data.num_scenes=3",
      "--config.data.held_out=cogent_a",
    )


@pytest.mark.parametrize(
  ("value", "expected"),
  [
    ("quikstart", "Did you mean 'quickstart'"),
    ("quickstart:debgu", "Did you mean 'debug'"),
    ("quickstart:num_slots=4", "Did you mean 'model.num_slots'"),
  ],
)
def test_an_unknown_config_or_variant_is_an_error(value, expected, parse):
  with pytest.raises(flags.IllegalFlagValueError, match=expected):
    parse(f"--config={value}")


@pytest.mark.parametrize(
  ("body", "expected"),
  [
    ("  return 1 + 'a'", "TypeError in line 2: unsupported operand"),
    ("  return {}['x']", "KeyError in line 2: 'x'"),
    ("  return (", "SyntaxError in line 2"),
    ("  import no_such_package", "No module named"),
  ],
)
def test_a_bug_in_a_config_file_names_its_line(body, expected, parse, tmp_path):
  path = tmp_path / "buggy.py"
  path.write_text(f"def get_config():\n{body}\n")
  with pytest.raises(
    (flags.IllegalFlagValueError, ModuleNotFoundError), match=expected
  ):
    parse(f"--config={path}")


@pytest.mark.parametrize(
  ("override", "expected"),
  [
    ("model.num_slots=abc", "Expected an integer, got 'abc'"),
    ("model.num_slots=1.5", "Expected an integer, got '1.5'"),
    ("model.epsilon=small", "Expected a number, got 'small'"),
    ("data.fallback=maybe", "Expected true or false, got 'maybe'"),
    ("data.resolution=64x64", "Expected a tuple, as .* got '64x64'"),
  ],
)
def test_a_value_of_another_type_is_an_error(override, expected, parse):
  with pytest.raises(flags.IllegalFlagValueError, match=expected):
    parse("--config=quickstart", f"--config.{override}")


@pytest.mark.parametrize("text", ["(inf, 1.0)", "(float('inf'),1)", "[inf,1]"])
def test_thresholds_are_read_as_they_are_printed(text, parse):
  config = parse("--config=quickstart", f"--config.eval.thresholds={text}")
  assert config.eval.thresholds == (float("inf"), 1.0)
  # What the run's metadata keep can be read again.
  _, shown = shlex.split(flag.command())
  assert parse("--config=quickstart", shown).eval == config.eval


def test_thresholds_are_read_behind_the_colon_as_they_are_printed(parse):
  config = parse("--config=quickstart:eval.thresholds=(inf, 1.0)")
  assert config.eval.thresholds == (float("inf"), 1.0)


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("jsonl", ("jsonl",)),
    ("jsonl,wandb", ("jsonl", "wandb")),
    ("('jsonl', 'wandb')", ("jsonl", "wandb")),
    ("()", ()),
  ],
)
def test_names_are_read_without_brackets(text, expected, parse):
  config = parse("--config=quickstart", f"--config.logging.writers={text}")
  assert config.logging.writers == expected


def run_names(config):
  """Names in `runs`."""
  found = flag.run_directories(config)
  assert all(path.parent == pathlib.Path("runs") for path in found)
  return [path.name for path in found]


@pytest.mark.parametrize(
  ("flags_given", "expected"),
  [
    ("--config=quickstart", "quickstart"),
    ("--config=clevr_set:small,debug", "clevr_set_small,debug"),
    ("--config=configs/clevr_set.py:fast", "clevr_set_fast"),
    ("--config=quickstart:seed=3", "quickstart_seed3"),
    ("--config=quickstart --config.seed=3", "quickstart_seed3"),
    ("--config=clevr_set:small --config.seed=2", "clevr_set_small_seed2"),
    # The value that it has anyway, and what does not make another run.
    ("--config=quickstart --config.seed=0", "quickstart"),
    ("--config=quickstart --config.train.max_minutes=8", "quickstart"),
    ("--config=quickstart:data.cache_dir=/a", "quickstart"),
    ("--config=quickstart --config.logging.writers=jsonl", "quickstart"),
  ],
)
def test_the_name_of_a_run_is_readable(flags_given, expected, parse):
  assert run_names(parse(*flags_given.split()))[0] == expected


def test_runs_with_different_overrides_have_different_names(parse):
  overrides = [
    "data.data_dir=/a/b",
    "data.data_dir=/a_b",
    "data.name=clevr",
    "eval.split=test",
    "logging.every_steps=7",
    "model.encoder_channels=(8,)",
    "model.unroll=2",
    "optim.learning_rate=1e-3",
    "train.num_steps=7",
  ]
  names = set()
  for override in overrides:
    for seed in (0, 1):
      config = parse(
        "--config=quickstart", f"--config.{override}", f"--config.seed={seed}"
      )
      (name, *_) = run_names(config)
      # However it is spelled.
      value = f"--config=quickstart:{override},seed={seed}"
      assert run_names(parse(value))[0] == name
      assert re.fullmatch(rf"quickstart{'_seed1' * seed}_[0-9a-f]{{8}}", name)
      names.add(name)
  assert len(names) == 2 * len(overrides)


def test_an_evaluation_finds_the_run_without_its_own_overrides(parse):
  config = parse(
    "--config=quickstart",
    "--config.seed=3",
    "--config.eval.split=test",
    "--config.data.scenes.num_eval=9",
  )
  assert run_names(config)[1] == "quickstart_seed3"


def test_a_config_of_ones_own_may_take_any_argument(parse, tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "from slot_attention_jax.config import base\n"
    "def get_config(arg):\n"
    "  config = base.base_config()\n"
    "  config.seed = len(arg.split('=(')[1])\n"
    "  return config\n"
  )
  names = [
    run_names(parse(f"--config={path}:a/b=({x}"))[0] for x in ("x", "yy")
  ]
  assert names == ["mine_a_b=(x", "mine_a_b=(yy"]


def test_the_command_has_all_that_makes_the_config(parse):
  parse(
    "--config=clevr_set:small,data.cache_dir=/tmp",
    "--config.seed=3",
    "--config.data.data_dir=/data",
  )
  # Where the data lie is of this machine only.
  assert flag.command() == "--config=configs/clevr_set.py:small --config.seed=3"


def test_the_command_can_be_pasted_into_a_shell(parse):
  typed = [
    "--config=folder:debug,data.resolution=(64, 64)",
    "--config.model.broadcast_size=(8, 8)",
    "--config.data.crop=",
  ]
  config = parse(*typed)
  name, *overrides = shlex.split(flag.command())
  assert name == "--config=configs/folder.py:debug,data.resolution=(64, 64)"
  assert parse("--config=folder:debug", *overrides).model == config.model
  assert "--config.data.crop=''" in flag.command()


def test_the_command_names_a_file_by_its_directory(parse, tmp_path):
  path = tmp_path / "mine" / "my_config.py"
  path.parent.mkdir()
  path.write_text(
    "from slot_attention_jax.config import base\n"
    "def get_config():\n  return base.base_config()\n"
  )
  parse(f"--config={path}")
  assert flag.command() == "--config=mine/my_config.py"


@pytest.mark.parametrize(
  "flags_given",
  [
    ["--config=quickstart:debug,model.encoder_channels=(8, 8)"],
    ["--config=quickstart", "--config.model.encoder_channels=(8, 8)"],
  ],
)
def test_the_command_knows_which_keys_it_sets(flags_given, parse):
  parse(*flags_given)
  assert flag.overridden_keys() == ["model.encoder_channels"]


@pytest.mark.parametrize(
  ("recipe", "given", "expected"),
  [
    ("--config=a/b.py", "", "--config=a/b.py"),
    ("--config=a/b.py:small --config.seed=2", "", None),
    ("--config=a/b.py", ":seed=3", "--config=a/b.py --config.seed=3"),
    (
      "--config='a/b.py:small,data.resolution=(28, 28)' --config.seed=2",
      ":seed=3,debug",
      "--config='a/b.py:small,data.resolution=(28, 28),debug' --config.seed=3",
    ),
    ("", "", "--config=mine/config.json"),  # It recorded none.
  ],
)
def test_the_command_of_a_runs_config_is_that_of_the_run(
  recipe, given, expected, parse, tmp_path
):
  run = tmp_path / "mine"
  run.mkdir()
  files.write_json(run / "config.json", sa.load_config("quickstart").to_dict())
  files.write_json(run / "metadata.json", {"recipe": recipe})
  parse(f"--config={run}{given}")
  assert flag.command() == (recipe if expected is None else expected)
  parse(f"--config={run}{given}", "--config.train.num_steps=9")
  assert flag.command().endswith(" --config.train.num_steps=9")
