"""Agreement of two segmentations: the adjusted Rand index.

It takes integer ids of groups for every pixel, such as the argmax of the masks
over the slots, and never compares ids across the two segmentations. A pixel
with an id outside `[0, num_groups)` on either side is left out of everything,
so -1 marks pixels to ignore. Means over a dataset are the caller's.
"""

import jax
import jax.numpy as jnp

from slot_attention_jax.metrics import contingency


def adjusted_rand_index(
  true_ids: jax.Array,
  pred_ids: jax.Array,
  *,
  num_true_groups: int | None = None,
  num_pred_groups: int | None = None,
  foreground_only: bool = False,
) -> jax.Array:
  r"""Adjusted Rand index of each pair of segmentations.

  Of all pairs of pixels let :math:`\epsilon` be the fraction that the truth
  puts into different groups, :math:`\delta` the fraction that the prediction
  does and :math:`\sigma` the fraction that both do. Then

  .. math::
    \mathrm{ARI} = \frac{\sigma - \epsilon \delta}
      {(\epsilon + \delta) / 2 - \epsilon \delta},

  which is Hubert and Arabie's (index - expected) / (maximum - expected), in a
  form that float32 computes to about 1e-6 on images of any size. It is 1 for
  equal partitions and 0 on average for random ones of the same group sizes.

  The index is 0 / 0 exactly where both sides are one group, or both are single
  pixels, or at most one pixel counts. The two partitions are then equal, and
  the result is 1 (as in SAVi; multi_object_datasets gives NaN). An image with
  no foreground thus scores 1 with `foreground_only`; mask it out of a mean if
  it should not count.

  Args:
    true_ids: [B, N] or [B, H, W] integer ids of the true groups, 0 background.
    pred_ids: integer ids of the predicted groups, shape of `true_ids`.
    num_true_groups: number of true groups including the background; static.
      None: one more than the largest id, which jit does not know.
    num_pred_groups: number of predicted groups; likewise.
    foreground_only: whether to leave out the pixels whose true id is 0, which
      gives the FG-ARI that the paper reports; static.

  Returns:
    [B] float32, in [-1, 1] and never NaN.

  Raises:
    ValueError: if the shapes differ, have no batch axis, or the ids are not
      integers.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import ari
    >>> true_ids = jnp.array([[0, 0, 1, 1, 2, 2]])
    >>> pred_ids = jnp.array([[0, 1, 2, 2, 1, 1]])
    >>> fg_ari = ari.adjusted_rand_index(true_ids, pred_ids,
    ...     num_true_groups=3, num_pred_groups=3, foreground_only=True)
    >>> fg_ari.tolist()
    [1.0]
    >>> full_ari = ari.adjusted_rand_index(true_ids, pred_ids,
    ...     num_true_groups=3, num_pred_groups=3)
    >>> round(float(full_ari[0]), 4)
    0.4444

  References:
    Hubert and Arabie, `Comparing partitions
    <https://doi.org/10.1007/BF01908075>`_, 1985; Locatello et al.,
    `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 4.1.
  """
  table = contingency.contingency_table(
    true_ids, pred_ids, num_true_groups, num_pred_groups
  )
  return adjusted_rand_index_from_table(table, foreground_only=foreground_only)


def adjusted_rand_index_from_table(
  table: jax.Array, *, foreground_only: bool = False
) -> jax.Array:
  """`adjusted_rand_index` [B] of a contingency table [B, G, S]."""
  if foreground_only:
    table = table.at[:, 0].set(0.0)
  true_size = table.sum(axis=2)  # [B, G]
  pred_size = table.sum(axis=1)  # [B, S]
  total = true_size.sum(axis=1)  # [B]
  # Pixels of neither the true group nor the predicted one of a cell.
  outside = (
    total[:, None, None] - true_size[:, :, None] - pred_size[:, None, :] + table
  )  # [B, G, S]
  # Counts and their differences are exact integers, every sum below is of
  # non-negative terms, and dividing first keeps the products near 1: the usual
  # form subtracts numbers near total^2 / 2, far beyond float32's 2^24.
  points = jnp.maximum(total, 1.0)
  others = jnp.maximum(total - 1.0, 1.0)
  true_split = jnp.sum(
    (true_size / points[:, None])
    * ((total[:, None] - true_size) / others[:, None]),
    axis=1,
  )  # [B], epsilon
  pred_split = jnp.sum(
    (pred_size / points[:, None])
    * ((total[:, None] - pred_size) / others[:, None]),
    axis=1,
  )  # [B], delta
  both_split = jnp.sum(
    (table / points[:, None, None]) * (outside / others[:, None, None]),
    axis=(1, 2),
  )  # [B], sigma
  expected = true_split * pred_split
  maximum = 0.5 * (true_split + pred_split)
  true_largest = true_size.max(axis=1)  # [B]
  pred_largest = pred_size.max(axis=1)  # [B]
  # From the counts, because rounding may hide a zero of the denominator.
  equal_and_trivial = (jnp.minimum(true_largest, pred_largest) == total) | (
    jnp.maximum(true_largest, pred_largest) <= 1.0
  )
  index = (both_split - expected) / jnp.where(
    equal_and_trivial, 1.0, maximum - expected
  )
  return jnp.where(equal_and_trivial, 1.0, jnp.clip(index, -1.0, 1.0))
