"""The interface of a task, and what all tasks share: running the model."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import types

SHOWN = "shown"
"""Where `Task.evaluate` puts the model's output among the results."""


def example_noise(
  key: jax.Array,
  first_index: Any,
  batch_size: int,
  num_slots: int,
  slot_size: int,
) -> jax.Array:
  """Slot noise [B, K, D] that depends on the example, not on its batch.

  Args:
    key: of the evaluation.
    first_index: index of the first example in its split.
    batch_size: B.
    num_slots: K.
    slot_size: D.

  Returns:
    [B, K, D] float32, standard normal.
  """
  index = jnp.asarray(first_index, jnp.uint32) + jnp.arange(
    batch_size, dtype=jnp.uint32
  )
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
  return jax.vmap(lambda k: jax.random.normal(k, (num_slots, slot_size)))(keys)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
  """An objective: a model, its loss, and how it is scored.

  Hashable, so that functions of it are compiled once for equal fields. All
  methods but `summarize` and `standard_errors` are pure and can be jitted.

  Attributes:
    model: a linen module with the interface of `models`.
    image_shape: (H, W, 3) of the images.
    num_slots: K at evaluation.
    num_iterations: T at evaluation.
    extended: whether evaluation computes all metrics; if not, those that are
      followed during training.
    train_iterations: fewest and most iterations of an example in training;
      (0, 0): the model's T.
    early_iterations: the same in the first `early_steps` steps.
    early_steps: how many these are; 0: none.
  """

  model: Any
  image_shape: tuple[int, int, int]
  num_slots: int
  num_iterations: int
  extended: bool = False
  train_iterations: tuple[int, int] = (0, 0)
  early_iterations: tuple[int, int] = (0, 0)
  early_steps: int = 0

  @property
  def pixels(self) -> int:
    """How many pixels the model works on for each image."""
    return self.image_shape[0] * self.image_shape[1]

  def init(self, key: jax.Array) -> Any:
    """Initial parameters."""
    params_key, slots_key = jax.random.split(key)
    images = jnp.zeros((1, *self.image_shape))
    rngs = {"params": params_key, "slots": slots_key}
    return self.model.init(rngs, images)

  def apply(
    self, params: Any, images: jax.Array, key: jax.Array, first_index: Any = 0
  ) -> Any:
    """Runs the model as in evaluation, on examples from `first_index` on."""
    noise = example_noise(
      key, first_index, images.shape[0], self.num_slots, self.model.slot_size
    )
    return self.model.apply(
      params, images, noise=noise, num_iterations=self.num_iterations
    )

  def draw_noise(
    self, params: Any, batch_size: int, key: jax.Array, step: Any = 0
  ) -> Any:
    """Draws what is random in a training batch, for `loss`.

    Args:
      params: parameters of the model.
      batch_size: B.
      key: of the training step.
      step: how many steps were done before; read if there are `early_steps`.

    Returns:
      Slot noise [B, K, D], as the model draws it. If `train_iterations` are
      set, a pair of it and each example's number of iterations [B].
    """
    rngs = {"slots": key}
    noise = self.model.apply(params, batch_size, rngs=rngs, method="draw_noise")
    fewest, most = self.train_iterations
    if not most:
      return noise
    # A stream of its own, so that the slot noise is the same in any case.
    key = jax.random.fold_in(key, 1)
    if self.early_steps:
      fewest, most = jnp.where(
        step < self.early_steps,
        jnp.asarray(self.early_iterations),
        jnp.asarray(self.train_iterations),
      )
    counts = jax.random.randint(key, (batch_size,), fewest, most + 1)
    return noise, counts

  def apply_in_training(
    self, params: Any, images: jax.Array, noise: Any
  ) -> Any:
    """Runs the model as in training, with what `draw_noise` drew."""
    most = max(self.train_iterations[1], self.early_iterations[1])
    if not most:
      return self.model.apply(params, images, noise=noise)
    noise, counts = noise
    return self.model.apply(
      params, images, noise=noise, num_iterations=most, stop_after=counts
    )

  @property
  @abc.abstractmethod
  def metric_names(self) -> tuple[str, ...]:
    """Short names of the metrics that `summarize` gives."""

  @property
  @abc.abstractmethod
  def best_metric(self) -> tuple[str, str]:
    """The metric that decides which model is best, and `"max"` or `"min"`."""

  @abc.abstractmethod
  def loss(self, params: Any, batch: types.Batch, noise: Any) -> jax.Array:
    """Scalar float32 loss of a training batch, a mean over its examples.

    Args:
      params: parameters of the model.
      batch: the batch.
      noise: what `draw_noise` drew for it.
    """

  @property
  @abc.abstractmethod
  def prediction_shapes(self) -> dict[str, tuple[int | None, ...]]:
    """Shapes of one example's arrays that `score` takes, None: any size.

    The first is required of predictions in a file, the others are optional.
    """

  def evaluate(
    self,
    params: Any,
    batch: types.Batch,
    key: jax.Array,
    first_index: Any,
    num_images: int = 0,
  ) -> dict[str, Any]:
    """Runs the model on a batch of an evaluation split and scores the output.

    Args:
      params: parameters of the model.
      batch: the batch.
      key: of the slot noise.
      first_index: index of the batch's first example in its split.
      num_images: for how many of the first examples the output is wanted, too.

    Returns:
      Results [B, ...] of each example, for `summarize`; and the model's output
      as `SHOWN`, if any is wanted.
    """
    output = self.apply(params, batch["image"], key, first_index)
    results = dict(self.score_output(output, batch))
    if num_images:
      results[SHOWN] = jax.tree.map(lambda x: x[:num_images], output)
    return results

  @abc.abstractmethod
  def score_output(
    self, output: Any, batch: types.Batch
  ) -> dict[str, jax.Array]:
    """Scores what `apply` gave for a batch of an evaluation split.

    Args:
      output: of the model.
      batch: the batch.

    Returns:
      Results [B, ...] of each example, for `summarize`.
    """

  @abc.abstractmethod
  def score(
    self, predicted: Mapping[str, Any], batch: types.Batch
  ) -> dict[str, jax.Array]:
    """Scores predictions for a batch, whoever made them.

    Args:
      predicted: arrays [B, ...] by name, see `prediction_shapes`.
      batch: the batch of an evaluation split.

    Returns:
      Results [B, ...] of each example, for `summarize`.
    """

  @abc.abstractmethod
  def summarize(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Metrics of a split from the results of all its examples [N, ...]."""

  @abc.abstractmethod
  def standard_errors(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Standard errors of these metrics over examples, where there are any."""
