"""How well the true objects are covered: mIoU, mBO, segmentation covering.

All take integer ids of groups for every pixel, such as the argmax of the masks
over the slots, and never compare ids across the two segmentations. A pixel with
an id outside `[0, num_groups)` on either side is left out of everything. Each
metric also comes as a function of the contingency table alone.
"""

import jax
import jax.numpy as jnp

from slot_attention_jax import matching
from slot_attention_jax.metrics import contingency


def iou_table(
  table: jax.Array, *, ignore_background: bool = True
) -> tuple[jax.Array, jax.Array]:
  """IoU of each pair of a true and a predicted group.

  Args:
    table: [B, G, S] of `contingency.contingency_table`.
    ignore_background: whether group 0 is no object; static.

  Returns:
    A pair (IoU [B, G, S], pixels of the objects [B, G] float32); both are 0
    for groups that are not objects.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import contingency, overlap
    >>> table = contingency.contingency_table(
    ...     jnp.array([[0, 0, 1, 1]]), jnp.array([[1, 1, 1, 1]]), 2, 2)
    >>> iou, size = overlap.iou_table(table)
    >>> iou[0].tolist(), size[0].tolist()
    ([[0.0, 0.0], [0.0, 0.5]], [0.0, 2.0])
  """
  true_size = table.sum(axis=2)  # [B, G]
  pred_size = table.sum(axis=1)  # [B, S]
  union = true_size[:, :, None] + pred_size[:, None, :] - table  # [B, G, S]
  if ignore_background:
    true_size = true_size.at[:, 0].set(0.0)
  iou = table / jnp.maximum(union, 1.0)
  return jnp.where(true_size[:, :, None] > 0, iou, 0.0), true_size


def mean_iou(
  true_ids: jax.Array,
  pred_ids: jax.Array,
  *,
  num_true_groups: int | None = None,
  num_pred_groups: int | None = None,
  ignore_background: bool = True,
) -> jax.Array:
  r"""Mean intersection over union of objects with matched segments (mIoU).

  Objects are matched to predicted segments one-to-one so that the sum of
  IoUs is largest; an object without a segment, when there are more objects
  than segments, scores 0. The mean is over the true objects that have a pixel.

  Args:
    true_ids: [B, N] or [B, H, W] integer ids of the true groups, 0 background.
    pred_ids: integer ids of the predicted groups, shape of `true_ids`.
    num_true_groups: number of true groups including the background; static.
      None: one more than the largest id, which jit does not know.
    num_pred_groups: number of predicted groups; likewise.
    ignore_background: whether group 0 is no object; static. A segment's pixels
      on the background count in its union either way.

  Returns:
    [B] float32, in [0, 1]; 1 where there is no object, as nothing was missed.
    Mask such images out of a mean if they should not count.

  Raises:
    ValueError: if the shapes differ, have no batch axis, or the ids are not
      integers.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import overlap
    >>> true_ids = jnp.array([[0, 0, 1, 1, 2, 2]])
    >>> pred_ids = jnp.array([[0, 0, 0, 2, 1, 1]])
    >>> overlap.mean_iou(true_ids, pred_ids,
    ...     num_true_groups=3, num_pred_groups=3).tolist()
    [0.75]

  References:
    Hungarian-matched mIoU as in Seitzer et al., `Bridging the Gap to Real-World
    Object-Centric Learning <https://arxiv.org/abs/2209.14860>`_, 2023.
  """
  table = contingency.contingency_table(
    true_ids, pred_ids, num_true_groups, num_pred_groups
  )
  return mean_iou_from_table(table, ignore_background=ignore_background)


def mean_iou_from_table(
  table: jax.Array, *, ignore_background: bool = True
) -> jax.Array:
  """`mean_iou` [B] of a contingency table [B, G, S]."""
  iou, size = iou_table(table, ignore_background=ignore_background)
  rows, cols = matching.hungarian_match(-iou)  # [B, M], [B, M]
  matched = jax.vmap(lambda x, row, col: x[row, col])(iou, rows, cols)  # [B, M]
  # Absent objects have no overlap, so they neither add nor bend the matching.
  return _divide(matched.sum(axis=1), (size > 0).sum(axis=1))


def mean_best_overlap(
  true_ids: jax.Array,
  pred_ids: jax.Array,
  *,
  num_true_groups: int | None = None,
  num_pred_groups: int | None = None,
  ignore_background: bool = True,
) -> jax.Array:
  r"""Mean over objects of the best IoU with any predicted segment (mBO).

  Unlike in `mean_iou` several objects may share a segment. Also known as mSC,
  the segmentation covering without its weights.

  Arguments and errors are those of `mean_iou`.

  Returns:
    [B] float32, in [0, 1], at least `mean_iou`; 1 where there is no object.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import overlap
    >>> true_ids = jnp.array([[0, 0, 1, 1, 2, 2]])
    >>> pred_ids = jnp.array([[0, 0, 1, 1, 1, 1]])
    >>> overlap.mean_best_overlap(true_ids, pred_ids,
    ...     num_true_groups=3, num_pred_groups=3).tolist()
    [0.5]

  References:
    Pont-Tuset et al., `Multiscale Combinatorial Grouping
    <https://arxiv.org/abs/1503.00848>`_, 2015.
  """
  table = contingency.contingency_table(
    true_ids, pred_ids, num_true_groups, num_pred_groups
  )
  return mean_best_overlap_from_table(
    table, ignore_background=ignore_background
  )


def mean_best_overlap_from_table(
  table: jax.Array, *, ignore_background: bool = True
) -> jax.Array:
  """`mean_best_overlap` [B] of a contingency table [B, G, S]."""
  return segmentation_covering_from_table(
    table, ignore_background=ignore_background, weighted=False
  )


def segmentation_covering(
  true_ids: jax.Array,
  pred_ids: jax.Array,
  *,
  num_true_groups: int | None = None,
  num_pred_groups: int | None = None,
  ignore_background: bool = True,
  weighted: bool = True,
) -> jax.Array:
  r"""Best IoU of each object with any segment, weighted by its pixels (SC).

  .. math::
    \mathrm{SC} = \frac{\sum_g |R_g| \max_s \mathrm{IoU}(R_g, S_s)}
      {\sum_g |R_g|}

  Without the weights it is the mean over the objects, called mSC, and the same
  number as `mean_best_overlap`.

  Errors are those of `mean_iou`.

  Args:
    true_ids: [B, N] or [B, H, W] integer ids of the true groups, 0 background.
    pred_ids: integer ids of the predicted groups, shape of `true_ids`.
    num_true_groups: see `mean_iou`.
    num_pred_groups: see `mean_iou`.
    ignore_background: see `mean_iou`.
    weighted: whether an object counts by its pixels (SC), or each the same
      (mSC); static.

  Returns:
    [B] float32, in [0, 1]; 1 where there is no object, as nothing was missed.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import overlap
    >>> true_ids = jnp.array([[0, 0, 1, 2, 2, 2]])
    >>> pred_ids = jnp.array([[0, 0, 1, 1, 2, 2]])
    >>> overlap.segmentation_covering(true_ids, pred_ids,
    ...     num_true_groups=3, num_pred_groups=3).tolist()
    [0.625]
    >>> unweighted = overlap.segmentation_covering(true_ids, pred_ids,
    ...     num_true_groups=3, num_pred_groups=3, weighted=False)
    >>> round(float(unweighted[0]), 4)
    0.5833

  References:
    Arbelaez et al., `Contour Detection and Hierarchical Image Segmentation
    <https://doi.org/10.1109/TPAMI.2010.161>`_, 2011; of objects alone as in
    Engelcke et al., `GENESIS <https://arxiv.org/abs/1907.13052>`_, 2020.
  """
  table = contingency.contingency_table(
    true_ids, pred_ids, num_true_groups, num_pred_groups
  )
  return segmentation_covering_from_table(
    table, ignore_background=ignore_background, weighted=weighted
  )


def segmentation_covering_from_table(
  table: jax.Array, *, ignore_background: bool = True, weighted: bool = True
) -> jax.Array:
  """`segmentation_covering` [B] of a contingency table [B, G, S]."""
  iou, size = iou_table(table, ignore_background=ignore_background)
  weight = size if weighted else (size > 0).astype(jnp.float32)  # [B, G]
  return _divide((weight * iou.max(axis=2)).sum(axis=1), weight.sum(axis=1))


def _divide(total: jax.Array, weight: jax.Array) -> jax.Array:
  """Means [B] over objects from sums [B]; 1 where there is no object."""
  weight = weight.astype(total.dtype)
  return jnp.where(weight > 0, total / jnp.maximum(weight, 1), 1.0)
