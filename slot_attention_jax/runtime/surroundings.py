"""What decides a compiled program beside its code: versions, machine, flags."""

import importlib.metadata
import os
import pathlib
import platform
import sys
import sysconfig
import time
import types
from collections.abc import Iterable, Iterator
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
# Seconds: clocks of file systems are coarse.
_MARGIN = 1.0


def _time_of_start() -> float:
  """When this process began, or at least its imports."""
  try:
    text = pathlib.Path("/proc/self/stat").read_text()
    ticks = int(text.rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME)
    if ticks:
      return time.time() - age + ticks / os.sysconf("SC_CLK_TCK")
  except (OSError, AttributeError, ValueError, IndexError):
    pass
  # Importing JAX, and what comes before this module, takes seconds.
  return time.time() - 60


_IMPORTED = _time_of_start()

# Versions name the code below these, or between those.
_INSTALLED = tuple(
  os.path.join(sysconfig.get_path(name), "")
  for name in ("stdlib", "platstdlib")
)
_SITES = tuple(
  f"{os.sep}{n}{os.sep}" for n in ("site-packages", "dist-packages")
)

Sources = tuple[tuple[str, int, int, int], ...]
"""Files of code: path, time of the last change, size, inode."""


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
  kind = (sys.platform, platform.machine())
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


def own_files(*paths: pathlib.Path) -> tuple[str, ...]:
  """Files of code that may have changed this package: the user's own.

  Args:
    *paths: files of code that was run without being imported.

  Returns:
    Absolute paths of these and of all modules that are neither this package's
    nor installed, the script among them.

  Raises:
    ValueError: if the code of the script is in no file.
  """
  found = {os.fspath(path.resolve()) for path in paths}
  ours = os.path.join(_PACKAGE, "")
  # Under a profiler or a debugger the script is no module.
  script = [("", arg) for arg in sys.argv[:1] if arg.endswith(".py")]
  for name, file in (*_files_of_modules(), *script):
    if file is None and name == "__main__":
      raise ValueError("Expected a script in a file, got code from elsewhere.")
    if not file or any(site in file for site in _SITES):
      continue
    file = os.path.abspath(file)
    if not file.startswith((ours, *_INSTALLED)):
      found.add(file)
  return tuple(sorted(found))


def installed_files() -> list[tuple[str, int, int]]:
  """Loaded modules of the packages that `describe` names the versions of.

  Returns:
    Of each the name, the time of the last change and the size of its file:
    somebody may change an installed package.
  """
  found = []
  for name, file in _files_of_modules():
    if file and name.partition(".")[0] in fingerprint.PACKAGES:
      stat = os.stat(file)
      found.append((name, stat.st_mtime_ns, stat.st_size))
  ours = _PACKAGE.name
  return sorted(x for x in found if x[0].partition(".")[0] != ours)


def _files_of_modules() -> Iterator[tuple[str, str | None]]:
  for name, module in list(sys.modules.items()):
    # Some C libraries say that they are modules, and have no variables.
    if issubclass(type(module), types.ModuleType):
      # Other ways load modules that are imported at their first use.
      yield name, object.__getattribute__(module, "__dict__").get("__file__")


def sources(
  package: pathlib.Path | None = None, own: Iterable[str] = ()
) -> Sources:
  """The Python files of a package, this one by default, to see changes.

  Args:
    package: its directory.
    own: more files, of `own_files`.

  Returns:
    All files.

  Raises:
    OSError: if there is no such file.
  """
  package = package or _PACKAGE
  found = []
  for path in (*package.rglob("*.py"), *map(pathlib.Path, own)):
    stat = path.stat()
    inside = path.is_relative_to(package)
    name = path.relative_to(package).as_posix() if inside else os.fspath(path)
    # A copy may keep the time of the original, but for when it was made.
    changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
    found.append((name, changed, stat.st_size, stat.st_ino))
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
