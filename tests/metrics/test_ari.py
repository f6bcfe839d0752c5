import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from slot_attention_jax.metrics import ari, overlap

_GOLDEN = pathlib.Path(__file__).parents[1] / "testdata" / "golden" / "ari.npz"
# Compiled whole: one by one the operations take longer to compile.
_GROUPS = ("num_true_groups", "num_pred_groups")
adjusted_rand_index = jax.jit(
  ari.adjusted_rand_index, static_argnames=(*_GROUPS, "foreground_only")
)
_METRICS = (
  adjusted_rand_index,
  jax.jit(overlap.mean_iou, static_argnames=_GROUPS),
  jax.jit(overlap.mean_best_overlap, static_argnames=_GROUPS),
)


def _oracle_ari(true_ids, pred_ids):
  """Hubert and Arabie's formula in exact integers; None where it is 0 / 0."""
  table = {}
  for pair in zip(true_ids.tolist(), pred_ids.tolist(), strict=True):
    table[pair] = table.get(pair, 0) + 1

  def pairs(counts):
    return sum(n * (n - 1) // 2 for n in counts)

  def side(i):
    sizes = {}
    for pair, n in table.items():
      sizes[pair[i]] = sizes.get(pair[i], 0) + n
    return pairs(sizes.values())

  index, true_pairs, pred_pairs = pairs(table.values()), side(0), side(1)
  total = pairs([len(true_ids)])
  numerator = 2 * (index * total - true_pairs * pred_pairs)
  denominator = (true_pairs + pred_pairs) * total - 2 * true_pairs * pred_pairs
  return numerator / denominator if denominator else None


def _random_ids(seed, shape=(6, 300), num_true=5, num_pred=7, flip=0.3):
  """True ids, and predicted ones that permute them with some noise."""
  rng = np.random.default_rng(seed)
  true_ids = rng.integers(0, num_true, shape)
  noise = rng.integers(0, num_pred, shape)
  relabel = rng.permutation(num_pred)
  return true_ids, np.where(rng.random(shape) < flip, noise, relabel[true_ids])


@pytest.mark.parametrize("foreground_only", [False, True])
def test_ari_matches_reference(foreground_only, equal_to_reference):
  golden = np.load(_GOLDEN)
  expected = golden["ari_foreground" if foreground_only else "ari"]
  actual = adjusted_rand_index(
    golden["true_ids"],
    golden["pred_ids"],
    num_true_groups=5,
    num_pred_groups=7,
    foreground_only=foreground_only,
  )
  # Row 0 has no foreground: undefined there, 1 here.
  expected = np.where(np.isnan(expected), 1.0, expected)
  quantity = "foreground ARI" if foreground_only else "ARI"
  equal_to_reference(quantity, actual, expected, 1e-5)


@pytest.mark.parametrize("foreground_only", [False, True])
@pytest.mark.parametrize("flip", [0.0, 0.3, 1.0])
def test_ari_matches_exact_integer_formula(flip, foreground_only):
  true_ids, pred_ids = _random_ids(1, flip=flip)
  actual = jax.jit(
    lambda t, p: ari.adjusted_rand_index(
      t,
      p,
      num_true_groups=5,
      num_pred_groups=7,
      foreground_only=foreground_only,
    )
  )(true_ids, pred_ids)
  assert actual.dtype == jnp.float32
  for value, t, p in zip(actual, true_ids, pred_ids, strict=True):
    keep = t > 0 if foreground_only else t >= 0
    np.testing.assert_allclose(value, _oracle_ari(t[keep], p[keep]), atol=1e-5)


def _large_pair(kind):
  rng = np.random.default_rng(2)
  rows, columns = np.mgrid[0:320, 0:480]
  true_ids = 1 + (rows // 107) * 3 + columns // 160  # Nine equal tiles.
  pred_ids = np.where(rng.random(true_ids.shape) < 0.1, 0, true_ids)
  if kind == "tiny objects":
    # All but 60 of 153,600 pixels lie in one group on both sides.
    true_ids, pred_ids = np.zeros((2, 320, 480), np.int64)
    true_ids[10:16, 20:30] = 1
    pred_ids[12:18, 20:30] = 3
  elif kind == "one wrong pixel":
    pred_ids = true_ids.copy()
    pred_ids[0, 0] = 9
  elif kind == "independent":
    pred_ids = rng.integers(0, 11, true_ids.shape)
  return true_ids, pred_ids


@pytest.mark.parametrize(
  "kind", ["noisy tiles", "tiny objects", "one wrong pixel", "independent"]
)
def test_ari_is_accurate_on_large_images(kind):
  true_ids, pred_ids = _large_pair(kind)
  expected = _oracle_ari(true_ids.reshape(-1), pred_ids.reshape(-1))
  actual = adjusted_rand_index(
    true_ids[None], pred_ids[None], num_true_groups=11, num_pred_groups=11
  )
  np.testing.assert_allclose(actual, [expected], rtol=0, atol=5e-6)


@pytest.mark.parametrize(
  ("true_ids", "pred_ids", "expected"),
  [
    ([0, 0, 0, 0], [2, 2, 2, 2], 1.0),  # One group each.
    ([0, 0, 0, 0], [0, 1, 1, 1], 0.0),  # One group against two.
    ([0, 1, 2, 3], [0, 0, 0, 0], 0.0),
    ([0, 1, 2, 3], [3, 2, 1, 0], 1.0),  # Single pixels each.
    ([0, 0, 1, 1], [0, 1, 0, 1], -0.5),  # Worse than chance.
    ([0, 0, 1, 2], [0, 0, 1, 1], 4 / 7),  # As in scikit-learn's example.
    ([-1, -1, -1, -1], [0, 1, 2, 3], 1.0),  # Nothing counts.
    ([0, -1, -1, -1], [0, 1, 2, 3], 1.0),  # One pixel counts.
  ],
)
def test_ari_of_hand_worked_cases(true_ids, pred_ids, expected):
  actual = adjusted_rand_index(
    jnp.array([true_ids]),
    jnp.array([pred_ids]),
    num_true_groups=4,
    num_pred_groups=4,
  )
  np.testing.assert_allclose(actual, [expected], atol=1e-6)


@pytest.mark.parametrize("metric", _METRICS)
def test_metrics_are_invariant_to_relabeling(metric):
  true_ids, pred_ids = _random_ids(3)
  relabel = np.array([4, 0, 6, 5, 1, 3, 2])
  sizes = {"num_true_groups": 5, "num_pred_groups": 7}
  np.testing.assert_allclose(
    metric(true_ids, relabel[pred_ids], **sizes),
    metric(true_ids, pred_ids, **sizes),
    atol=1e-6,
  )


@pytest.mark.parametrize("metric", _METRICS)
def test_pixels_out_of_range_count_nowhere(metric):
  true_ids, pred_ids = _random_ids(4, shape=(1, 300))
  drop = np.random.default_rng(5).random(true_ids.shape) < 0.4
  sizes = {"num_true_groups": 5, "num_pred_groups": 7}
  expected = metric(true_ids[~drop][None], pred_ids[~drop][None], **sizes)
  for marked in (
    (np.where(drop, -1, true_ids), pred_ids),
    (np.where(drop, 5, true_ids), pred_ids),
    (true_ids, np.where(drop, 7, pred_ids)),
    (np.where(drop, 255, true_ids).astype(np.uint8), pred_ids),
  ):
    np.testing.assert_allclose(metric(*marked, **sizes), expected, atol=1e-6)


@pytest.mark.parametrize("metric", _METRICS)
def test_images_and_flat_pixels_score_the_same(metric):
  true_ids, pred_ids = _random_ids(6)
  sizes = {"num_true_groups": 5, "num_pred_groups": 7}
  images = (x.reshape(6, 15, 20) for x in (true_ids, pred_ids))
  np.testing.assert_array_equal(
    metric(*images, **sizes), metric(true_ids, pred_ids, **sizes)
  )


@pytest.mark.parametrize("metric", _METRICS)
def test_sharding_does_not_change_metrics(metric):
  true_ids, pred_ids = _random_ids(8, shape=(8, 100))
  mesh = jax.make_mesh(
    (4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharded = jax.device_put((true_ids, pred_ids), NamedSharding(mesh, P("data")))
  jitted = jax.jit(
    lambda t, p: metric(t, p, num_true_groups=5, num_pred_groups=7)
  )
  expected = metric(true_ids, pred_ids, num_true_groups=5, num_pred_groups=7)
  with jax.set_mesh(mesh):
    compiled = jitted.lower(*sharded).compile()
    actual = compiled(*sharded)
  text = compiled.as_text()
  assert "all-reduce" not in text
  assert "all-gather" not in text
  np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("metric", _METRICS)
def test_arguments_are_checked(metric):
  ids = jnp.zeros((2, 4, 4), jnp.int32)
  sizes = {"num_true_groups": 3, "num_pred_groups": 2}
  with pytest.raises(ValueError, match="one shape"):
    metric(ids, ids[:, :2], **sizes)
  with pytest.raises(ValueError, match="one shape"):
    metric(ids[0, 0], ids[0, 0], **sizes)
  with pytest.raises(ValueError, match="pred_ids to be integers"):
    metric(ids, ids.astype(jnp.float32), **sizes)
