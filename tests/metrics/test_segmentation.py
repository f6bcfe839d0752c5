"""Covering, slots in use, background: against loops; ARI against sklearn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from slot_attention_jax.metrics import ari, segmentation

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


@pytest.mark.parametrize("foreground_only", [False, True])
def test_ari_is_sklearn_s(ids, foreground_only):
  actual = ari.adjusted_rand_index(
    *ids, foreground_only=foreground_only, **GROUPS
  )
  for value, *pair in zip(actual, *ids, strict=True):
    t, p = counted(*pair)
    keep = t > 0 if foreground_only else t >= 0
    expected = sklearn_metrics.adjusted_rand_score(t[keep], p[keep])
    assert float(value) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("ignore_background", [False, True])
def test_covering_by_its_definition(ids, ignore_background):
  actual = jax.jit(
    lambda t, p: segmentation.segmentation_covering(
      t, p, ignore_background=ignore_background, **GROUPS
    )
  )(*ids)
  for value, *pair in zip(actual, *ids, strict=True):
    t, p = counted(*pair)
    total, covered = 0, 0.0
    for g in range(int(ignore_background), 5):
      best = max(
        ((t == g) & (p == s)).sum() / max(((t == g) | (p == s)).sum(), 1)
        for s in range(7)
      )
      total += (t == g).sum()
      covered += (t == g).sum() * best
    assert float(value) == pytest.approx(covered / total, abs=1e-6)


def test_slots_in_use_and_segments_of_the_background_by_counting(ids):
  true_ids, pred_ids = ids
  slots = segmentation.slots_in_use(
    pred_ids, num_pred_groups=7, min_fraction=0.1
  )
  parts = segmentation.background_segments(
    true_ids, pred_ids, min_fraction=0.1, **GROUPS
  )
  for slot, part, t, p in zip(slots, parts, true_ids, pred_ids, strict=True):
    sizes = np.bincount(p[p < 7], minlength=7)
    assert int(slot) == (sizes >= 0.1 * sizes.sum()).sum()
    t, p = counted(t, p)
    shares = np.bincount(p[t == 0], minlength=7)
    assert int(part) == (shares >= 0.1 * shares.sum()).sum()
  assert len(set(np.asarray(slots).tolist())) > 1  # The bound matters.


def test_a_split_background_is_seen_where_fg_ari_sees_nothing():
  true_ids = np.zeros((1, 8, 8), np.int64)
  true_ids[0, 2:4, 2:4] = 1
  whole, halved = true_ids.copy(), true_ids.copy()
  halved[0, :, 4:][true_ids[0, :, 4:] == 0] = 2
  groups = {"num_true_groups": 2, "num_pred_groups": 3}

  def scores(pred_ids):
    return (
      float(ari.adjusted_rand_index(true_ids, pred_ids, **groups)[0]),
      float(
        ari.adjusted_rand_index(
          true_ids, pred_ids, foreground_only=True, **groups
        )[0]
      ),
      int(segmentation.background_segments(true_ids, pred_ids, **groups)[0]),
    )

  assert scores(whole) == (1.0, 1.0, 1)
  full, foreground, parts = scores(halved)
  assert (full < 0.5, foreground, parts) == (True, 1.0, 2)


def test_names_of_groups_and_ignored_pixels_change_nothing(ids):
  true_ids, pred_ids = ids
  names = np.array([0, 3, 1, 4, 2])
  renamed = np.where(true_ids < 0, -1, names[true_ids])
  other = np.where(
    pred_ids > 6,
    7,
    np.random.default_rng(1).permutation(7)[np.minimum(pred_ids, 6)],
  )
  wide = [np.pad(x, ((0, 0), (0, 3), (0, 0)), constant_values=-1) for x in ids]
  for metric in (
    segmentation.segmentation_covering,
    segmentation.background_segments,
  ):
    expected = np.asarray(metric(*ids, **GROUPS))
    for pair in ((renamed, other), wide):
      np.testing.assert_allclose(metric(*pair, **GROUPS), expected, atol=1e-6)
  slots = segmentation.slots_in_use
  expected = np.asarray(slots(pred_ids, num_pred_groups=7))
  for pixels in (other, wide[1]):
    assert slots(pixels, num_pred_groups=7).tolist() == expected.tolist()


def test_images_without_objects_background_or_pixels():
  groups = {"num_true_groups": 2, "num_pred_groups": 2}
  true_ids = jnp.array([[0, 0], [1, 1], [-1, -1]])
  pred_ids = jnp.array([[0, 1], [0, 0], [0, 0]])
  covering = segmentation.segmentation_covering(true_ids, pred_ids, **groups)
  assert covering.tolist() == [1.0, 1.0, 1.0]
  parts = segmentation.background_segments(true_ids, pred_ids, **groups)
  assert parts.tolist() == [2.0, 0.0, 0.0]
  slots = segmentation.slots_in_use(
    jnp.array([[0, 1], [-1, -1]]), num_pred_groups=2
  )
  assert slots.tolist() == [2.0, 0.0]


def test_one_group_for_each_object_covers_all(ids):
  true_ids = np.maximum(ids[0], 0)
  covering = segmentation.segmentation_covering(
    true_ids, 6 - true_ids, **GROUPS
  )
  assert covering.tolist() == [1.0] * 6
