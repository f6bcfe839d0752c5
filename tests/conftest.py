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

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")
jax.config.update("jax_default_matmul_precision", "float32")
