"""What an objective is, and what all of them share: running the model."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import types


def example_noise(
  key: jax.Array, first: Any, batch_size: int, num_slots: int, slot_size: int
) -> jax.Array:
  """Slot noise [B, K, D] that depends on the example, not on its batch.

  Args:
    key: of the evaluation.
    first: index of the first example in its split.
    batch_size: B.
    num_slots: K.
    slot_size: D.

  Returns:
    [B, K, D] float32, standard normal.
  """
  index = jnp.asarray(first, jnp.uint32) + jnp.arange(
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
    full: whether evaluation computes all that a report shows.
  """

  model: Any
  image_shape: tuple[int, int, int]
  num_slots: int
  num_iterations: int
  full: bool = False

  def init(self, key: jax.Array) -> Any:
    """Initial parameters."""
    params_key, slots_key = jax.random.split(key)
    images = jnp.zeros((1, *self.image_shape))
    rngs = {"params": params_key, "slots": slots_key}
    return self.model.init(rngs, images)

  def apply(
    self, params: Any, images: jax.Array, key: jax.Array, first: Any = 0
  ) -> Any:
    """Runs the model as in evaluation, on examples `first`, `first` + 1..."""
    noise = example_noise(
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

  @property
  @abc.abstractmethod
  def metric_names(self) -> tuple[str, ...]:
    """Short names of the metrics that `summarize` gives."""

  @abc.abstractmethod
  def loss(
    self, params: Any, batch: types.Batch, noise: jax.Array
  ) -> jax.Array:
    """Scalar float32 loss of a training batch, a mean over its examples."""

  @abc.abstractmethod
  def evaluate(
    self, params: Any, batch: types.Batch, key: jax.Array, first: jax.Array
  ) -> dict[str, jax.Array]:
    """Per-example results [B, ...] of a batch of an evaluation split."""

  @abc.abstractmethod
  def summarize(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Metrics of a split from the results of all its examples [N, ...]."""

  @abc.abstractmethod
  def standard_errors(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Standard errors of these metrics over examples, where there are any."""
