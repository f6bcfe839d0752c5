"""Accuracy of each property, which explains an average precision."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax import matching
from slot_attention_jax.data import types
from slot_attention_jax.metrics import standard_errors


def attribute_counts(
  predictions: jax.Array,
  targets: jax.Array,
  cost: jax.Array,
  layout: types.PropertyLayout,
  thresholds: Sequence[float] = (1.0, 0.5, 0.25, 0.125),
) -> dict[str, jax.Array]:
  """Counts, for each image, which properties of its objects are right.

  Predictions and targets are matched one-to-one at the least total cost; with
  `losses.pairwise_huber` as the cost, that is the matching of training, padding
  included. `attribute_scores` turns the counts of a split into shares.

  Args:
    predictions: [B, K, P], in [0, 1], ordered as `layout` says.
    targets: [B, O, P], in [0, 1]; rows whose confidence is 0 are padding.
    cost: [B, K, O] cost of every prediction with every target.
    layout: order and meaning of the P numbers.
    thresholds: distances in the units of the position; static.

  Returns:
    Arrays [B] float32: `objects`, how many there are; of these, each with its
    matched prediction, `correct_NAME` for each categorical property and
    `correct_all` for all of them, `distance` the summed Euclidean distances of
    the positions in the units of the data, `matched` how many have a prediction
    (all, unless K < O), `within_T` how many lie strictly within a threshold,
    and `detected` those that are predicted with a confidence above 0.5;
    `predicted`, predictions with such a confidence; `count_correct`, 1 if
    these are as many as the objects.

  Raises:
    ValueError: if the shapes do not fit each other or the layout, or a
      threshold is NaN or negative.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax import losses
    >>> from slot_attention_jax.data import types
    >>> from slot_attention_jax.metrics import attributes
    >>> layout = types.PropertyLayout("dots", (
    ...     types.Property("coords", 2, "continuous", low=-1.0, high=1.0),
    ...     types.Property("confidence", 1, "confidence")))
    >>> targets = jnp.array([[[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]])
    >>> predictions = jnp.array([[[1.0, 1.0, 0.9], [0.0, 0.25, 0.2]]])
    >>> counts = attributes.attribute_counts(predictions, targets,
    ...     losses.pairwise_huber(predictions, targets), layout, (0.25,))
    >>> {k: v.tolist() for k, v in counts.items() if k != "correct_all"}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'objects': [2.0], 'matched': [2.0], 'distance': [0.5], 'within_0.25':
    [1.0], 'detected': [1.0], 'predicted': [1.0], 'count_correct': [0.0]}
  """
  _check(predictions, targets, cost, layout, thresholds)
  rows, cols = matching.hungarian_match(cost)  # [B, M], [B, M]
  pick = jax.vmap(lambda array, index: array[index])
  predicted = pick(jnp.asarray(predictions, jnp.float32), rows)  # [B, M, P]
  actual = pick(jnp.asarray(targets, jnp.float32), cols)  # [B, M, P]
  flag = layout.slice(layout.confidence.name)
  real = actual[..., flag][..., 0] > 0.5  # [B, M]

  def count(which):
    return (which & real).sum(axis=1).astype(jnp.float32)

  present = (targets[..., flag][..., 0] > 0.5).sum(axis=1)  # [B]
  out = {"objects": present.astype(jnp.float32), "matched": count(real)}
  all_right = jnp.ones_like(real)
  for prop in layout.of_kind("categorical"):
    columns = layout.slice(prop.name)
    same = predicted[..., columns].argmax(-1) == actual[..., columns].argmax(-1)
    all_right &= same
    out[f"correct_{prop.name}"] = count(same)
  out["correct_all"] = count(all_right)
  position = layout[layout.position]
  columns = layout.slice(position.name)
  offset = (predicted[..., columns] - actual[..., columns]) * (
    position.high - position.low
  )
  distance = jnp.sqrt(jnp.sum(jnp.square(offset), axis=-1))  # [B, M]
  out["distance"] = jnp.where(real, distance, 0.0).sum(axis=1)
  for threshold in thresholds:
    out[f"within_{threshold:g}"] = count(distance < threshold)
  out["detected"] = count(predicted[..., flag][..., 0] > 0.5)
  confident = (predictions[..., flag][..., 0] > 0.5).sum(axis=1)  # [B]
  out["predicted"] = confident.astype(jnp.float32)
  out["count_correct"] = (confident == present).astype(jnp.float32)
  return out


def _check(predictions, targets, cost, layout, thresholds) -> None:
  """Raises the errors of `attribute_counts`."""
  shape, true_shape = predictions.shape, targets.shape
  if (
    len(shape) != 3
    or len(true_shape) != 3
    or shape[0] != true_shape[0]
    or not shape[2] == true_shape[2] == layout.size
  ):
    raise ValueError(
      "attribute_counts: expected predictions [B, K, P] and targets [B, O, P] "
      f"with P = {layout.size} of layout {layout.name!r}, got "
      f"{shape} and {true_shape}."
    )
  if cost.shape != (*shape[:2], true_shape[1]):
    raise ValueError(
      f"attribute_counts: expected a cost {(*shape[:2], true_shape[1])} of "
      f"every prediction with every target, got {cost.shape}."
    )
  if not all(t >= 0 for t in thresholds):
    raise ValueError(
      "attribute_counts: expected thresholds that are distances, 0 or more, "
      f"got {tuple(thresholds)}; leave out -1, average precision's sign for "
      "no threshold."
    )


def attribute_scores(
  counts: Mapping[str, np.ndarray],
) -> dict[str, tuple[float, float | None]]:
  """Shares of the objects of a split, with their standard errors.

  Args:
    counts: of `attribute_counts`, of all images [N].

  Returns:
    Pairs (value, standard error over images, None for a single image):
    `accuracy_NAME` and `accuracy_all`, `within_T`, shares in [0, 1] of the
    objects; `distance`, mean over the matched objects, in the units of the
    data; `recall` and `precision` of a confidence above 0.5;
    `count_accuracy`, of the images. What has no denominator is left out.

  Raises:
    KeyError: if counts are missing.
    ValueError: if the counts are not one number per image each.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.metrics import attributes
    >>> counts = {"objects": [3, 1], "matched": [3, 1], "distance": [0.6, 0.2],
    ...     "detected": [3, 0], "predicted": [4, 0], "count_correct": [0, 0],
    ...     "correct_color": [3, 1], "correct_all": [2, 0],
    ...     "within_0.5": [2, 1]}
    >>> counts = {name: np.array(value) for name, value in counts.items()}
    >>> {k: v for k, (v, _) in attributes.attribute_scores(counts).items()}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'accuracy_color': 1.0, 'accuracy_all': 0.5, 'within_0.5': 0.75,
    'distance': 0.2, 'recall': 0.75, 'precision': 0.75, 'count_accuracy': 0.0}
  """
  counts = {k: np.asarray(v, np.float64) for k, v in counts.items()}
  parts = {}
  for name, values in counts.items():
    if name.startswith("correct_"):
      parts[f"accuracy_{name[8:]}"] = (values, counts["objects"])
    elif name.startswith("within_"):
      parts[name] = (values, counts["objects"])
  parts["distance"] = (counts["distance"], counts["matched"])
  parts["recall"] = (counts["detected"], counts["objects"])
  parts["precision"] = (counts["detected"], counts["predicted"])
  ones = np.ones_like(counts["objects"])
  parts["count_accuracy"] = (counts["count_correct"], ones)
  return {
    name: standard_errors.ratio_and_standard_error(*pair)
    for name, pair in parts.items()
    if pair[1].sum() > 0
  }
