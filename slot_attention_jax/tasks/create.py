"""The two objectives: model, loss and metrics in one place each."""

from typing import Any, Protocol

import jax
import numpy as np

from slot_attention_jax import (
  model_config,
  object_discovery,
  set_prediction,
)
from slot_attention_jax.data import types


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


def create_task(
  config: Any, info: types.DatasetInfo, *, full: bool = False
) -> object_discovery.ObjectDiscovery | set_prediction.SetPrediction:
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
  return object_discovery.ObjectDiscovery(
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
  return set_prediction.SetPrediction(
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
