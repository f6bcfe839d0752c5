import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data import types
from slot_attention_jax.metrics import average_precision

_GOLDEN = pathlib.Path(__file__).parents[1] / "testdata" / "golden"
_INF = float("inf")
_DOTS = types.PropertyLayout(
  "dots",
  (
    types.Property("coords", 2, "continuous", low=-1.0, high=1.0),
    types.Property("confidence", 1, "confidence"),
  ),
)
# Confidence first, position last, another name for it, a second continuous one.
_MIXED = types.PropertyLayout(
  "mixed",
  (
    types.Property("confidence", 1, "confidence"),
    types.Property("color", 3, "categorical"),
    types.Property("scale", 1, "continuous"),
    types.Property("shape", 2, "categorical"),
    types.Property("place", 1, "continuous", low=10.0, high=50.0),
  ),
  position="place",
)


def _oracle(predictions, targets, layout, threshold):
  """The definition as plain loops, one prediction at a time."""
  columns = {p.name: layout.slice(p.name) for p in layout.properties}
  place = layout[layout.position]
  flag = columns[layout.confidence.name]

  def classes(vector):
    return [
      int(np.argmax(vector[columns[p.name]]))
      for p in layout.of_kind("categorical")
    ]

  pool = [
    (float(vector[flag][0]), n, vector)
    for n, image in enumerate(predictions)
    for vector in image
  ]
  # Python's sort is stable: equal confidences end up last to first.
  pool = sorted(pool, key=lambda entry: entry[0])[::-1]
  found, outcomes = set(), []
  for _, n, vector in pool:
    best, best_distance = None, _INF
    for o, target in enumerate(targets[n]):
      if target[flag][0] > 0.5 and classes(target) == classes(vector):
        difference = (
          target[columns[place.name]] - vector[columns[place.name]]
        ) * (place.high - place.low)
        distance = np.sqrt(np.sum(difference**2))
        if distance < best_distance:
          best, best_distance = o, distance
    hit = best is not None and best_distance < threshold
    outcomes.append(hit and (n, best) not in found)
    if hit:
      found.add((n, best))
  total = sum(float(t[flag][0]) for image in targets for t in image)
  true_positives = np.cumsum(outcomes)
  precision = true_positives / np.arange(1, len(outcomes) + 1)
  area, previous = 0.0, 0.0
  for i in range(len(outcomes)):
    recall = true_positives[i] / total
    area += (recall - previous) * precision[i:].max()
    previous = recall
  return area


def _random_scenes(layout, seed, num_images=6, num_slots=7, num_objects=5):
  """Targets, and predictions near them with errors, duplicates and ties."""
  rng = np.random.default_rng(seed)
  lead = (num_images, num_objects)
  values = {
    p.name: (
      rng.uniform(p.low, p.high, (*lead, p.size))
      if p.kind == "continuous"
      else rng.integers(0, p.size, lead)
    )
    for p in layout.properties
    if p.kind != "confidence"
  }
  # Two copies in every image, so that a nearest object may be taken.
  for value in values.values():
    value[:, 1] = value[:, 0]
  targets = layout.encode(values, real=rng.random(lead) < 0.8)
  picks = rng.integers(0, num_objects, (num_images, num_slots))
  predictions = np.take_along_axis(targets, picks[..., None], axis=1)
  predictions += 0.1 * rng.normal(size=predictions.shape)
  flag = layout.slice(layout.confidence.name)
  # Few values: many ties.
  predictions[..., flag] = rng.integers(0, 4, (num_images, num_slots, 1)) / 4
  return predictions.astype(np.float32), targets


def test_average_precision_matches_reference(equal_to_reference):
  golden = np.load(_GOLDEN / "set_metrics.npz")
  actual = average_precision.average_precision(
    golden["predictions"],
    golden["targets"],
    types.CLEVR_LAYOUT,
    thresholds=golden["thresholds"],
  )
  equal_to_reference(
    "average precision at five thresholds",
    actual,
    golden["average_precision"],
    1e-5,
  )
  # -1 is the reference's infinity.
  np.testing.assert_array_equal(
    actual,
    average_precision.average_precision(
      golden["predictions"], golden["targets"], types.CLEVR_LAYOUT
    ),
  )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
  ("layout", "thresholds"),
  [
    (types.CLEVR_LAYOUT, (_INF, 1.0, 0.5, 2.0)),
    (_DOTS, (0.1, _INF, 0.3)),
    (_MIXED, (_INF, 5.0, 1.0, 0.0)),
  ],
  ids=lambda value: getattr(value, "name", ""),
)
def test_average_precision_matches_plain_loops(layout, thresholds, seed):
  predictions, targets = _random_scenes(layout, seed)
  actual = average_precision.average_precision(
    predictions, targets, layout, thresholds
  )
  expected = [_oracle(predictions, targets, layout, t) for t in thresholds]
  np.testing.assert_allclose(actual, expected, atol=1e-6)
  assert 0 < max(expected) < 1


def _dots(*rows):
  return np.array([rows], np.float32)


_TWO = _dots((0.0, 0.0, 1.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
  ("predictions", "threshold", "expected"),
  [
    (_TWO, _INF, 1.0),
    # TP, FP (same object again, though the other is free), TP:
    # 1/2 * 1 + 1/2 * 2/3.
    (_dots((0, 0, 0.9), (0.1, 0, 0.8), (1, 1, 0.7)), _INF, 0.5 + 1 / 3),
    # The duplicate first: the nearer prediction comes too late.
    (_dots((0.1, 0, 0.9), (0, 0, 0.8)), _INF, 0.5),
    # ... but beyond the threshold it takes nothing: FP, TP.
    (_dots((0.1, 0, 0.9), (0, 0, 0.8)), 0.1, 0.25),
    # 0.25 of the unit square is 0.5 of the coordinates; strictly below only.
    (_dots((0.25, 0, 0.9)), 0.5, 0.0),
    (_dots((0.25, 0, 0.9)), 0.5001, 0.5),
    # FP, FP, TP, TP: the envelope lifts the third from 1/3 to 1/2.
    (
      _dots((0.5, 0, 0.9), (0.5, 0, 0.8), (0, 0, 0.7), (1, 1, 0.6)),
      0.5,
      0.5,
    ),
    # Equal confidence: the last comes first, TP then FP.
    (_dots((0.5, 0, 0.7), (0, 0, 0.7)), 0.5, 0.5),
    (_dots((0, 0, 0.7), (0.5, 0, 0.7)), 0.5, 0.25),
    # NaN: the lowest confidence, or no hit.
    (_dots((0, 0, 0.7), (0.5, 0, np.nan)), 0.5, 0.5),
    (_dots((np.nan, 0, 0.7), (0, 0, 0.6)), _INF, 0.25),
    (_dots((np.inf, 0, 0.7), (0, 0, 0.6)), _INF, 0.25),
  ],
)
def test_hand_worked_cases(predictions, threshold, expected):
  actual = average_precision.average_precision(
    predictions, _TWO, _DOTS, (threshold,)
  )
  np.testing.assert_allclose(actual, [expected], atol=1e-6)


def test_predictions_are_pooled_over_images():
  # Image 0: a sure mistake. Image 1: a less sure hit. Per image the mean would
  # be (0 + 1) / 2; pooled the hit has precision 1/2 and recall 1/2.
  targets = np.array([[[0, 0, 1]], [[1, 1, 1]]], np.float32)
  predictions = np.array([[[1, 1, 0.9]], [[1, 1, 0.8]]], np.float32)
  actual = average_precision.average_precision(
    predictions, targets, _DOTS, (0.5,)
  )
  np.testing.assert_allclose(actual, [0.25])


def test_padding_and_other_categories_are_not_hit():
  predictions, targets = _random_scenes(_MIXED, 0)
  none = np.zeros_like(targets)
  for valid in (None, np.ones(6, bool)):
    nothing = average_precision.average_precision(
      predictions, none, _MIXED, valid=valid
    )
    assert nothing.tolist() == [0.0] * 5
  # Every class wrong: nothing to hit at any distance.
  predictions[..., _MIXED.slice("color")] = np.roll(
    targets[..., _MIXED.slice("color")], 1, axis=-1
  )[:, [0, 1, 2, 3, 4, 0, 1]]
  predictions, targets = predictions[:, :1], targets[:, :1]
  targets[..., 0] = 1.0
  targets[..., 1:4] = (0, 0, 1)
  predictions[..., 1:4] = (0, 1, 0)
  wrong = average_precision.average_precision(predictions, targets, _MIXED)
  assert wrong.tolist() == [0.0] * 5


def test_invalid_images_do_not_count():
  predictions, targets = _random_scenes(_MIXED, 1)
  thresholds = (_INF, 5.0, 1.0)
  valid = np.array([True, False, True, True, False, True])
  predictions[1, :, 0] = 2.0  # Would come first.
  predictions[4, :, 0] = -np.inf
  actual = average_precision.average_precision(
    predictions, targets, _MIXED, thresholds, valid=valid
  )
  expected = average_precision.average_precision(
    predictions[valid], targets[valid], _MIXED, thresholds
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  none = average_precision.average_precision(
    predictions, targets, _MIXED, thresholds, valid=np.zeros(6, bool)
  )
  assert none.tolist() == [0.0] * 3


def test_many_images_are_summed_accurately():
  # 20,000 alternating hits and misses, against the sum in float64.
  num_images = 20_000
  rng = np.random.default_rng(0)
  targets = np.zeros((num_images, 1, 3), np.float32)
  targets[..., 2] = 1.0
  predictions = targets.copy()
  predictions[..., 0] = rng.random((num_images, 1)) < 0.5
  predictions[..., 2] = rng.permutation(num_images)[:, None] / num_images
  actual = average_precision.average_precision(
    predictions, targets, _DOTS, (0.5,)
  )
  order = np.argsort(-predictions[:, 0, 2])
  hits = predictions[order, 0, 0] == 0
  precision = np.cumsum(hits) / np.arange(1, num_images + 1)
  envelope = np.maximum.accumulate(precision[::-1])[::-1]
  expected = envelope[hits].sum() / num_images
  np.testing.assert_allclose(actual, [expected], rtol=2e-6)


def test_jit_and_bfloat16():
  predictions, targets = _random_scenes(_DOTS, 3)
  expected = average_precision.average_precision(predictions, targets, _DOTS)
  jitted = jax.jit(
    lambda p, t: average_precision.average_precision(p, t, _DOTS)
  )
  np.testing.assert_array_equal(jitted(predictions, targets), expected)
  # The hits themselves, in float32 whatever comes in.
  low = average_precision.average_precision(
    jnp.array(predictions, jnp.bfloat16), targets, _DOTS
  )
  assert low.dtype == jnp.float32


@pytest.mark.parametrize(
  ("shape", "true_shape"),
  [
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 3), (1, 3, 3)),
    ((3, 3), (3, 3)),
    ((2, 0, 3), (2, 3, 3)),
  ],
)
def test_shapes_are_checked(shape, true_shape):
  with pytest.raises(ValueError, match="layout 'dots'"):
    average_precision.average_precision(
      np.zeros(shape), np.zeros(true_shape), _DOTS
    )


@pytest.mark.parametrize("thresholds", [(), (-2.0,), (float("nan"),)])
def test_thresholds_are_checked(thresholds):
  with pytest.raises(ValueError, match="thresholds"):
    average_precision.average_precision(_TWO, _TWO, _DOTS, thresholds)


def test_valid_is_checked():
  with pytest.raises(ValueError, match="expected valid"):
    average_precision.average_precision(
      _TWO, _TWO, _DOTS, valid=np.ones(2, bool)
    )
