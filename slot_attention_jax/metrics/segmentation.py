"""What a segmentation does with the background and the slots.

Conventions as in `metrics.overlap`: integer ids of groups for every pixel,
those outside `[0, num_groups)` on either side left out of everything.
"""

import jax
import jax.numpy as jnp

from slot_attention_jax.metrics import contingency


def slots_in_use(
  pred_ids: jax.Array,
  *,
  num_pred_groups: int | None = None,
  min_fraction: float = 0.001,
) -> jax.Array:
  """How many slots own a part of the image.

  Args:
    pred_ids: [B, N] or [B, H, W] integer ids of the predicted groups.
    num_pred_groups: number of predicted groups; static. None: one more than
      the largest id, which jit does not know.
    min_fraction: share of the pixels below which a group is noise, in [0, 1];
      0: a pixel suffices; static. A thousandth is 16 pixels of 128 x 128: an
      object of CLEVR, of which at least 200 pixels of 320 x 240 are visible,
      has 5 times as many there, unless the crop cuts it.

  Returns:
    [B] float32, whole numbers up to `num_pred_groups`, at least 1 as long as
    `min_fraction` is at most 1 / `num_pred_groups`; 0 where no pixel counts.

  Raises:
    ValueError: if there is no batch axis, the ids are not integers or
      `min_fraction` is not in [0, 1].

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import segmentation
    >>> pred_ids = jnp.array([[0, 0, 0, 0, 0, 0, 0, 0, 0, 3]])
    >>> segmentation.slots_in_use(pred_ids, num_pred_groups=4).tolist()
    [2.0]
    >>> segmentation.slots_in_use(
    ...     pred_ids, num_pred_groups=4, min_fraction=0.2).tolist()
    [1.0]
  """
  zeros = jnp.zeros(pred_ids.shape, jnp.int32)
  size = contingency.contingency_table(zeros, pred_ids, 1, num_pred_groups)[
    :, 0
  ]
  return _count_large(size, min_fraction)


def slots_in_use_from_table(
  table: jax.Array, *, min_fraction: float = 0.001
) -> jax.Array:
  """`slots_in_use` [B] of a table [B, G, S] in which all pixels are counted."""
  return _count_large(table.sum(axis=1), min_fraction)


def background_segments(
  true_ids: jax.Array,
  pred_ids: jax.Array,
  *,
  num_true_groups: int | None = None,
  num_pred_groups: int | None = None,
  min_fraction: float = 0.05,
) -> jax.Array:
  """How many segments share the background.

  More than one says why ARI is low where FG-ARI, which does not look at the
  background, is high: the background is split. The share of images where it is
  has to decide about images without a background, where the result is 0: with
  `> 1` they count as not split; mask them out of the mean if they should not
  count.

  Args:
    true_ids: [B, N] or [B, H, W] integer ids of the true groups, 0 background.
    pred_ids: integer ids of the predicted groups, shape of `true_ids`.
    num_true_groups: number of true groups including the background; static.
      None: one more than the largest id, which jit does not know.
    num_pred_groups: number of predicted groups; likewise.
    min_fraction: share of the background's pixels from which on a segment
      counts, in [0, 1]; 0: a pixel suffices; static. At 5 % the rim that a
      slot paints around its object does not count: 2 pixels around a disc of
      radius 25 are 330 pixels, of a background of 13,000 at 128 x 128 2.5 %.

  Returns:
    [B] float32, whole numbers up to `num_pred_groups`; 0 where there is no
    background.

  Raises:
    ValueError: if the shapes differ, have no batch axis, the ids are not
      integers or `min_fraction` is not in [0, 1].

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import segmentation
    >>> true_ids = jnp.array([[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1]])
    >>> pred_ids = jnp.array([[0, 0, 0, 0, 1, 1], [0, 0, 2, 2, 1, 1]])
    >>> segmentation.background_segments(true_ids, pred_ids,
    ...     num_true_groups=2, num_pred_groups=3).tolist()
    [1.0, 2.0]
  """
  table = contingency.contingency_table(
    true_ids, pred_ids, num_true_groups, num_pred_groups
  )
  return background_segments_from_table(table, min_fraction=min_fraction)


def background_segments_from_table(
  table: jax.Array, *, min_fraction: float = 0.05
) -> jax.Array:
  """`background_segments` [B] of a contingency table [B, G, S]."""
  return _count_large(table[:, 0], min_fraction)


def _count_large(sizes: jax.Array, min_fraction: float) -> jax.Array:
  """How many of sizes [B, S] are at least a fraction of their sum: [B]."""
  if not 0 <= min_fraction <= 1:
    raise ValueError(
      f"Expected min_fraction in [0, 1], got {min_fraction}; it is a share of "
      "the pixels, not a number of them or a percentage."
    )
  least = min_fraction * sizes.sum(axis=1, keepdims=True)  # [B, 1]
  # In float32 0.001 * 3000 is more than 3. The slack is less than a pixel.
  least = jnp.maximum(least * (1 - 1e-6), 1.0)
  return (sizes >= least).sum(axis=1).astype(jnp.float32)
