"""Compiled programs that are kept whole, so that a start need not trace them.

JAX's cache keeps what XLA compiles, by the program that tracing and lowering
give, which takes longer than reading it. Here programs are kept by what they
are traced from, and the next start neither traces nor lowers them.

A program is found again only if nothing has changed that could change it. Its
key has:

- the function with all that it closes over, as `fingerprint.of` covers it: the
  model, the task, the optimizer, the schedule, the family of scenes, numbers,
  arrays, the mesh. What cannot be covered, such as code of one's own, is not
  kept;
- the options of `jax.jit`: shardings, donation, options of the compiler;
- the structure, shapes, dtypes, weak types and shardings of the arguments, the
  mesh in the context, and the platform that it is traced for (`platform.only`);
- every byte of the package's Python files and of the user's own code, the
  config's file among it, which may have changed variables of the package; they
  must not have changed since they were imported;
- the resolved config but for its seeds (those are arguments, or closed over);
- `surroundings.describe` and `installed_files`: versions, devices, the
  processor, variables of the environment, JAX's options.

Not in the key are variables of modules and classes that change while a program
runs. Those of this package that tracing reads are: `platform` (in the key); the
registries of `data.from_config`, of which datasets are made, not programs;
caches of functions of their arguments. The command line changes no others, and
code of one's own is in the key; what that reads, such as files, is not.

What is written: `NAME-KEY.key` says which program it is and what structure its
results have; `NAME-PROGRAM.exe` is the program, by what it was compiled from,
so that a change of the code that changes no program compiles nothing. JAX's
cache does not get it, too, and one that it has, of an earlier version, is not
kept: XLA cannot write again what it has read. Neither is a program that calls
functions outside of it (but LAPACK's), which tracing would register.

The programs are run as they are: the directory is its user's alone, as JAX's
cache should be.
"""

import contextlib
import pathlib
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core
from absl import logging

from slot_attention_jax.runtime import (
  executables,
  fingerprint,
  platform,
  program_files,
  program_store,
  surroundings,
)

LOAD_EVENT = "/slot_attention_jax/programs/load_duration"
"""Of `jax.monitoring`, in place of JAX's events of tracing and compiling."""
KEEP_EVENT = "/slot_attention_jax/programs/keep_duration"
"""Of `jax.monitoring`, for finding keys and writing programs."""
# With these, JAX does other things than to run compiled programs.
_DEBUGGING = (
  *("jax_disable_jit", "jax_debug_nans", "jax_debug_infs"),
  *("jax_check_tracer_leaks", "jax_use_simplified_jaxpr_constants"),
)


def jit(function: Callable[..., Any], **options: Any) -> "Program":
  """`jax.jit`, of a program that is kept if the command line asks for it.

  Args:
    function: of pytrees of arrays, all positional, pure.
    **options: of `jax.jit`.

  Returns:
    The compiled function.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.runtime import kept_programs
    >>> double = kept_programs.jit(lambda x: 2 * x)
    >>> double(jnp.float32(1.5)).item()
    3.0
  """
  return Program(function, options)


class Program:
  """A function of `jit`.

  Once a program is kept, arguments of other shapes compile another one, which
  is not, and options of JAX that change between calls have no effect.
  """

  def __init__(self, function: Callable[..., Any], options: dict[str, Any]):
    # All arguments, so that what is compiled says which are which.
    self._jitted: Any = jax.jit(function, keep_unused=True, **options)
    self._parts = function, options
    self._run: Callable[..., Any] | None = None
    self._lock = threading.Lock()
    self.name = getattr(function, "__name__", "program").strip("<>")

  def fingerprint_parts(self) -> tuple[Any, ...]:
    """What `fingerprint.of` covers it by: the function and the options."""
    return self._parts

  def trace(self, *args: Any) -> jax.stages.Traced:
    """As of `jax.jit`."""
    return self._jitted.trace(*args)

  def lower(self, *args: Any) -> jax.stages.Lowered:
    """As of `jax.jit`."""
    return self._jitted.lower(*args)

  def __call__(self, *args: Any) -> Any:
    """As of `jax.jit`."""
    if self._run is not None:
      return self._run(*args)
    store = program_store.current()
    if store is None:
      return self._jitted(*args)
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(args)):
      return self._jitted(*args)  # It is within another program.
    return self._prepare(store, args)(*args)

  def _prepare(
    self, store: program_store.Store, args: Any
  ) -> Callable[..., Any]:
    with self._lock:  # Data are loaded in another thread.
      run = self._run
      if run is None:
        compiled = _load_or_compile(store, self, args)
        self._run = run = self._checked(compiled) if compiled else self._jitted
      return run

  def _checked(self, compiled: jax.stages.Compiled) -> Callable[..., Any]:
    def run(*args):
      try:
        return compiled(*args)
      # Other shapes, dtypes, structures or shardings than the first ones'. They
      # are found before anything is donated.
      except (TypeError, ValueError):
        return self._jitted(*args)

    return run


def _load_or_compile(
  store: program_store.Store, program: Program, args: Any
) -> jax.stages.Compiled | None:
  """The compiled program; None if it is one that cannot be kept."""
  if any(getattr(jax.config, name, False) for name in _DEBUGGING):
    return None
  name, parts = program.name, program.fingerprint_parts()
  try:
    with _timed(KEEP_EVENT, name):
      around = _around(args)
      key = fingerprint.of(store.code, store.config, name, parts, around)
  except Exception as error:  # None of these is a reason not to run.
    logging.debug("Program %s is not kept: %s", name, error)
    return None
  path = store.directory / f"{name}-{key}.key"
  with _failing_softly(name), _timed(LOAD_EVENT, name):
    if path.exists() and store.is_current():
      file, calls, results = pickle.loads(program_files.read(path))
      data = program_files.read(store.directory / file)
      structure = jax.tree.structure(results)
      return executables.load(data, calls, args, structure)
  return _compile(store, program, args, path, around)


def _around(args: Any) -> list[Any]:
  """All that a program depends on beside its code."""
  leaves, structure = jax.tree.flatten(args)
  return [
    surroundings.describe(),
    str(structure),
    [_describe_argument(x) for x in leaves],
    jax.sharding.get_abstract_mesh(),
    platform.traced_for(),
  ]


def _describe_argument(x: Any) -> list[Any]:
  kind = jax.typeof(x)
  described = [type(x).__name__, kind.shape, str(kind.dtype), kind.weak_type]
  if isinstance(x, jax.Array):
    described += [x.sharding, x.committed]
  return described


def _compile(
  store: program_store.Store,
  program: Program,
  args: Any,
  path: pathlib.Path,
  around: Any,
) -> jax.stages.Compiled:
  """Traces, lowers and compiles a program, or loads it, and keeps it."""
  name = program.name
  traced = program.trace(*args)
  lowered = traced.lower()
  file, calls = None, []
  with _failing_softly(name), _timed(KEEP_EVENT, name):
    text = lowered.as_text()
    calls = executables.outside_calls(text)
    content = fingerprint.of(around, text, _beside_text(program, traced))
    file = store.directory / f"{name}-{content}.exe"
  if file is None or not executables.can_be_loaded(calls):
    logging.debug("Program %s is not kept: it calls %s.", name, calls)
    return lowered.compile()
  compiled = None
  with _failing_softly(name), _timed(LOAD_EVENT, name):
    if file.exists():
      data = program_files.read(file)
      compiled = executables.load(data, calls, args, lowered.out_tree)
  if fresh := compiled is None:
    compiled, is_new = executables.compile_anew(lowered)
    if not is_new:
      logging.debug("Program %s is not kept: XLA has read it.", name)
      return compiled
  with _failing_softly(name), _timed(KEEP_EVENT, name):
    if store.is_current():
      if fresh:
        program_files.write(file, executables.to_bytes(compiled))
      # Pickle takes what is registered as a pytree, but not its structure.
      results = jax.tree.map(lambda _: 0, traced.out_info)
      program_files.write(path, pickle.dumps((file.name, calls, results)))
      program_files.remove_oldest(store.directory)
  return compiled


def _beside_text(program: Program, traced: jax.stages.Traced) -> list[Any]:
  """What decides how a lowered program is compiled and called."""
  function, options = program.fingerprint_parts()
  results = jax.tree.leaves(traced.out_info)
  return [
    [x.donated for x in jax.tree.leaves(traced.args_info)],
    [(x.shape, str(x.dtype), x.weak_type) for x in results],
    options,
    # Without shardings the devices may be those of a mesh in the function.
    None if options.keys() & {"in_shardings", "out_shardings"} else function,
  ]


@contextlib.contextmanager
def _failing_softly(name: str) -> Iterator[None]:
  """A program that cannot be read or written is compiled as always."""
  try:
    yield
  except Exception as error:
    logging.info(
      "Cannot use the kept program %s: %s: %s",
      *(name, type(error).__name__, str(error).partition("\n")[0]),
    )


@contextlib.contextmanager
def _timed(event: str, name: str) -> Iterator[None]:
  """Records what it takes, as JAX does of its stages."""
  start = time.time()
  try:
    yield
  finally:
    end = time.time()
    jax.monitoring.record_event_duration_secs(event, end - start, fun_name=name)
    jax.monitoring.record_event_time_span(event, start, end, fun_name=name)
