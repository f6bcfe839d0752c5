"""The two objectives: model, loss and metrics in one place each."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax import losses, model_config, scores
from slot_attention_jax.data import types
from slot_attention_jax.metrics import attributes, masks, standard_errors
from slot_attention_jax.metrics import average_precision as ap

# In front of names of `attributes.attribute_counts` among results.
_COUNT = "count/"
# Of the examples, for the standard error of average precision.
_RESAMPLES = 32


class Task(Protocol):
  """An objective; all but the last two methods are pure and jit-able."""

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

  def standard_errors(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Standard errors of these metrics over examples, where there are any."""
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
  full: bool = False

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
    return {k: _error_of_mean(v) for k, v in results.items() if len(v) > 1}


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
    full: whether evaluation also counts each property on its own.
  """

  layout: types.PropertyLayout
  weights: tuple[float, ...] | None
  thresholds: Sequence[float]

  @property
  def metric_names(self) -> tuple[str, ...]:
    """`loss` and one `ap_` for each threshold.

    A full evaluation adds those of `attributes.attribute_scores`.
    """
    return ("loss", *(f"ap_{t:g}" for t in self.thresholds))

  @property
  def _weights(self):
    return None if self.weights is None else jnp.asarray(self.weights)

  def _loss(self, predictions, targets):
    return losses.set_prediction_loss(
      predictions, targets, weights=self._weights
    )

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
    """Loss, predictions, targets and, in full, counts of each example."""
    predictions = self.apply(params, batch["image"], key, first).predictions
    return self.score(predictions, batch["target"])

  def score(
    self, predictions: jax.Array, targets: jax.Array
  ) -> dict[str, jax.Array]:
    """What `summarize` needs of predictions [B, K, P] and targets."""
    results = {
      "loss": self._loss(predictions, targets),
      "predictions": predictions,
      "targets": targets,
    }
    if self.full:
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
    values = [_error_of_mean(results["loss"]), *resampled.std(axis=0, ddof=1)]
    errors = dict(zip(self.metric_names, map(float, values), strict=True))
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


def _error_of_mean(values: np.ndarray) -> Any:
  return standard_errors.mean_and_standard_error(values)[1]


def _attributes(results):
  """Scores of each property, if a full evaluation counted them."""
  counts = {
    k.removeprefix(_COUNT): v
    for k, v in results.items()
    if k.startswith(_COUNT)
  }
  return attributes.attribute_scores(counts) if counts else {}


def create_task(
  config: Any, info: types.DatasetInfo, *, full: bool = False
) -> ObjectDiscovery | SetPrediction:
  """Builds the objective of a config for a dataset.

  Args:
    config: a whole `ConfigDict`.
    info: the dataset's; gives image size and property layout.
    full: whether evaluation computes all that a report shows.

  Returns:
    The task.

  Raises:
    ValueError: on an unknown task or precision, or a dataset without what the
      task needs.
  """
  model, evaluation = config.model, config.eval
  at_test = {
    "full": full,
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
