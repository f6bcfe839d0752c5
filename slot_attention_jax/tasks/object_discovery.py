"""Object discovery: reconstruct images, score the masks."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax import losses
from slot_attention_jax.data import types
from slot_attention_jax.metrics import masks, standard_errors
from slot_attention_jax.tasks import scores, task


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectDiscovery(task.Task):
  """Reconstruct images through slots; score the masks where truth exists.

  Attributes:
    model: the autoencoder.
    image_shape: (H, W, 3) of the images.
    max_objects: most objects in a ground-truth segmentation; 0: there is none.
    num_slots: K at evaluation.
    num_iterations: T at evaluation.
    full: whether evaluation computes all that a report shows.
  """

  max_objects: int

  @property
  def metric_names(self) -> tuple[str, ...]:
    """`mse`; with ground truth also `fg_ari`, `ari`, `miou`.

    A full evaluation adds `psnr`, `scores.FULL`, and these of the attention of
    the last iteration, upsampled, with `_attention` behind their names.
    """
    names = ("mse", "psnr") if self.full else ("mse",)
    if not self.max_objects:
      return names
    if not self.full:
      return (*names, *scores.BRIEF)
    of_attention = tuple(f"{name}_attention" for name in scores.FULL)
    return (*names, *scores.FULL, *of_attention)

  def loss(
    self, params: Any, batch: types.Batch, noise: jax.Array
  ) -> jax.Array:
    """Mean squared error over B, H, W and C."""
    images = batch["image"]
    output = self.model.apply(params, images, noise=noise)
    return losses.reconstruction_loss(output.reconstruction, images).mean()

  def evaluate(
    self, params: Any, batch: types.Batch, key: jax.Array, first: jax.Array
  ) -> dict[str, jax.Array]:
    """Scores of each example, [B] float32 by their short names."""
    images = batch["image"]
    output = self.apply(params, images, key, first)
    results = scores.reconstruction_scores(
      output.reconstruction, images, full=self.full
    )
    if self.max_objects:
      results |= self._score(batch["segmentation"], output)
    return results

  def _score(self, true_ids, output):
    """Scores the masks of the decoder and, in full, those of attention."""
    predicted = [output.masks[..., 0].argmax(axis=1)]  # [B, H, W]
    if self.full:
      h, w = self.image_shape[:2]
      grid = self.model.grid_of((h, w))
      maps = masks.attention_masks(output.attention[:, -1], grid, (h, w))
      predicted.append(maps.argmax(axis=1))  # [B, H, W]
    # In one batch, because the program is as large for one as for two.
    results = scores.segmentation_scores(
      jnp.concatenate([true_ids] * len(predicted)),
      jnp.concatenate(predicted),
      max_objects=self.max_objects,
      num_slots=self.num_slots,
      full=self.full,
    )
    if not self.full:
      return results
    split = {name: jnp.split(value, 2) for name, value in results.items()}
    return {name: parts[0] for name, parts in split.items()} | {
      f"{name}_attention": parts[1] for name, parts in split.items()
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
