"""Settings that must be made before any test touches JAX."""

import atexit
import gc
import importlib.util
import os
import pathlib
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time of a test is spent compiling. XLA:CPU's fusion emitters give
# faster programs and take several times as long to compile.
_FLAGS = (
  # Four devices on any machine: sharding is part of what is tested.
  "--xla_force_host_platform_device_count=4",
  "--xla_backend_optimization_level=0",
  "--xla_cpu_use_fusion_emitters=false",
)
for _flag in _FLAGS:
  if _flag.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}"

# What is compiled is kept for the whole session: by xdist's workers and by the
# programs that tests start, which inherit the environment. The process that
# makes the directory, which is not a worker, removes it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _cache = tempfile.mkdtemp(prefix="slot_attention_jax_xla_")
  atexit.register(shutil.rmtree, _cache, ignore_errors=True)
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")
jax.config.update("jax_default_matmul_precision", "float32")

_DIFFERENCE = "difference from the reference"
# Of the quick tests: what two cores have in the 6 minutes they may take.
_CPU_SECONDS = 720
_THOROUGH_DOCTESTS = (
  "procedural.clevr.family.Clevr",
  "procedural.clevr.sampling.sample",
)
_TESTS = pathlib.Path(__file__).parent


def pytest_configure(config):
  """Leaves out what cannot even be imported here, of the doctests."""
  if importlib.util.find_spec("torch") is None:
    modules = ("slot_attention_jax/interop/pytorch_twin.py",)
    config.option.ignore = [*(config.option.ignore or []), *modules]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Marks the doctests that compile what takes long, before the selection."""
  for item in items:
    if item.name.endswith(_THOROUGH_DOCTESTS):
      item.add_marker(pytest.mark.thorough)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish():
  """Ends the process soon: garbage is collected once, not seven times."""
  gc.collect()
  gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path):
  """Looks for no doctests in the tests: they have none, and it takes long."""
  found = yield
  if _TESTS in file_path.parents:
    found = [f for f in found if type(f).__name__ != "DoctestModule"]
  return found


@pytest.fixture(scope="module")
def shared_programs():
  """Runs of one process share what they compile, see the module."""
  from tests import shared_programs

  with shared_programs.sharing():
    yield


@pytest.fixture
def equal_to_reference(record_property):
  """Compares with the reference's values; the session ends with a table."""

  def check(quantity, got, expected, bound, scale=1.0):
    """Asserts max |got - expected| / scale <= bound; scale may be an array."""
    got, expected = (np.asarray(x, np.float64) for x in (got, expected))
    assert got.shape == expected.shape, (quantity, got.shape, expected.shape)
    assert got.size > 0, quantity
    difference = float(np.max(np.abs(got - expected) / scale))
    record_property(_DIFFERENCE, (quantity, difference, bound))
    assert difference <= bound, quantity  # False for NaN.

  return check


def pytest_terminal_summary(terminalreporter):
  """Prints differences from the reference, and what the tests cost."""
  rows = {}
  for reports in terminalreporter.stats.values():
    for report in reports:
      for name, value in getattr(report, "user_properties", ()):
        if name == _DIFFERENCE:
          quantity, difference, bound = value
          largest = max(difference, rows.get(quantity, (0.0,))[0])
          rows[quantity] = (largest, bound)
  if rows:
    terminalreporter.section("equal to the reference")
    for quantity, (difference, bound) in sorted(rows.items()):
      terminalreporter.line(f"| {quantity} | {difference:.1e} | {bound:g} |")
  times = os.times()  # Of this process, and of the workers, which have ended.
  seconds = sum(times[:4])
  terminalreporter.section("CPU time")
  terminalreporter.line(
    f"{seconds:.0f} s; the budget of the quick tests is {_CPU_SECONDS} s."
  )
