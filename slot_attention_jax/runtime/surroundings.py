"""What decides a compiled program beside its code: versions, machine, flags."""

import importlib.metadata
import os
import pathlib
import platform
import sys
import time
from typing import Any

import jax

from slot_attention_jax.runtime import fingerprint

_VARIABLES = (
  *("JAX_", "XLA_", "LIBTPU_", "TPU_", "PJRT_", "TF_", "FLAX_", "OMP_", "MKL_"),
  *("CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "ROCM_", "HIP_", "HSA_", "NCCL_"),
)
# Where programs are kept, and which: nothing of a program depends on these.
_WHERE = frozenset(
  (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
  )
)
_OF_PROCESSORS = (
  *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
  *("CPU implementer", "CPU part", "CPU variant", "Features"),
)
_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
# Seconds from the import of the first module of this package to this one's.
_MARGIN = 5.0
_IMPORTED = time.time()

Sources = tuple[tuple[str, int, int, int], ...]
"""Files of a package: path, time of the last change, size, inode."""


def describe() -> list[Any]:
  """All that decides what a traced and lowered program is compiled to.

  Returns:
    Lists and dicts of numbers and text: the versions of Python and of the
    packages that trace, lower and compile; the devices and the machine, with
    the flags of its processor; variables of the environment and the options of
    JAX, those of the current thread.
  """
  devices, options = jax.devices(), jax.config.values
  return [
    sys.version,
    [(name, _version(name)) for name in fingerprint.PACKAGES],
    [(d.platform, d.id, d.device_kind) for d in devices],
    devices[0].client.platform_version,
    jax.process_count(),
    _machine(),
    {k: v for k, v in sorted(os.environ.items()) if _matters(k)},
    {k: repr(v) for k, v in sorted(options.items()) if k not in _WHERE},
  ]


def _version(name: str) -> str:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return ""


def _matters(variable: str) -> bool:
  """Whether a variable of the environment may decide what is compiled."""
  return variable.startswith(_VARIABLES) and variable.lower() not in _WHERE


def _machine() -> list[Any]:
  """The processor: XLA:CPU compiles for it, and for as many cores as it has."""
  cores = getattr(os, "sched_getaffinity", lambda _: ())(0)
  named = _processor() or [platform.node(), platform.processor()]
  kind = (platform.system(), platform.machine())
  return [*kind, os.cpu_count(), len(cores), *named]


def _processor() -> list[str]:
  """Model and flags of the first processor; empty where Linux does not say."""
  try:
    first = pathlib.Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
  except OSError:
    return []
  rows = (line.partition(":") for line in first.splitlines())
  found = {name.strip(): value.strip() for name, _, value in rows}
  if not found.keys() & {"flags", "Features"}:
    return []
  # All else changes, as the clock does.
  return [f"{name}={found.get(name)}" for name in _OF_PROCESSORS]


def sources(package: pathlib.Path | None = None) -> Sources:
  """The Python files of a package, this one by default, to see changes."""
  package, found = package or _PACKAGE, []
  for path in package.rglob("*.py"):
    stat = path.stat()
    name = path.relative_to(package).as_posix()
    found.append((name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
  return tuple(sorted(found))


def changed_since_import(files: Sources) -> bool:
  """Whether what was imported may be something else than these files."""
  newest = max((changed for _, changed, _, _ in files), default=0)
  return newest / 1e9 > _IMPORTED - _MARGIN


def sources_digest(files: Sources, package: pathlib.Path | None = None) -> str:
  """A digest of the names and of all bytes of files.

  Raises:
    OSError: if one cannot be read.
  """
  package = package or _PACKAGE
  names = [name for name, *_ in files]
  return fingerprint.of(*((n, (package / n).read_bytes()) for n in names))
