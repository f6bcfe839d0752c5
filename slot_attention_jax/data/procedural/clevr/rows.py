"""Rows of S pixels that objects cover, gathered from an image's tiles."""

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data.procedural.clevr import tiles


def gather(first: jax.Array, all_: jax.Array):
  """Numbers the flagged pixels of each image, some of them first.

  Args:
    first: [B, N] bool, pixels that come first; all of them are in `all_`.
    all_: [B, N] bool.

  Returns:
    [B, N] int32, the flagged pixels, and N where there are no more; the numbers
    [B] of those that come first and of all.
  """
  b, n = all_.shape
  before, after = count_up(first), count_up(all_ & ~first)
  num_first = before[:, -1]
  place = jnp.where(first, before, num_first[:, None] + after) - 1
  place += np.arange(b, dtype=np.int32)[:, None] * n
  pixels = jnp.full((b * n,), n, jnp.int32)
  pixels = pixels.at[jnp.where(all_, place, b * n)].set(
    jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), (b, n)), mode="drop"
  )
  return pixels.reshape(b, n), num_first, num_first + after[:, -1]


def count_up(flags: jax.Array) -> jax.Array:
  """How many of the flags [B, N] are set up to each, itself included: int32."""
  return _add_up(flags.astype(jnp.float32)).astype(jnp.int32)


def _add_up(x: jax.Array) -> jax.Array:
  """Sums [B, N] up to each number, itself included: `jnp.cumsum`.

  By products with a triangle of ones, first over parts of S numbers, then over
  the sums of the parts: on a CPU they are faster than `jnp.cumsum`. Counts are
  exact up to 2^24.
  """
  s = tiles.SIDE**2
  b, n = x.shape
  parts = jnp.pad(x, ((0, 0), (0, -n % s))).reshape(b, -1, s)
  sums = jnp.matmul(
    parts,
    np.triu(np.ones((s, s), np.float32)),
    precision=jax.lax.Precision.HIGHEST,
  )
  if n > s:
    total = sums[..., -1]
    sums += (_add_up(total) - total)[..., None]
  return sums.reshape(b, -1)[:, :n]


def flag(count: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
  """The rows of S pixels, [B * T] bool, that hold the first `count` [B]."""
  _, t, s = shape
  return (jnp.arange(t, dtype=jnp.int32)[None] * s < count[:, None]).reshape(-1)
