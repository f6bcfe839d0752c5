"""All scores of a segmentation or a reconstruction, one of each per image."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from slot_attention_jax import losses
from slot_attention_jax.metrics import ari, reconstruction, segmentation

BRIEF = ("fg_ari", "ari", "miou")
FULL = (*BRIEF, "mbo", "covering", "slots_in_use", "background_split")
"""Scores of a segmentation that training, and that a report, shows."""


def segmentation_scores(
  true_ids: jax.Array,
  pred_ids: jax.Array,
  *,
  max_objects: int,
  num_slots: int,
  full: bool = True,
) -> dict[str, jax.Array]:
  """Scores a segmentation by slots against the true one.

  Args:
    true_ids: [B, H, W] integers, 0 background, i = object i; others, such as
      -1, are left out.
    pred_ids: [B, H, W] integer slots, as the argmax of the masks over them.
    max_objects: O, the largest id of an object; static.
    num_slots: K; static.
    full: whether to compute `FULL`, not `BRIEF` alone; static.

  Returns:
    Arrays [B] float32 by name. `background_split` is 1 where two or more slots
    have at least 5 % of the background each, else 0.
  """
  groups: Any = {
    "num_true_groups": max_objects + 1,
    "num_pred_groups": num_slots,
  }
  score = functools.partial(
    ari.adjusted_rand_index, true_ids, pred_ids, **groups
  )
  out = {
    "fg_ari": score(foreground_only=True),
    "ari": score(),
    "miou": ari.mean_iou(true_ids, pred_ids, **groups),
  }
  if not full:
    return out
  parts = segmentation.background_segments(true_ids, pred_ids, **groups)
  return out | {
    "mbo": ari.mean_best_overlap(true_ids, pred_ids, **groups),
    "covering": segmentation.segmentation_covering(
      true_ids, pred_ids, **groups
    ),
    "slots_in_use": segmentation.slots_in_use(
      pred_ids, num_pred_groups=num_slots
    ),
    "background_split": (parts > 1).astype(jnp.float32),
  }


def reconstruction_scores(
  reconstructed: jax.Array, images: jax.Array, *, full: bool = True
) -> dict[str, jax.Array]:
  """Scores a reconstruction, [B, H, W, C] as the images in [-1, 1].

  Args:
    reconstructed: [B, H, W, C].
    images: [B, H, W, C].
    full: whether to compute more than the loss; static.

  Returns:
    Arrays [B] float32: `mse` and, if full, `psnr` in dB.
  """
  out = {"mse": losses.reconstruction_loss(reconstructed, images)}
  if full:
    out["psnr"] = reconstruction.psnr(reconstructed, images)
  return out
