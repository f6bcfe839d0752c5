"""The flag `--config=NAME:VARIANT` and its overrides, `--config.key=value`."""

import pathlib
import re
import shlex
import sys
from typing import Any

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser

from slot_attention_jax.config import aliases, arguments, load, run_name
from slot_attention_jax.runtime import files

# The flag belongs to the module that defines it through this one.
flags.disclaim_key_flags()

# Where the data lie on one machine is no part of what is done with them.
_MACHINE_KEYS = ("data.data_dir", "data.cache_dir")


def define_config_flag(
  help_text: str, flag_values: flags.FlagValues = flags.FLAGS
) -> flags.FlagHolder:
  """Defines `--config`.

  Args:
    help_text: what `--help` says about it.
    flag_values: where the flag is defined.

  Returns:
    The flag; its value is the config with all overrides, locked.
  """
  holder = config_flags.DEFINE_config_file(
    "config", None, help_text, flag_values
  )
  for kind, parser in _VALUE_PARSERS.items():
    config_flags.register_flag_parser_for_type(kind, parser)
  # ml_collections reads paths only, and reports errors by a traceback.
  flag_values["config"].parser = _ConfigParser()
  return holder


def config_file() -> tuple[pathlib.Path, str]:
  """The file that `--config` named, and what follows the colon."""
  return load.find_config(
    config_flags.get_config_filename(flags.FLAGS["config"])
  )


def run_directories(config: Any) -> list[pathlib.Path]:
  """Directories of the run of a config, where `--workdir` names none.

  Args:
    config: the flag's value.

  Returns:
    That of its training; then those that `--mode=evaluate` may mean besides.
  """
  return run_name.evaluated_runs(config, *config_file())


def overridden_keys() -> list[str]:
  """Dotted keys that the command sets, by flags or behind the colon."""
  _, arg = config_file()
  items = [item.partition("=") for item in arg.split(",")]
  behind_colon = [key.strip() for key, equals, _ in items if equals]
  overrides = config_flags.get_override_values(flags.FLAGS["config"])
  return [*behind_colon, *overrides]


def command() -> str:
  """The flags that make the config, without what is of this machine only.

  Values are quoted where a shell needs it. Where the config is that of a run,
  they are those that the run was begun with, and what is set besides.
  """
  path, arg = config_file()
  config = ":".join(filter(None, [_shortened(path), arg]))
  overrides = dict(config_flags.get_override_values(flags.FLAGS["config"]))
  if recipe := _recipe_of_run(path):
    config, earlier = recipe
    items = arguments.split(arg)
    keys = [_key_and_value(item) for item in items if "=" in item]
    variants = [item for item in items if "=" not in item]
    config = ("," if ":" in config else ":").join([config, *variants])
    overrides = earlier | dict(keys) | overrides
  file, _, arg = config.partition(":")
  kept = [
    x for x in arg.split(",") if _key_and_value(x)[0] not in _MACHINE_KEYS
  ]
  config = ":".join(filter(None, [file, ",".join(kept)]))
  return " ".join(
    [f"--config={shlex.quote(config)}"]
    + [
      f"--config.{key}={shlex.quote(str(value))}"
      for key, value in overrides.items()
      if key not in _MACHINE_KEYS
    ]
  )


def _shortened(path: pathlib.Path) -> str:
  """A path without the directories of one machine."""
  return pathlib.PurePath(*path.parts[-2:]).as_posix()


def _recipe_of_run(path: pathlib.Path) -> tuple[str, dict[str, str]] | None:
  """The config and the overrides that a run recorded, by its `config.json`."""
  if not run_name.is_of_run(path):
    return None
  about = path.with_name("metadata.json")
  try:
    recipe = files.read_json(about, "", {"recipe": str})["recipe"]
    first, *others = shlex.split(recipe)
  except (OSError, ValueError):
    return None
  if not first.startswith("--config="):
    return None
  overrides = (_key_and_value(x.removeprefix("--config.")) for x in others)
  return first.removeprefix("--config="), dict(overrides)


def _key_and_value(item: str) -> tuple[str, str]:
  key, _, value = item.partition("=")
  return key.strip(), value.strip()


class _ConfigParser(flags.ArgumentParser):
  """Loads a config by name or path and checks the names of its overrides."""

  def parse(self, argument: str) -> Any:
    """Returns the config, without its overrides."""
    config = load.load_config(argument)
    known = [key for key, _ in arguments.flatten(config)]
    unknown = [key for key in _override_keys(sys.argv) if key not in known]
    aliases.check_keys(unknown)
    for key in unknown:
      raise ValueError(
        f"Expected a key of the config, got --config.{key}."
        f"{arguments.suggest(key, known)}"
      )
    return config

  def flag_type(self) -> str:
    """Returns the name of the type in help texts."""
    return "config"


class _ValueParser(flags.ArgumentParser):
  """Another parser with a message that says what was expected."""

  def __init__(self, parser: flags.ArgumentParser, expected: str):
    self._parser, self._expected = parser, expected

  def parse(self, argument: Any) -> Any:
    """Returns the value; ValueError if the text is none."""
    try:
      return self._parser.parse(argument)
    except (TypeError, ValueError) as error:
      raise ValueError(
        f"Expected {self._expected}, got {argument!r}."
      ) from error

  def flag_type(self) -> str:
    """Returns the name of the type in help texts."""
    return self._parser.flag_type()


class _TupleParser(tuple_parser.TupleParser):
  """Reads `(inf, 1.0)`, too, which is how defaults are printed; and `a,b`."""

  def parse(self, argument: Any) -> tuple[Any, ...]:
    """Returns a tuple; of one value if the text is no tuple."""
    if isinstance(argument, str):
      if re.fullmatch(r"(?!inf\b)[a-z_]+(,[a-z_]+)*", argument):
        return tuple(argument.split(","))
      try:
        value = arguments.read_literal(argument)
      except (SyntaxError, ValueError) as error:
        raise ValueError(
          f"Expected a tuple, as (64, 64), got {argument!r}."
        ) from error
      return tuple(value) if isinstance(value, list | tuple) else (value,)
    return super().parse(argument)


_VALUE_PARSERS = {
  bool: _ValueParser(flags.BooleanParser(), "true or false"),
  int: _ValueParser(flags.IntegerParser(), "an integer"),
  float: _ValueParser(flags.FloatParser(), "a number"),
  tuple: _TupleParser(),
}


def _override_keys(argv: list[str]) -> list[str]:
  """Keys of flags `--config.key=value`, `--config.key` and `--noconfig.key`."""
  found = (re.match(r"--?(?:no)?config\.([^=]+)", arg) for arg in argv)
  return [match[1] for match in found if match]
