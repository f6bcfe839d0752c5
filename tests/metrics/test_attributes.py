"""Properties one by one, against loops and scipy's matching."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from slot_attention_jax import losses
from slot_attention_jax.data import types
from slot_attention_jax.metrics import attributes

LAYOUT = types.CLEVR_LAYOUT
CATEGORICAL = [p.name for p in LAYOUT.of_kind("categorical")]


pairwise_huber = jax.jit(losses.pairwise_huber)


@jax.jit
def count(predictions, targets):
  """Counts under the matching of training, at two thresholds."""
  cost = losses.pairwise_huber(predictions, targets)
  return attributes.attribute_counts(
    predictions, targets, cost, LAYOUT, (1.0, 0.5)
  )


def random_sets(seed, num_images=12, num_slots=6, num_objects=5):
  """Predictions near the targets, in another order."""
  rng = np.random.default_rng(seed)
  shape = (num_images, num_objects)
  values = {
    "coords": rng.uniform(-3, 3, (*shape, 3)),
    **{n: rng.integers(0, LAYOUT[n].size, shape) for n in CATEGORICAL},
  }
  real = (
    np.arange(num_objects)
    < rng.integers(0, num_objects + 1, shape[:1])[:, None]
  )
  targets = LAYOUT.encode(values, real=real)
  predictions = rng.uniform(0, 1, (num_images, num_slots, LAYOUT.size))
  m = min(num_slots, num_objects)
  order = np.array([rng.permutation(num_slots)[:m] for _ in range(num_images)])
  for i in range(num_images):
    predictions[i, order[i]] = targets[i, :m] + 0.4 * rng.standard_normal(
      (m, LAYOUT.size)
    )
  return predictions.clip(0, 1).astype(np.float32), targets


def counted(predictions, targets, thresholds):
  """The counts of one image, in plain Python, matched by scipy."""
  cost = np.asarray(pairwise_huber(predictions[None], targets[None]))[0].astype(
    np.float64
  )
  pairs = [
    (k, o)
    for k, o in zip(*optimize.linear_sum_assignment(cost), strict=True)
    if targets[o, -1] == 1
  ]
  p, t = LAYOUT.decode(predictions), LAYOUT.decode(targets)
  far = [np.linalg.norm(p["coords"][k] - t["coords"][o]) for k, o in pairs]
  same = {n: [p[n][k] == t[n][o] for k, o in pairs] for n in CATEGORICAL}
  out = {
    "objects": (targets[:, -1] == 1).sum(),
    "matched": len(pairs),
    "distance": sum(far),
    "detected": sum(p["confidence"][k] > 0.5 for k, _ in pairs),
    "predicted": (p["confidence"] > 0.5).sum(),
    **{f"correct_{n}": sum(v) for n, v in same.items()},
    "correct_all": sum(all(v) for v in zip(*same.values(), strict=True)),
    **{f"within_{d:g}": sum(x < d for x in far) for d in thresholds},
  }
  return out | {"count_correct": out["objects"] == out["predicted"]}


@pytest.mark.parametrize("num_slots", [6, 3])
def test_counts_match_loops_over_scipy_matching(num_slots):
  predictions, targets = random_sets(num_slots, num_slots=num_slots)
  actual = count(predictions, targets)
  for i in range(len(predictions)):
    expected = counted(predictions[i], targets[i], (1.0, 0.5))
    assert set(actual) == set(expected)
    for name, value in expected.items():
      assert float(actual[name][i]) == pytest.approx(float(value), abs=1e-4), (
        name
      )
  # Neither all right nor all wrong, so that the comparison says something.
  wrong = actual["objects"].sum() - actual["correct_color"].sum()
  assert 0 < float(wrong) < float(actual["objects"].sum())


def scores_of(predictions, targets):
  counts = jax.device_get(count(predictions, targets))
  return attributes.attribute_scores(counts)


def test_exact_predictions_in_any_order_are_all_right():
  _, targets = random_sets(0)
  scores = scores_of(jnp.asarray(targets[:, ::-1]), jnp.asarray(targets))
  assert scores.pop("distance") == (pytest.approx(0.0, abs=1e-6), 0.0)
  assert set(scores.values()) == {(1.0, 0.0)}
  assert {"accuracy_color", "accuracy_all", "recall", "precision"} <= set(
    scores
  )


def test_shares_are_of_all_objects_and_errors_match_a_bootstrap():
  predictions, targets = random_sets(3, num_images=200)
  counts = jax.device_get(count(predictions, targets))
  value, error = attributes.attribute_scores(counts)["accuracy_color"]
  above, below = counts["correct_color"], counts["objects"]
  assert value == pytest.approx(above.sum() / below.sum(), rel=1e-6)
  rng = np.random.default_rng(0)
  rows = rng.integers(0, 200, (4000, 200))
  spread = (above[rows].sum(axis=1) / below[rows].sum(axis=1)).std()
  assert error == pytest.approx(spread, rel=0.1)


def test_batches_pool_to_the_split_in_any_order_of_the_sets():
  predictions, targets = random_sets(5)
  whole = count(predictions, targets)
  rng = np.random.default_rng(0)
  for rows in (slice(0, 4), slice(4, 8), slice(8, 12)):
    order = rng.permutation(predictions.shape[1])
    padded = np.pad(targets[rows], ((0, 0), (1, 0), (0, 0)))
    # One more row of padding, which one more prediction is matched to.
    extra = np.zeros_like(predictions[rows, :1])
    sets = np.concatenate([predictions[rows][:, order], extra], axis=1)
    part = count(sets, padded[:, ::-1])
    assert set(part) == set(whole)
    for name, value in part.items():
      np.testing.assert_allclose(value, whole[name][rows], atol=1e-5)


def test_no_error_for_one_image_and_no_shares_without_objects():
  predictions, targets = random_sets(0)
  one = scores_of(jnp.asarray(predictions[-1:]), jnp.asarray(targets[-1:]))
  assert {error for _, error in one.values()} == {None}
  none = scores_of(jnp.zeros((2, 4, 19)), jnp.zeros((2, 4, 19)))
  assert none == {"count_accuracy": (1.0, 0.0)}


def test_shapes_and_thresholds_are_checked():
  predictions, targets = (jnp.asarray(x) for x in random_sets(0))
  cost = jnp.zeros((12, 6, 5))
  with pytest.raises(ValueError, match=r"P = 19 .*got \(12, 6, 18\)"):
    attributes.attribute_counts(predictions[..., 1:], targets, cost, LAYOUT)
  with pytest.raises(ValueError, match=r"cost \(12, 6, 5\) .*got \(12, 5, 5\)"):
    attributes.attribute_counts(predictions, targets, cost[:, 1:], LAYOUT)
  with pytest.raises(ValueError, match=r"got \(6, 19\) and \(5, 19\)"):
    attributes.attribute_counts(predictions[0], targets[0], cost[0], LAYOUT)
  with pytest.raises(ValueError, match=r"got \(12, 19\) and \(12, 5, 19\)"):
    attributes.attribute_counts(predictions[:, 0], targets, cost, LAYOUT)
  with pytest.raises(ValueError, match=r"and \(12, 19\)"):
    attributes.attribute_counts(predictions, targets[:, 0], cost, LAYOUT)
  with pytest.raises(ValueError, match=r"and \(3, 5, 19\)"):
    attributes.attribute_counts(predictions, targets[:3], cost, LAYOUT)
  for threshold in (-1.0, float("nan")):
    with pytest.raises(ValueError, match="thresholds that are distances"):
      attributes.attribute_counts(
        predictions, targets, cost, LAYOUT, (1.0, threshold)
      )
