"""Compiled programs as bytes, and what that takes of JAX.

XLA cannot write again what it has read from JAX's cache: the bytes lack the
functions of the program. So `compile_anew` tells whether it was compiled.
"""

import contextlib
import functools
import pickle
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.experimental import serialize_executable

_CALL = re.compile(r"custom_call @(\"[^\"]*\"|[^(\s]+)")
_LAPACK = "lapack_"
_FAST = 1  # Of zlib's levels.
_COMPILED = "/jax/core/compile/backend_compile_duration"
_READ = "/jax/compilation_cache/cache_hits"
_LEAST_SECONDS = "jax_persistent_cache_min_compile_time_secs"

_lock = threading.Lock()
# What `_LEAST_SECONDS` was, for each program that is being compiled.
_compiling: list[float] = []
# Events of this thread while it compiles a program.
_seen = threading.local()


def outside_calls(text: str) -> list[str]:
  """Names of the functions outside of a program that it calls.

  Args:
    text: of the lowered program.

  Returns:
    The names, sorted.
  """
  return sorted(set(_CALL.findall(text)))


def can_be_loaded(calls: Sequence[str]) -> bool:
  """Whether a program that was not traced can make these calls."""
  return all(call.startswith(_LAPACK) for call in calls)


def compile_anew(
  lowered: jax.stages.Lowered,
) -> tuple[jax.stages.Compiled, bool]:
  """Compiles a program, without writing it to JAX's cache.

  Args:
    lowered: the program.

  Returns:
    A pair: what was compiled, and whether `to_bytes` can take it, which it
    cannot if JAX's cache had it.
  """
  with _not_in_cache(), _watching() as is_new:
    compiled = lowered.compile()
  return compiled, is_new()


def to_bytes(compiled: jax.stages.Compiled) -> bytes:
  """A compiled program, but for the structure of its arguments and results."""
  data = serialize_executable.serialize(compiled)[0]
  return zlib.compress(pickle.dumps((_devices(compiled), data)), _FAST)


def load(
  data: bytes, calls: Sequence[str], args: Any, results: Any
) -> jax.stages.Compiled:
  """Makes a program of bytes, which are run as they are.

  Args:
    data: of `to_bytes`.
    calls: of `outside_calls`.
    args: tuple of arguments.
    results: the structure of the results.

  Returns:
    The program.
  """
  numbers, executable = pickle.loads(zlib.decompress(data))
  if calls:
    _find_lapack()
  devices = {d.id: d for d in jax.devices()}
  return serialize_executable.deserialize_and_load(
    executable,
    jax.tree.structure((args, {})),
    results,
    execution_devices=[devices[n] for n in numbers],
  )


def _devices(compiled: jax.stages.Compiled) -> list[int]:
  """Numbers of the devices that a program runs on, in its order."""
  shardings = jax.tree.leaves(
    (compiled.output_shardings, compiled.input_shardings)
  )
  for sharding in shardings:  # Others do not say in which order.
    if isinstance(sharding, jax.sharding.NamedSharding):
      mesh: Any = sharding.mesh
      return [d.id for d in mesh.devices.flat]
  (device,) = shardings[0].device_set
  return [device.id]


def _find_lapack() -> None:
  """Lets programs call LAPACK, whose functions JAX finds as it lowers some."""
  shapes = [jax.ShapeDtypeStruct(s, "float32") for s in ((1, 1), (1,))]
  jax.jit(jax.lax.linalg.householder_product).lower(*shapes)


@contextlib.contextmanager
def _not_in_cache() -> Iterator[None]:
  """JAX's cache gets nothing new: what is kept here would be there twice."""
  with _lock:
    if not _compiling:
      _compiling.append(jax.config.values[_LEAST_SECONDS])
    else:
      _compiling.append(_compiling[0])
    jax.config.update(_LEAST_SECONDS, float("inf"))
  try:
    yield
  finally:
    with _lock:
      before = _compiling.pop()
      if not _compiling:
        jax.config.update(_LEAST_SECONDS, before)


@contextlib.contextmanager
def _watching() -> Iterator[Callable[[], bool]]:
  """Sees whether this thread has compiled, and read nothing from a cache."""
  _listen()
  seen = _seen.events = set()
  try:
    yield lambda: _COMPILED in seen and _READ not in seen
  finally:
    del _seen.events


@functools.cache
def _listen() -> None:
  """Notes what JAX reports; unregistered, others would miss what it reports."""

  def listen(event: str, *_: Any, **unused_labels: Any) -> None:
    getattr(_seen, "events", set()).add(event)

  jax.monitoring.register_event_listener(listen)
  jax.monitoring.register_event_duration_secs_listener(listen)
