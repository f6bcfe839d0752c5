"""Tests of mIoU, mBO and covering against their definitions in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from slot_attention_jax.metrics import overlap

GROUPS = {"num_true_groups": 5, "num_pred_groups": 7}


@pytest.fixture(scope="module")
def ids():
  """True ids, and noisy ones under other names; some pixels are ignored."""
  rng = np.random.default_rng(0)
  true_ids = rng.integers(0, 5, (6, 20, 15))
  true_ids[0][true_ids[0] == 3] = 1  # Absent.
  noise = rng.integers(0, 7, true_ids.shape)
  pred_ids = np.where(rng.random(true_ids.shape) < 0.3, noise, 6 - true_ids)
  true_ids[4, :4] = -1
  pred_ids[5, 4:9] = 7
  return true_ids, pred_ids


def counted(true_ids, pred_ids):
  """The pixels [n] of one image that count."""
  keep = (true_ids >= 0) & (true_ids < 5) & (pred_ids >= 0) & (pred_ids < 7)
  return true_ids[keep], pred_ids[keep]


def _oracle_ious(true_ids, pred_ids, objects, num_pred):
  ious = []
  for i in objects:
    t = true_ids == i
    if t.any():
      ious.append(
        [
          (t & (pred_ids == j)).sum() / (t | (pred_ids == j)).sum()
          for j in range(num_pred)
        ]
      )
  return np.array(ious)


@pytest.mark.parametrize("ignore_background", [True, False])
@pytest.mark.parametrize(("num_true", "num_pred"), [(5, 7), (5, 3)])
def test_overlaps_match_numpy(num_true, num_pred, ignore_background):
  rng = np.random.default_rng(7)
  true_ids = rng.integers(0, num_true, (6, 60))
  true_ids[true_ids == 2] = 3  # An id without pixels.
  pred_ids = rng.integers(0, num_pred, true_ids.shape)
  options = {
    "num_true_groups": num_true,
    "num_pred_groups": num_pred,
    "ignore_background": ignore_background,
  }
  mean_iou = jax.jit(lambda t, p: overlap.mean_iou(t, p, **options))
  matched = mean_iou(true_ids, pred_ids)
  best = jax.jit(lambda t, p: overlap.mean_best_overlap(t, p, **options))(
    true_ids, pred_ids
  )
  for b in range(6):
    ious = _oracle_ious(
      true_ids[b], pred_ids[b], range(int(ignore_background), 5), num_pred
    )
    pairs = optimize.linear_sum_assignment(-ious)
    np.testing.assert_allclose(
      matched[b], ious[pairs].sum() / len(ious), atol=1e-6
    )
    np.testing.assert_allclose(best[b], ious.max(axis=1).mean(), atol=1e-6)


@pytest.mark.parametrize(
  "metric",
  [
    overlap.mean_iou,
    overlap.mean_best_overlap,
    overlap.segmentation_covering,
  ],
)
def test_overlap_without_objects_is_one(metric):
  zeros = jnp.zeros((2, 9), jnp.int32)
  sizes = {"num_true_groups": 3, "num_pred_groups": 2}

  @jax.jit
  def scores(ids):
    return (
      metric(ids, ids, **sizes),
      metric(ids, ids, ignore_background=False, **sizes),
    )

  for score in scores(zeros):
    assert score.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_background", [False, True])
def test_covering_matches_its_definition(ids, ignore_background, weighted):
  options = {"ignore_background": ignore_background, **GROUPS}
  actual = jax.jit(
    lambda t, p: overlap.segmentation_covering(
      t, p, weighted=weighted, **options
    )
  )(*ids)
  if not weighted:
    other = jax.jit(lambda t, p: overlap.mean_best_overlap(t, p, **options))(
      *ids
    )
    np.testing.assert_allclose(actual, other, atol=1e-6)
  for value, *pair in zip(actual, *ids, strict=True):
    t, p = counted(*pair)
    total, covered = 0, 0.0
    for g in range(int(ignore_background), 5):
      best = max(
        ((t == g) & (p == s)).sum() / max(((t == g) | (p == s)).sum(), 1)
        for s in range(7)
      )
      weight = (t == g).sum() if weighted else (t == g).any()
      total += weight
      covered += weight * best
    assert float(value) == pytest.approx(covered / total, abs=1e-6)


def test_one_group_for_each_object_covers_all(ids):
  true_ids = np.maximum(ids[0], 0)
  covering = overlap.segmentation_covering(true_ids, 6 - true_ids, **GROUPS)
  assert covering.tolist() == [1.0] * 6
