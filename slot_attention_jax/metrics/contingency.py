"""Overlaps of the groups of two segmentations, which the metrics share.

Integer ids of groups for every pixel, such as the argmax of masks over the
slots. A pixel with an id outside `[0, num_groups)` on either side is left out.
"""

import jax
import jax.numpy as jnp


def contingency(
  true_ids: jax.Array,
  pred_ids: jax.Array,
  num_true_groups: int,
  num_pred_groups: int,
) -> jax.Array:
  """Pixels in each pair of a true and a predicted group.

  Args:
    true_ids: [B, N] or [B, H, W] integer ids of the true groups.
    pred_ids: integer ids of the predicted groups, shape of `true_ids`.
    num_true_groups: G, number of true groups; static.
    num_pred_groups: S, number of predicted groups; static.

  Returns:
    [B, G, S] float32, exact integers.

  Raises:
    ValueError: if the shapes differ, have no batch axis, or the ids are not
      integers.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import contingency
    >>> true_ids = jnp.array([[0, 0, 1, 1, -1]])
    >>> pred_ids = jnp.array([[0, 2, 2, 2, 1]])
    >>> contingency.contingency(true_ids, pred_ids, 2, 3)[0].tolist()
    [[1.0, 0.0, 1.0], [0.0, 0.0, 2.0]]
  """
  if true_ids.shape != pred_ids.shape or true_ids.ndim not in (2, 3):
    raise ValueError(
      "Expected true_ids and pred_ids of one shape [B, N] or [B, H, W], got "
      f"{true_ids.shape} and {pred_ids.shape}; resize the masks before the "
      "argmax, and add a batch axis to a single image."
    )
  for name, ids in (("true_ids", true_ids), ("pred_ids", pred_ids)):
    if not jnp.issubdtype(ids.dtype, jnp.integer):
      raise ValueError(
        f"Expected {name} to be integers, got {ids.dtype}; take the argmax of "
        "masks over the slots."
      )
  shape = (true_ids.shape[0], -1)
  # int32, for one_hot counts the groups in the dtype of the ids.
  true_ids = jnp.asarray(true_ids, jnp.int32).reshape(shape)  # [B, N]
  pred_ids = jnp.asarray(pred_ids, jnp.int32).reshape(shape)  # [B, N]
  true_hot = jax.nn.one_hot(true_ids, num_true_groups)  # [B, N, G]
  pred_hot = jax.nn.one_hot(pred_ids, num_pred_groups)  # [B, N, S]
  # Exact at any matmul precision: 0 and 1 survive bfloat16, and sums of ones
  # are exact in float32 up to 2^24 pixels.
  return jnp.einsum("bng,bns->bgs", true_hot, pred_hot)  # [B, G, S]


def overlaps(
  true_ids: jax.Array,
  pred_ids: jax.Array,
  num_true_groups: int,
  num_pred_groups: int,
  ignore_background: bool,
) -> tuple[jax.Array, jax.Array]:
  """IoU of each pair of a true and a predicted group.

  Args:
    true_ids: as of `contingency`.
    pred_ids: as of `contingency`.
    num_true_groups: G; static.
    num_pred_groups: S; static.
    ignore_background: whether group 0 is no object; static.

  Returns:
    A pair (IoU [B, G, S], 0 of groups that are no objects; pixels of the
    objects [B, G] float32, 0 of groups that are none).

  Raises:
    ValueError: as `contingency`.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import contingency
    >>> true_ids = jnp.array([[0, 0, 1, 1]])
    >>> pred_ids = jnp.array([[1, 1, 1, 1]])
    >>> iou, size = contingency.overlaps(true_ids, pred_ids, 2, 2, True)
    >>> iou[0].tolist(), size[0].tolist()
    ([[0.0, 0.0], [0.0, 0.5]], [0.0, 2.0])
  """
  table = contingency(true_ids, pred_ids, num_true_groups, num_pred_groups)
  true_size = table.sum(axis=2)  # [B, G]
  pred_size = table.sum(axis=1)  # [B, S]
  union = true_size[:, :, None] + pred_size[:, None, :] - table  # [B, G, S]
  if ignore_background:
    true_size = true_size.at[:, 0].set(0.0)
  iou = table / jnp.maximum(union, 1.0)
  return jnp.where(true_size[:, :, None] > 0, iou, 0.0), true_size
