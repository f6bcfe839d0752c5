"""The order of the examples in an epoch, the same in every version."""

import numpy as np

_MASK = (1 << 64) - 1
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def _splitmix64(value: np.ndarray) -> np.ndarray:
  """The finalizer of splitmix64, a bijection of uint64 that mixes all bits."""
  value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return value ^ (value >> np.uint64(31))


def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
  """The order of the examples in an epoch.

  Written out here because it must never change: a run that is resumed after an
  upgrade must see the batches it would have seen. NumPy's `Generator` methods
  do not guarantee their streams across versions.

  Args:
    seed: seed of the run, any integer (used modulo 2^64).
    epoch: number of the epoch, from 0.
    size: number of examples.

  Returns:
    [size] int64, a permutation of `range(size)`.

  Example:
    >>> from slot_attention_jax.data import permutations
    >>> permutations.permutation(seed=0, epoch=0, size=5).tolist()
    [0, 2, 4, 3, 1]
  """
  # Hashed one after the other, so that (seed 1, epoch 0) is unlike (0, 1).
  start = np.zeros(1, np.uint64)
  for value in (seed, epoch):
    offset = (int(value) * _GOLDEN_GAMMA + _GOLDEN_GAMMA) & _MASK
    start = _splitmix64(start + np.uint64(offset))
  index = np.arange(1, size + 1, dtype=np.uint64)
  keys = _splitmix64(start + index * np.uint64(_GOLDEN_GAMMA))
  return np.argsort(keys, kind="stable")
