"""The two objectives: model, loss and metrics in one place each."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax import losses, model_config
from slot_attention_jax.data import types
from slot_attention_jax.metrics import ari
from slot_attention_jax.metrics import average_precision as ap


class Task(Protocol):
  """An objective; all but `summarize` are pure and jit-able."""

  @property
  def num_slots(self) -> int:
    """K at evaluation."""
    ...

  @property
  def num_iterations(self) -> int:
    """T at evaluation."""
    ...

  @property
  def metric_names(self) -> tuple[str, ...]:
    """Short names of the metrics that `summarize` gives."""
    ...

  def init(self, key: jax.Array) -> Any:
    """Initial parameters."""
    ...

  def draw_noise(
    self, params: Any, batch_size: int, key: jax.Array
  ) -> jax.Array:
    """Slot noise [B, K, D] of a training batch."""
    ...

  def loss(
    self, params: Any, batch: types.Batch, noise: jax.Array
  ) -> jax.Array:
    """Scalar float32 loss of a training batch, a mean over its examples."""
    ...

  def apply(
    self, params: Any, images: jax.Array, key: jax.Array, first: Any = 0
  ) -> Any:
    """The model's output as in evaluation, on examples `first` and later."""
    ...

  def evaluate(
    self, params: Any, batch: types.Batch, key: jax.Array, first: jax.Array
  ) -> dict[str, jax.Array]:
    """Per-example results [B, ...] of a batch of an evaluation split."""
    ...

  def summarize(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Metrics of a split from the results of all its examples [N, ...]."""
    ...


def _noise(key, first, batch_size, num_slots, slot_size):
  """Slot noise [B, K, D] that depends on the example, not on its batch."""
  index = jnp.asarray(first, jnp.uint32) + jnp.arange(
    batch_size, dtype=jnp.uint32
  )
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
  return jax.vmap(lambda k: jax.random.normal(k, (num_slots, slot_size)))(keys)


def _init(model, key, image_shape):
  params_key, slots_key = jax.random.split(key)
  images = jnp.zeros((1, *image_shape))
  rngs = {"params": params_key, "slots": slots_key}
  return model.init(rngs, images)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _SlotTask:
  """What both objectives share: running the model."""

  model: Any
  image_shape: tuple[int, int, int]
  num_slots: int
  num_iterations: int

  def init(self, key: jax.Array) -> Any:
    """Initial parameters."""
    return _init(self.model, key, self.image_shape)

  def apply(
    self, params: Any, images: jax.Array, key: jax.Array, first: Any = 0
  ) -> Any:
    """Runs the model as in evaluation, on examples `first`, `first` + 1..."""
    noise = _noise(
      key, first, images.shape[0], self.num_slots, self.model.slot_size
    )
    return self.model.apply(
      params, images, noise=noise, num_iterations=self.num_iterations
    )

  def draw_noise(
    self, params: Any, batch_size: int, key: jax.Array
  ) -> jax.Array:
    """Slot noise [B, K, D] of a training batch, as the model draws it."""
    rngs = {"slots": key}
    return self.model.apply(params, batch_size, rngs=rngs, method="draw_noise")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectDiscovery(_SlotTask):
  """Reconstruct images through slots; score the masks where truth exists.

  Attributes:
    model: the autoencoder.
    image_shape: (H, W, 3) of the images.
    max_objects: most objects in a ground-truth segmentation; 0: there is none.
    num_slots: K at evaluation.
    num_iterations: T at evaluation.
  """

  max_objects: int

  @property
  def metric_names(self) -> tuple[str, ...]:
    """`mse`; with ground truth also `fg_ari`, `ari`, `miou`."""
    return ("mse", "fg_ari", "ari", "miou") if self.max_objects else ("mse",)

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
    """MSE of each example; ARI, FG-ARI and mIoU where there is truth."""
    images = batch["image"]
    output = self.apply(params, images, key, first)
    results = {"mse": losses.reconstruction_loss(output.reconstruction, images)}
    if self.max_objects:
      true = batch["segmentation"]
      predicted = output.masks[..., 0].argmax(axis=1)  # [B, H, W]
      score = functools.partial(
        ari.adjusted_rand_index,
        true,
        predicted,
        num_true_groups=self.max_objects + 1,
        num_pred_groups=self.num_slots,
      )
      results["fg_ari"] = score(foreground_only=True)
      results["ari"] = score()
      results["miou"] = ari.mean_iou(
        true,
        predicted,
        num_true_groups=self.max_objects + 1,
        num_pred_groups=self.num_slots,
      )
    return results

  def summarize(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over the examples."""
    return {k: float(v.mean(dtype=np.float64)) for k, v in results.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetPrediction(_SlotTask):
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
  """

  layout: types.PropertyLayout
  weights: tuple[float, ...] | None
  thresholds: Sequence[float]

  @property
  def metric_names(self) -> tuple[str, ...]:
    """`loss` and one `ap_` for each threshold."""
    return ("loss", *(f"ap_{t:g}" for t in self.thresholds))

  def _loss(self, predictions, targets):
    weights = None if self.weights is None else jnp.asarray(self.weights)
    return losses.set_prediction_loss(predictions, targets, weights=weights)

  def loss(
    self, params: Any, batch: types.Batch, noise: jax.Array
  ) -> jax.Array:
    """Hungarian Huber loss, summed over pairs, mean over the batch."""
    images = batch["image"]
    output = self.model.apply(params, images, noise=noise)
    return self._loss(output.predictions, batch["target"]).mean()

  def evaluate(
    self, params: Any, batch: types.Batch, key: jax.Array, first: jax.Array
  ) -> dict[str, jax.Array]:
    """Loss, predictions and targets of each example."""
    predictions = self.apply(params, batch["image"], key, first).predictions
    return {
      "loss": self._loss(predictions, batch["target"]),
      "predictions": predictions,
      "targets": batch["target"],
    }

  def summarize(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean loss, and average precision over all examples pooled."""
    values = ap.average_precision(
      jnp.asarray(results["predictions"]),
      jnp.asarray(results["targets"]),
      self.layout,
      thresholds=tuple(self.thresholds),
    )
    loss = float(results["loss"].mean(dtype=np.float64))
    values = [loss, *np.asarray(values).tolist()]
    return dict(zip(self.metric_names, values, strict=True))


def create_task(
  config: Any, info: types.DatasetInfo
) -> ObjectDiscovery | SetPrediction:
  """Builds the objective of a config for a dataset.

  Args:
    config: a whole `ConfigDict`.
    info: the dataset's; gives image size and property layout.

  Returns:
    The task.

  Raises:
    ValueError: on an unknown task or precision, or a dataset without what the
      task needs.
  """
  model, evaluation = config.model, config.eval
  at_test = {
    "num_slots": evaluation.num_slots or model.num_slots,
    "num_iterations": evaluation.num_iterations or model.num_iterations,
  }
  if model.slot_start != "shared" and (at_test["num_slots"] != model.num_slots):
    raise ValueError(
      f"Expected eval.num_slots of 0 or {model.num_slots}, for "
      f"model.slot_start={model.slot_start!r} learns one start per slot, got "
      f"{at_test['num_slots']}. Train with model.slot_start='shared' to change "
      "the number of slots afterwards."
    )
  if config.task == "set_prediction":
    return _create_set_prediction(config, info, at_test)
  return ObjectDiscovery(
    model=model_config.create_model(
      config.task, model, resolution=info.image_shape[:2]
    ),
    image_shape=info.image_shape,
    max_objects=info.max_objects if info.has_segmentation else 0,
    **at_test,
  )


def _create_set_prediction(config, info, at_test):
  layout = info.layout
  if layout is None:
    raise ValueError(
      f"Set prediction needs annotated objects, which split {info.split!r} of "
      f"{info.name!r} does not have. Use another split or task='discovery'."
    )
  fewest = min(config.model.num_slots, at_test["num_slots"])
  if fewest < info.max_objects:
    raise ValueError(
      f"Expected at least as many slots as the {info.max_objects} objects of "
      f"{info.name!r}, got {fewest}: raise model.num_slots or eval.num_slots."
    )
  weights = None
  if config.model.position_weight != 1.0:
    weights = np.ones((layout.size,))
    weights[layout.slice(layout.position)] = config.model.position_weight
    weights = tuple(weights.tolist())
  return SetPrediction(
    model=model_config.create_model(
      config.task,
      config.model,
      resolution=info.image_shape[:2],
      num_properties=layout.size,
    ),
    image_shape=info.image_shape,
    layout=layout,
    weights=weights,
    thresholds=tuple(config.eval.thresholds),
    **at_test,
  )
