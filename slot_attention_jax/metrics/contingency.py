"""The contingency table of two segmentations, which the metrics share.

Integer ids of groups for every pixel, such as the argmax of masks over the
slots. A pixel with an id outside `[0, num_groups)` on either side is left out.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from slot_attention_jax.runtime import platform

# Where the number is not given: a table of more is a mistake.
_MOST_GROUPS = 2**16


def contingency_table(
  true_ids: jax.Array,
  pred_ids: jax.Array,
  num_true_groups: int | None = None,
  num_pred_groups: int | None = None,
) -> jax.Array:
  """Counts the pixels that each pair of true and predicted group shares.

  All metrics of a segmentation are functions of this table: to compute several,
  make it once and call their `..._from_table`. That of `slots_in_use` also
  counts pixels that the truth leaves out: give them a group of their own.

  Args:
    true_ids: [B, N] or [B, H, W] integer ids of the true groups.
    pred_ids: integer ids of the predicted groups, shape of `true_ids`.
    num_true_groups: G, number of true groups; static. None: one more than the
      largest id, which jit does not know.
    num_pred_groups: S, number of predicted groups; likewise.

  Returns:
    [B, G, S] float32, exact integers.

  Raises:
    ValueError: if the shapes differ, have no batch axis, or the ids are not
      integers; or if a number is None under jit, or would be above 65,536.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import contingency
    >>> true_ids = jnp.array([[0, 0, 1, 1, -1]])
    >>> pred_ids = jnp.array([[0, 2, 2, 2, 1]])
    >>> contingency.contingency_table(true_ids, pred_ids, 2, 3)[0].tolist()
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
  if num_true_groups is None:
    num_true_groups = _num_groups(true_ids, "true")
  if num_pred_groups is None:
    num_pred_groups = _num_groups(pred_ids, "pred")
  shape = (true_ids.shape[0], math.prod(true_ids.shape[1:]))
  true_ids = _to_int32(true_ids, num_true_groups).reshape(shape)  # [B, N]
  pred_ids = _to_int32(pred_ids, num_pred_groups).reshape(shape)  # [B, N]
  sizes = {"num_true": num_true_groups, "num_pred": num_pred_groups}
  # A CPU counts pixel by pixel in less than a tenth of the time of the product.
  # Elsewhere the product stays: additions that are scattered over few numbers
  # have to wait for each other there.
  return platform.dependent(
    true_ids,
    pred_ids,
    cpu=functools.partial(_by_counting, **sizes),
    default=functools.partial(_by_matrix_product, **sizes),
  )


def _num_groups(ids, side):
  """One more than the largest id."""
  if isinstance(ids, core.Tracer):
    raise ValueError(
      f"Expected num_{side}_groups under jit, where ids have no values yet, "
      "got None. Pass the number, as the number of slots."
    )
  largest = int(np.max(ids, initial=0))
  if largest >= _MOST_GROUPS:
    raise ValueError(
      f"Expected num_{side}_groups, or ids below {_MOST_GROUPS:,}, got an id "
      f"of {largest}. Number the groups from 0."
    )
  return largest + 1


def _to_int32(ids, num_groups):
  """The same ids as int32, in whose dtype groups are counted; -1: in none."""
  if ids.dtype.itemsize < 4 or ids.dtype == jnp.int32:
    return jnp.asarray(ids, jnp.int32)
  # Compared before they are converted: 2^63 would become 0, a group.
  numpy = np if isinstance(ids, np.ndarray) else jnp
  inside = (ids >= 0) & (ids < num_groups)
  return jnp.asarray(numpy.where(inside, ids.astype(np.int32), np.int32(-1)))


def _by_counting(true_ids, pred_ids, *, num_true, num_pred):
  """The table of ids [B, N]: a histogram of the pairs' numbers."""
  inside = (true_ids >= 0) & (true_ids < num_true)
  inside &= (pred_ids >= 0) & (pred_ids < num_pred)
  num_pairs = num_true * num_pred
  # Pixels that do not count get a number past the end, which is dropped.
  pairs = jnp.where(inside, true_ids * num_pred + pred_ids, num_pairs)
  count = functools.partial(jnp.bincount, length=num_pairs)
  table = jax.vmap(count)(pairs).astype(jnp.float32)  # [B, G S]
  return table.reshape(-1, num_true, num_pred)  # [B, G, S]


def _by_matrix_product(true_ids, pred_ids, *, num_true, num_pred):
  """The table of ids [B, N]: ids out of range have a row of zeros."""
  true_hot = jax.nn.one_hot(true_ids, num_true)  # [B, N, G]
  pred_hot = jax.nn.one_hot(pred_ids, num_pred)  # [B, N, S]
  # Exact at any matmul precision: 0 and 1 survive bfloat16, and sums of ones
  # are exact in float32 up to 2^24 pixels.
  return jnp.einsum("bng,bns->bgs", true_hot, pred_hot)  # [B, G, S]
