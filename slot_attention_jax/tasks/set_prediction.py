"""Set prediction: predict the properties of all objects, score the sets."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax import losses
from slot_attention_jax.data import types
from slot_attention_jax.metrics import attributes, standard_errors
from slot_attention_jax.metrics import average_precision as ap
from slot_attention_jax.tasks import task

# In front of names of `attributes.attribute_counts` among results.
_COUNT = "count/"
# Of the examples, for the standard error of average precision.
_RESAMPLES = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetPrediction(task.Task):
  """Predict the properties of all objects as a set.

  Attributes:
    model: the set predictor.
    image_shape: (H, W, 3) of the images.
    layout: layout of the targets.
    weights: [P] weights of the properties in the loss; None: all 1.
    thresholds: distance thresholds of average precision, in the units of the
      data; infinity: attributes alone decide.
    num_slots: K at evaluation.
    num_iterations: T at evaluation.
    extended: whether evaluation also scores each property on its own.
    train_iterations: fewest and most iterations of an example in training.
    early_iterations: the same in the first `early_steps` steps.
    early_steps: how many these are; 0: none.
  """

  layout: types.PropertyLayout
  weights: tuple[float, ...] | None
  thresholds: Sequence[float]

  @property
  def metric_names(self) -> tuple[str, ...]:
    """`loss` and one `ap_` for each threshold.

    An extended evaluation adds those of `attributes.attribute_scores`.
    """
    return ("loss", *(f"ap_{t:g}" for t in self.thresholds))

  @property
  def prediction_shapes(self) -> dict[str, tuple[int | None, ...]]:
    """`predictions` [K, P]."""
    return {"predictions": (None, self.layout.size)}

  @property
  def best_metric(self) -> tuple[str, str]:
    """Average precision at the first threshold; without any, the loss."""
    _, *precisions = self.metric_names
    return (precisions[0], "max") if precisions else ("loss", "min")

  @property
  def _weights(self):
    return None if self.weights is None else jnp.asarray(self.weights)

  def _loss(self, predictions, targets):
    return losses.set_prediction_loss(
      predictions, targets, weights=self._weights
    )

  def loss(self, params: Any, batch: types.Batch, noise: Any) -> jax.Array:
    """Hungarian Huber loss, summed over pairs, mean over the batch."""
    images = batch["image"]
    output = self.apply_in_training(params, images, noise)
    return self._loss(output.predictions, batch["target"]).mean()

  def score_output(
    self, output: Any, batch: types.Batch
  ) -> dict[str, jax.Array]:
    """Loss, predictions, targets and, if extended, counts of each example."""
    return self.score({"predictions": output.predictions}, batch)

  def score(
    self, predicted: Mapping[str, Any], batch: types.Batch
  ) -> dict[str, jax.Array]:
    """Scores `predictions` [B, K, P] against the targets of a batch."""
    predictions = jnp.asarray(predicted["predictions"])
    targets = batch["target"]
    results = {
      "loss": self._loss(predictions, targets),
      "predictions": predictions,
      "targets": targets,
    }
    if self.extended:
      cost = losses.pairwise_huber(predictions, targets, self._weights)
      # Average precision takes -1, too, for no threshold.
      finite = tuple(t for t in self.thresholds if 0 <= t < np.inf)
      counts = attributes.attribute_counts(
        predictions, targets, cost, self.layout, finite
      )
      results |= {f"{_COUNT}{name}": value for name, value in counts.items()}
    return results

  def summarize(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean loss, and average precision over all examples pooled."""
    loss = float(results["loss"].mean(dtype=np.float64))
    values = [loss, *self._average_precision(results).tolist()]
    metrics = dict(zip(self.metric_names, values, strict=True))
    return metrics | {k: v for k, (v, _) in _attributes(results).items()}

  def standard_errors(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Of the loss, of average precision by a bootstrap over the examples."""
    count = len(results["loss"])
    if count < 2:
      return {}
    # A fixed stream: the same results have the same errors.
    rows = np.random.default_rng(0).integers(0, count, (_RESAMPLES, count))
    resampled = np.stack([self._average_precision(results, r) for r in rows])
    _, of_loss = standard_errors.mean_and_standard_error(results["loss"])
    values = [of_loss, *resampled.std(axis=0, ddof=1).tolist()]
    errors = dict(zip(self.metric_names, values, strict=True))
    return errors | {
      k: e for k, (_, e) in _attributes(results).items() if e is not None
    }

  def _average_precision(self, results, rows=slice(None)):
    values = ap.average_precision(
      jnp.asarray(results["predictions"][rows]),
      jnp.asarray(results["targets"][rows]),
      self.layout,
      thresholds=tuple(self.thresholds),
    )
    return np.asarray(values)


def _attributes(results):
  """Scores of each property, if an extended evaluation counted them."""
  counts = {
    k.removeprefix(_COUNT): v
    for k, v in results.items()
    if k.startswith(_COUNT)
  }
  return attributes.attribute_scores(counts) if counts else {}
