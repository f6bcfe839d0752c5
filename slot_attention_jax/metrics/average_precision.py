r"""Average precision of predicted sets of objects.

The predictions of all N images are pooled and sorted by decreasing confidence.
Each prediction is compared with the real objects of its image whose categorical
properties (by argmax) all equal its own, and takes the nearest one. It is a
true positive if that distance is strictly below the threshold and no earlier
prediction took the same object. Otherwise it is a false positive, even if
another object with the same properties is still free. With the precision
:math:`p_i` and recall :math:`r_i` after the i-th prediction,

.. math::
  \mathrm{AP} = \sum_i (r_i - r_{i-1}) \max_{j \ge i} p_j,

where the recall counts all real objects of all images. Special cases:

- Predictions of equal confidence count from the last in the array to the first,
  as after the reference's reversed sort.
- A NaN confidence counts as the lowest.
- A prediction with a NaN or infinite position takes no object.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import types

Array = jax.Array | np.ndarray
PAPER_THRESHOLDS = (float("inf"), 1.0, 0.5, 0.25, 0.125)
"""The paper's distance thresholds, in the units of CLEVR's coordinates."""


def average_precision(
  predictions: Array,
  targets: Array,
  layout: types.PropertyLayout,
  thresholds: Sequence[float] = PAPER_THRESHOLDS,
  *,
  valid: Array | None = None,
) -> jax.Array:
  """Average precision of sets of objects at several distance thresholds.

  Defined in the docstring of the module
  `slot_attention_jax.metrics.average_precision`.

  It is defined on a whole dataset: the mean over batches is another number.
  Compiles once per shape; fifteen thousand images take about a second.

  Args:
    predictions: [N, K, P], in [0, 1], in the order of `layout`.
    targets: [N, O, P], in [0, 1]; rows whose confidence is 0 are padding.
    layout: order and meaning of the P numbers. Its position property is
      compared in the units of the data, by Euclidean distance; categorical
      properties must agree; other continuous properties are ignored.
    thresholds: T distances in the units of the position; `inf` (or -1, as the
      reference writes it) means any distance.
    valid: [N] bool, False for images that pad a batch; neither their
      predictions nor their objects count. None for all True.

  Returns:
    [T] float32, in [0, 1], in the order of `thresholds`; 0 if there is no real
    object.

  Raises:
    ValueError: if the shapes do not fit each other or the layout, or a
      threshold is NaN or negative.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.data import types
    >>> from slot_attention_jax.metrics import average_precision
    >>> layout = types.PropertyLayout("dots", (
    ...     types.Property("coords", 2, "continuous", low=-1.0, high=1.0),
    ...     types.Property("confidence", 1, "confidence")))
    >>> targets = np.array([[[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]])
    >>> predictions = np.array([[[0.1, 0.0, 0.9], [1.0, 1.0, 0.8]]])
    >>> average_precision.average_precision(  # 0.2 and 0 away
    ...     predictions, targets, layout, thresholds=(1.0, 0.1)).tolist()
    [1.0, 0.25]

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 4.2; the reference's
    `average_precision_clevr` in `slot_attention/utils.py`. The all-point
    area is that of Everingham et al., `The Pascal Visual Object Classes
    Challenge <https://doi.org/10.1007/s11263-014-0733-5>`_, 2015.
  """
  shape, true_shape = np.shape(predictions), np.shape(targets)
  if (
    len(shape) != 3
    or len(true_shape) != 3
    or shape[0] != true_shape[0]
    or shape[2] != layout.size
    or true_shape[2] != layout.size
    or 0 in (shape[1], true_shape[1])
  ):
    raise ValueError(
      "average_precision: expected predictions [N, K, P] and targets [N, O, P] "
      f"with the same N, K and O at least 1 and P = {layout.size} of layout "
      f"{layout.name!r}, got {shape} and {true_shape}."
    )
  thresholds = tuple(float(t) for t in thresholds)
  if not thresholds or not all(t == -1 or t >= 0 for t in thresholds):
    raise ValueError(
      "average_precision: expected one or more thresholds that are "
      f"non-negative, inf or -1 (no threshold), got {thresholds}."
    )
  if valid is None:
    valid = np.ones(shape[:1], bool)
  elif np.shape(valid) != shape[:1]:
    raise ValueError(
      f"average_precision: expected valid {shape[:1]}, one flag for each "
      f"image, got {np.shape(valid)}."
    )
  return _average_precision(
    jnp.asarray(predictions, jnp.float32),
    jnp.asarray(targets, jnp.float32),
    jnp.asarray(valid, bool),
    layout=layout,
    thresholds=tuple(float("inf") if t == -1 else t for t in thresholds),
  )


@functools.partial(jax.jit, static_argnames=("layout", "thresholds"))
def _average_precision(
  predictions: jax.Array,
  targets: jax.Array,
  valid: jax.Array,
  *,
  layout: types.PropertyLayout,
  thresholds: tuple[float, ...],
) -> jax.Array:
  """All of `average_precision` after its checks."""
  num_images, num_slots, _ = predictions.shape
  flag = layout.slice(layout.confidence.name)
  confidence = predictions[..., flag][..., 0]  # [N, K]
  # Invalid images and NaN go last, where invalid ones change no precision.
  confidence = jnp.where(
    valid[:, None] & ~jnp.isnan(confidence), confidence, -jnp.inf
  )
  order = jnp.argsort(confidence.reshape(-1))[::-1]  # [N * K]
  ranks = jnp.argsort(order).reshape(num_images, num_slots)  # [N, K]

  real = (targets[..., flag][..., 0] > 0.5) & valid[:, None]  # [N, O]
  nearest, distance = _nearest_match(predictions, targets, real, layout)

  # Which object is nearest does not depend on the threshold, and of the
  # predictions that reach an object only the best ranked one hits it.
  limits = jnp.array(thresholds, jnp.float32)
  reaches = distance[None] < limits[:, None, None]  # [T, N, K]
  is_nearest = nearest[:, :, None] == jnp.arange(targets.shape[1])[None, None]
  claims = reaches[..., None] & is_nearest[None]  # [T, N, K, O]
  best_rank = jnp.min(
    jnp.where(claims, ranks[None, :, :, None], num_images * num_slots),
    axis=2,
    keepdims=True,
  )  # [T, N, 1, O]
  hits = jnp.any(
    claims & (ranks[None, :, :, None] == best_rank), axis=-1
  )  # [T, N, K]

  hits = hits.reshape(len(thresholds), -1)[:, order]  # [T, N * K]
  counted = jnp.broadcast_to(valid[:, None], ranks.shape).reshape(-1)[order]
  # Integers: a float32 count would be exact too, a float32 recall would not.
  num_hits = jnp.cumsum(hits, axis=1, dtype=jnp.int32)
  num_predictions = jnp.maximum(jnp.cumsum(counted, dtype=jnp.int32), 1)
  precision = num_hits / num_predictions[None]  # [T, N * K]
  envelope = jax.lax.cummax(precision, axis=1, reverse=True)
  # The recall grows by 1 / (real objects) at each hit and nowhere else.
  area = _pairwise_sum(jnp.where(hits, envelope, 0.0))  # [T]
  return area / jnp.maximum(jnp.sum(real), 1).astype(area.dtype)


def _nearest_match(
  predictions: jax.Array,
  targets: jax.Array,
  real: jax.Array,
  layout: types.PropertyLayout,
) -> tuple[jax.Array, jax.Array]:
  """Each prediction's nearest real object with its properties.

  Args:
    predictions: [N, K, P].
    targets: [N, O, P].
    real: [N, O] bool.
    layout: order and meaning of the P numbers.

  Returns:
    A tuple (nearest [N, K] int32, the first of equally near ones; distance
    [N, K] in the units of the data, inf where nothing matches).
  """
  matches = real[:, None, :]  # [N, 1, O]
  for prop in layout.of_kind("categorical"):
    columns = layout.slice(prop.name)
    predicted = jnp.argmax(predictions[..., columns], axis=-1)  # [N, K]
    actual = jnp.argmax(targets[..., columns], axis=-1)  # [N, O]
    matches &= predicted[:, :, None] == actual[:, None, :]  # [N, K, O]
  position = layout[layout.position]
  columns = layout.slice(position.name)
  offset = (targets[:, None, :, columns] - predictions[:, :, None, columns]) * (
    position.high - position.low
  )  # [N, K, O, size]
  distance = jnp.sqrt(jnp.sum(jnp.square(offset), axis=-1))  # [N, K, O]
  distance = jnp.where(matches & (distance < jnp.inf), distance, jnp.inf)
  return jnp.argmin(distance, axis=-1), jnp.min(distance, axis=-1)


def _pairwise_sum(x: jax.Array) -> jax.Array:
  """Sums [T, N] over N in a balanced tree, whose rounding grows as log N."""
  size = x.shape[1]
  x = jnp.pad(x, ((0, 0), (0, (1 << max(size - 1, 0).bit_length()) - size)))
  while x.shape[1] > 1:
    x = x.reshape(x.shape[0], 2, -1).sum(axis=1)
  return x[:, 0]
