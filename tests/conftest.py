"""Settings that must be made before any test touches JAX."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Four devices on any machine: sharding is part of what is tested.
_FLAGS = (
  "--xla_force_host_platform_device_count=4",
  # Most of the time of a test is spent compiling.
  "--xla_backend_optimization_level=1",
)
for _flag in _FLAGS:
  if _flag not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")
jax.config.update("jax_default_matmul_precision", "float32")

_DIFFERENCE = "difference from the reference"


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
  """Prints the largest differences from the reference that tests recorded."""
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
