"""Where compiled programs are kept, and for which code and config.

The command line opens a store with `keep`; until then, and in code of one's
own, there is none and nothing is kept. What is kept is in `kept_programs`.
"""

import dataclasses
import pathlib
from typing import Any

import jax
from absl import logging

from slot_attention_jax.runtime import (
  files,
  fingerprint,
  program_files,
  storage,
  surroundings,
)

# Seeds are arguments of programs; where they are not, programs close over them.
_FREE = (("seed",), ("eval", "seed"))


@dataclasses.dataclass(frozen=True, eq=False)
class Store:
  """Where programs are kept.

  Attributes:
    directory: of their files.
    own: files of code that may have changed the package.
    sources: these and the package's, as they were when this was made.
    code: digest of what is in them.
    config: digest of the config.
  """

  directory: pathlib.Path
  own: tuple[str, ...]
  sources: surroundings.Sources
  code: str
  config: str

  def is_current(self) -> bool:
    """Whether no file has changed since; modules are imported later, too."""
    return surroundings.sources(own=self.own) == self.sources


_store: Store | None = None


def keep(
  directory: str,
  config: Any,
  config_file: pathlib.Path | None = None,
  arg: str = "",
) -> bool:
  """From now on, programs are kept; the command line asks for it.

  Nothing is kept by one of several processes, on accelerators, where this was
  not tried, in a bucket, while JAX debugs, or if the directory is not private.

  Args:
    directory: of JAX's cache, in which it gets one of its own; "": none.
    config: the resolved config.
    config_file: the file that made it, which may have done other things, too.
    arg: what that was given, names of variants.

  Returns:
    Whether programs are kept.
  """
  stop()
  try:
    own = surroundings.own_files(*([config_file] if config_file else []))
    _open(directory, config, own, arg)
  except Exception as error:  # It costs time, nothing else.
    logging.info("Programs are not kept traced: %s.", error)
  return _store is not None


def _open(directory: str, config: Any, own: tuple[str, ...], arg: str) -> None:
  global _store
  if not directory or storage.is_remote(directory) or jax.process_count() > 1:
    return
  if jax.default_backend() != "cpu":
    return
  found = surroundings.sources(own=own)
  if len(found) <= len(own) or surroundings.changed_since_import(found):
    logging.info("Programs are not kept traced: the code has just changed.")
    return
  path = pathlib.Path(directory).expanduser() / "programs"
  program_files.make_private(path)
  settings = files.jsonable(config.to_dict())
  for *groups, name in _FREE:
    group = settings
    for key in groups:
      group = group[key]
    del group[name]
  seeds = {".".join(key) for key in _FREE}
  items = (item.strip() for item in arg.split(","))
  variants = [x for x in items if x.partition("=")[0].strip() not in seeds]
  code = fingerprint.of(
    surroundings.sources_digest(found), surroundings.installed_files()
  )
  settings = fingerprint.of(settings, variants)
  _store = Store(path, own, found, code, settings)


def current() -> Store | None:
  """The open store, if there is one."""
  return _store


def stop() -> None:
  """Keeps no programs from now on."""
  global _store
  _store = None
