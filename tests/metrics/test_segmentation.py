"""Slots in use and background against loops; ARI against scikit-learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from slot_attention_jax.metrics import ari, overlap, segmentation

# Compiled whole: one by one the operations take longer to compile.
_NAMES = ("num_true_groups", "num_pred_groups")
adjusted_rand_index = jax.jit(
  ari.adjusted_rand_index, static_argnames=(*_NAMES, "foreground_only")
)
segmentation_covering = jax.jit(
  overlap.segmentation_covering, static_argnames=(*_NAMES, "weighted")
)
background_segments = jax.jit(
  segmentation.background_segments, static_argnames=(*_NAMES, "min_fraction")
)
slots_in_use = jax.jit(
  segmentation.slots_in_use, static_argnames=("num_pred_groups", "min_fraction")
)
GROUPS = {"num_true_groups": 5, "num_pred_groups": 7}
METRICS = {
  "SC": functools.partial(segmentation_covering, **GROUPS),
  "mSC": functools.partial(segmentation_covering, weighted=False, **GROUPS),
  "segments": functools.partial(
    background_segments, min_fraction=0.1, **GROUPS
  ),
  "slots": lambda _, pred_ids: slots_in_use(
    pred_ids, num_pred_groups=7, min_fraction=0.1
  ),
}


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
def test_ari_matches_scikit_learn(ids, foreground_only):
  from sklearn import metrics as sklearn_metrics

  actual = adjusted_rand_index(*ids, foreground_only=foreground_only, **GROUPS)
  for value, *pair in zip(actual, *ids, strict=True):
    t, p = counted(*pair)
    keep = t > 0 if foreground_only else t >= 0
    expected = sklearn_metrics.adjusted_rand_score(t[keep], p[keep])
    assert float(value) == pytest.approx(expected, abs=1e-6)


def test_slots_in_use_and_background_segments_match_counting(ids):
  true_ids, pred_ids = ids
  slots = slots_in_use(pred_ids, num_pred_groups=7, min_fraction=0.1)
  parts = background_segments(true_ids, pred_ids, min_fraction=0.1, **GROUPS)
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
      float(adjusted_rand_index(true_ids, pred_ids, **groups)[0]),
      float(
        adjusted_rand_index(true_ids, pred_ids, foreground_only=True, **groups)[
          0
        ]
      ),
      int(background_segments(true_ids, pred_ids, **groups)[0]),
    )

  assert scores(whole) == (1.0, 1.0, 1)
  full, foreground, parts = scores(halved)
  assert (full < 0.5, foreground, parts) == (True, 1.0, 2)


def test_relabeling_and_ignored_pixels_change_nothing(ids):
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
    segmentation_covering,
    background_segments,
  ):
    expected = np.asarray(metric(*ids, **GROUPS))
    for pair in ((renamed, other), wide):
      np.testing.assert_allclose(metric(*pair, **GROUPS), expected, atol=1e-6)
  # All seven have a thousandth here, four have a seventh.
  slots = functools.partial(slots_in_use, min_fraction=1 / 7)
  expected = np.asarray(slots(pred_ids, num_pred_groups=7))
  assert 0 < expected.min() <= expected.max() < 7
  for pixels in (other, wide[1]):
    assert slots(pixels, num_pred_groups=7).tolist() == expected.tolist()


def test_images_without_objects_background_or_pixels():
  groups = {"num_true_groups": 2, "num_pred_groups": 2}
  true_ids = jnp.array([[0, 0], [1, 1], [-1, -1]])
  pred_ids = jnp.array([[0, 1], [0, 0], [0, 0]])
  covering = segmentation_covering(true_ids, pred_ids, **groups)
  assert covering.tolist() == [1.0, 1.0, 1.0]
  parts = background_segments(true_ids, pred_ids, **groups)
  assert parts.tolist() == [2.0, 0.0, 0.0]
  slots = slots_in_use(jnp.array([[0, 1], [-1, -1]]), num_pred_groups=2)
  assert slots.tolist() == [2.0, 0.0]


@pytest.mark.parametrize("name", METRICS)
def test_a_sharded_batch_is_scored_image_by_image(ids, name):
  metric = METRICS[name]
  each = [metric(t[None], p[None]) for t, p in zip(*ids, strict=True)]
  mesh = jax.make_mesh(
    (2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharded = jax.device_put(ids, NamedSharding(mesh, P("data")))
  compiled = jax.jit(metric).lower(*sharded).compile()
  text = compiled.as_text()
  assert "all-reduce" not in text
  assert "all-gather" not in text
  actual = compiled(*sharded)
  assert actual.dtype == jnp.float32
  np.testing.assert_allclose(actual, np.concatenate(each), atol=1e-6)
  assert len(set(np.asarray(actual).tolist())) > 1


def test_metrics_stay_within_their_bounds(ids):
  rng = np.random.default_rng(0)
  pair = (rng.integers(-1, n, ids[0].shape) for n in (5, 7))
  true_ids, pred_ids = pair = tuple(pair)
  # Few pixels or none, so that groups are missing.
  true_ids[:4, 1:], pred_ids[3:5, 2:], true_ids[5] = -1, -1, -1
  values = {n: np.asarray(metric(*pair)) for n, metric in METRICS.items()}
  for name, high in (("SC", 1), ("mSC", 1), ("segments", 7), ("slots", 7)):
    assert (values[name] >= 0).all(), name
    assert (values[name] <= high).all(), name
  # One-to-one matching is one of the ways to choose segments.
  matched = np.asarray(overlap.mean_iou(*pair, **GROUPS))
  assert (matched <= values["mSC"] + 1e-6).all()
  index = np.asarray(adjusted_rand_index(*pair, **GROUPS))
  assert (np.abs(index) <= 1).all()


@pytest.mark.parametrize(
  ("fraction", "parts"),
  # Of 3,000 pixels; in float32 0.001 * 3000 is more than 3.
  [(0.001, 3), (0.00101, 2), (0.0, 4), (0.3, 2), (0.301, 1), (1.0, 0)],
)
def test_a_segment_of_exactly_the_fraction_counts(fraction, parts):
  pred_ids = np.repeat([[0, 1, 2, 3]], [2096, 900, 3, 1], axis=1)
  groups = {"num_pred_groups": 5, "min_fraction": fraction}
  slots = slots_in_use(pred_ids, **groups)
  background = background_segments(
    np.zeros_like(pred_ids), pred_ids, num_true_groups=1, **groups
  )
  assert (slots.tolist(), background.tolist()) == ([parts], [parts])


def test_arguments_are_checked():
  ids = jnp.zeros((2, 4, 4), jnp.int32)
  for metric in METRICS.values():
    with pytest.raises(ValueError, match="pred_ids to be integers"):
      metric(ids, ids.astype(jnp.float32))
    with pytest.raises(ValueError, match="one shape"):
      metric(ids[0, 0], ids[0, 0])
  for fraction in (5, -0.1, float("nan")):
    with pytest.raises(ValueError, match=r"min_fraction in \[0, 1\], got"):
      segmentation.slots_in_use(ids, num_pred_groups=2, min_fraction=fraction)
    with pytest.raises(ValueError, match="a share of the pixels"):
      segmentation.background_segments(
        ids, ids, min_fraction=fraction, **GROUPS
      )
