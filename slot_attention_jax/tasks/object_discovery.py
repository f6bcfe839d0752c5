"""Object discovery: reconstruct images, score the masks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax import losses
from slot_attention_jax.data import types
from slot_attention_jax.metrics import (
  ari,
  contingency,
  masks,
  overlap,
  reconstruction,
  segmentation,
  standard_errors,
)
from slot_attention_jax.tasks import task

SCORES = ("fg_ari", "ari", "miou")
"""Scores of a segmentation during training."""
EXTENDED_SCORES = (
  *SCORES,
  "mbo",
  "covering",
  "slots_in_use",
  "background_split",
)
"""Scores of a segmentation in an extended evaluation."""


def _progress(step: Any, steps: tuple[int, int]) -> jax.Array:
  """How far a step is from the first to the second, in [0, 1]."""
  begin, end = steps
  return jnp.clip((step - begin) / (end - begin), 0, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectDiscovery(task.Task):
  """Reconstruct images through slots; score the masks against ground truth.

  Attributes:
    model: the autoencoder.
    image_shape: (H, W, 3) of the images.
    max_objects: most objects in a ground-truth segmentation; 0 without one.
    num_slots: K at evaluation.
    num_iterations: T at evaluation.
    extended: whether evaluation computes all metrics.
    train_iterations: fewest and most iterations of an example in training.
    early_iterations: the same in the first `early_steps` steps.
    early_steps: how many these are; 0: none.
    background_weight: weight in the loss of the mean absolute difference of the
      image that slot 0 paints and the input, wherever slot 0's mask is.
    foreground_weight: weight in the loss of the fraction of the image that is
      covered by slots other than slot 0.
    foreground_ramp: (begin, end) steps between which this weight rises linearly
      from 0; (0, 0): it does not.
    foreground_fall: (begin, end) steps between which it falls to 0 again; (0,
      0): it does not.
    overlap_weight: weight in the loss of `losses.mask_overlap`, of the slots
      that do not paint a background.
    overlap_ramp: (begin, end) steps between which it rises linearly from 0; (0,
      0): it does not.
  """

  max_objects: int
  background_weight: float = 0.0
  foreground_weight: float = 0.0
  foreground_ramp: tuple[int, int] = (0, 0)
  foreground_fall: tuple[int, int] = (0, 0)
  overlap_weight: float = 0.0
  overlap_ramp: tuple[int, int] = (0, 0)

  @property
  def pixels(self) -> int:
    """Those of the image, which each slot paints."""
    return super().pixels * self.num_slots

  @property
  def metric_names(self) -> tuple[str, ...]:
    """`mse`; with ground truth also `SCORES`.

    An extended evaluation adds `psnr`, `EXTENDED_SCORES`, and these of the
    attention of the last iteration, upsampled, with `_attention` appended.
    """
    names = ("mse", "psnr") if self.extended else ("mse",)
    if not self.max_objects:
      return names
    if not self.extended:
      return (*names, *SCORES)
    of_attention = tuple(f"{name}_attention" for name in EXTENDED_SCORES)
    return (*names, *EXTENDED_SCORES, *of_attention)

  @property
  def prediction_shapes(self) -> dict[str, tuple[int | None, ...]]:
    """`segments` [H, W], and `reconstruction` [H, W, 3] in [-1, 1]."""
    return {
      "segments": self.image_shape[:2],
      "reconstruction": self.image_shape,
    }

  @property
  def best_metric(self) -> tuple[str, str]:
    """FG-ARI where there is ground truth, else the MSE."""
    return ("fg_ari", "max") if self.max_objects else ("mse", "min")

  @property
  def _weights_change(self) -> bool:
    """Whether a weight of the loss depends on the step."""
    foreground = {self.foreground_ramp, self.foreground_fall} != {(0, 0)}
    overlap = self.overlap_ramp != (0, 0)
    return bool(
      (self.foreground_weight and foreground)
      or (self.overlap_weight and overlap)
    )

  def _weights(self, step: Any) -> dict[str, Any]:
    """The weights of the loss at a step."""
    foreground, overlap = self.foreground_weight, self.overlap_weight
    if self.foreground_ramp != (0, 0):
      foreground *= _progress(step, self.foreground_ramp)
    if self.foreground_fall != (0, 0):
      foreground *= 1 - _progress(step, self.foreground_fall)
    if self.overlap_ramp != (0, 0):
      overlap *= _progress(step, self.overlap_ramp)
    return {"foreground": foreground, "overlap": overlap}

  def draw_noise(
    self, params: Any, batch_size: int, key: jax.Array, step: Any = 0
  ) -> Any:
    """As of `Task`; if weights change, a pair of it and weights [B] by name."""
    noise = super().draw_noise(params, batch_size, key, step)
    if not self._weights_change:
      return noise
    # For each example, because what is drawn is split over the devices.
    return noise, {
      name: jnp.broadcast_to(weight, batch_size)
      for name, weight in self._weights(step).items()
    }

  def apply_in_training(
    self, params: Any, images: jax.Array, noise: Any
  ) -> Any:
    """Runs the model as in training, with what `draw_noise` drew."""
    noise = noise[0] if self._weights_change else noise
    return super().apply_in_training(params, images, noise)

  def loss(self, params: Any, batch: types.Batch, noise: Any) -> jax.Array:
    """Mean squared error over B, H, W and C, plus what has a weight."""
    images = batch["image"]
    output = self.apply_in_training(params, images, noise)
    loss = losses.reconstruction_loss(output.reconstruction, images).mean()
    weights = noise[1] if self._weights_change else self._weights(0)
    if self.background_weight:
      difference = jnp.abs(output.images[:, 0].astype(jnp.float32) - images)
      loss += self.background_weight * difference.mean()
    if self.overlap_weight:
      first = 0 if self.model.background is None else 1
      overlaps = losses.mask_overlap(output.masks[:, first:])  # [B]
      loss += jnp.mean(weights["overlap"] * overlaps)
    if self.foreground_weight:
      foreground = 1 - output.masks[:, 0].mean(axis=(1, 2, 3))  # [B]
      loss += jnp.mean(weights["foreground"] * foreground)
    return loss

  def score_output(
    self, output: Any, batch: types.Batch
  ) -> dict[str, jax.Array]:
    """Scores of each example, [B] float32 by their short names."""
    predicted = {"reconstruction": output.reconstruction}
    if self.max_objects:
      predicted["segments"] = output.masks[..., 0].argmax(axis=1)  # [B, H, W]
      if self.extended:
        h, w = self.image_shape[:2]
        attention = output.attention[:, -1]  # [B, K, N]
        grid = self.model.feature_grid((h, w), attention.shape[-1])
        maps = masks.attention_masks(attention, grid, (h, w))
        predicted["attention_segments"] = maps.argmax(axis=1)  # [B, H, W]
    return self.score(predicted, batch)

  def score(
    self, predicted: Mapping[str, Any], batch: types.Batch
  ) -> dict[str, jax.Array]:
    """Scores what is predicted for a batch, [B] float32 by short names.

    Args:
      predicted: any of `reconstruction` [B, H, W, 3] and, integer slots,
        `segments` and `attention_segments` [B, H, W].
      batch: the images, with `segmentation` if there are segments.

    Returns:
      The scores; those of `attention_segments` with `_attention` appended.

    Raises:
      ValueError: if there are segments but no ground truth.
    """
    results = {}
    if "reconstruction" in predicted:
      images, output = batch["image"], predicted["reconstruction"]
      results["mse"] = losses.reconstruction_loss(output, images)
      if self.extended:
        results["psnr"] = reconstruction.psnr(output, images)
    suffixes = {"segments": "", "attention_segments": "_attention"}
    suffixes = {k: v for k, v in suffixes.items() if k in predicted}
    if not suffixes:
      return results
    if not self.max_objects:
      raise ValueError(
        "Expected data with masks, which segments are scored against, got "
        "data without masks. Choose another dataset."
      )
    # In one batch, because the program is as large for one as for two.
    scores = self._score_segments(
      jnp.concatenate([batch["segmentation"]] * len(suffixes)),
      jnp.concatenate([predicted[name] for name in suffixes]),
    )
    for name, values in scores.items():
      parts = jnp.split(values, len(suffixes))
      for suffix, part in zip(suffixes.values(), parts, strict=True):
        results[f"{name}{suffix}"] = part
    return results

  def _score_segments(self, true_ids, pred_ids):
    """Scores segmentations [B, H, W], all from one table of counts."""
    groups = self.max_objects + 1
    # Pixels that the ground truth leaves out are counted, too, in the last row.
    inside = (true_ids >= 0) & (true_ids < groups)
    all_pixels = contingency.contingency_table(
      jnp.where(inside, true_ids, groups), pred_ids, groups + 1, self.num_slots
    )
    table = all_pixels[:, :groups]  # [B, G, S]
    scores = {
      "fg_ari": ari.adjusted_rand_index_from_table(table, foreground_only=True),
      "ari": ari.adjusted_rand_index_from_table(table),
      "miou": overlap.mean_iou_from_table(table),
    }
    if not self.extended:
      return scores
    parts = segmentation.background_segments_from_table(table)
    return scores | {
      "mbo": overlap.mean_best_overlap_from_table(table),
      "covering": overlap.segmentation_covering_from_table(table),
      "slots_in_use": segmentation.slots_in_use_from_table(all_pixels),
      "background_split": (parts > 1).astype(jnp.float32),
    }

  def summarize(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over the examples."""
    return {k: float(v.mean(dtype=np.float64)) for k, v in results.items()}

  def standard_errors(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Of the means; none of a single example."""
    pairs = {
      k: standard_errors.mean_and_standard_error(v) for k, v in results.items()
    }
    return {k: error for k, (_, error) in pairs.items() if error is not None}
