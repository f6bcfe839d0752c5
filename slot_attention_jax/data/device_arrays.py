"""Places arrays of the host on the devices of all processes."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def put(array: np.ndarray, sharding: jax.sharding.NamedSharding) -> jax.Array:
  """Places an array, which every process has in full, on the devices.

  Integers of 64 bits become int32.
  """
  if array.dtype == np.int64:
    array = array.astype(np.int32)
  return jax.make_array_from_callback(
    array.shape, sharding, lambda index: array[index]
  )


def read_rows(
  array: np.ndarray,
  rows: np.ndarray,
  sharding: jax.sharding.NamedSharding,
) -> jax.Array:
  """Makes a global array of rows; each process reads those of its devices."""
  return jax.make_array_from_callback(
    (len(rows), *array.shape[1:]),
    sharding,
    lambda index: np.asarray(array[rows[index[0]]]),  # pyright: ignore
  )


def fits(num_bytes: int, sharding: jax.sharding.NamedSharding) -> bool:
  """Whether every device of every process can hold that many more bytes."""
  enough = jax.default_backend() != "cpu"
  for device in sharding.mesh.local_devices:  # pyright: ignore
    stats = device.memory_stats() or {}
    free = stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0)
    enough = enough and num_bytes <= free // 2
  if jax.process_count() > 1:
    # All processes gather on the devices, or none does.
    enough = bool(multihost_utils.process_allgather(np.array(enough)).all())
  return enough
