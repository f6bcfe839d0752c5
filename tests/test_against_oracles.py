"""Inputs that hypothesis makes up, against SciPy, scikit-learn and plain loops.

`SLOT_ATTENTION_JAX_EXAMPLES=1000` tries that many for each test. Shapes are
fixed where something is compiled.
"""

import contextlib
import fractions
import os

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, optimize

from slot_attention_jax import losses, matching
from slot_attention_jax.data import procedural, transforms
from slot_attention_jax.metrics import ari, average_precision, overlap
from tests.metrics import test_average_precision as precision_oracle

EXAMPLES = int(os.environ.get("SLOT_ATTENTION_JAX_EXAMPLES", "15"))
given = hypothesis.given
examples = hypothesis.settings(
  max_examples=EXAMPLES,
  derandomize=EXAMPLES < 100,
  deadline=None,
  database=None,
  suppress_health_check=list(hypothesis.HealthCheck),
)

# How the arithmetic is done, and the dtype of what goes in.
MODES = {
  "float32": (contextlib.nullcontext, jnp.float32, 1e-5),
  "bfloat16": (contextlib.nullcontext, jnp.bfloat16, 1e-5),
  "x64": (lambda: jax.enable_x64(True), jnp.float64, 1e-5),
  "debug_nans": (lambda: jax.debug_nans(True), jnp.float32, 1e-5),
}
in_all_modes = pytest.mark.parametrize(
  "mode",
  [
    "float32",
    *(pytest.param(m, marks=pytest.mark.thorough) for m in list(MODES)[1:]),
  ],
)


def floats(shape, low, high, specials=()):
  elements = st.floats(low, high, width=32)
  # Few different values, so that there are ties.
  elements = elements | st.sampled_from([low, high, 0.0, *specials])
  return hnp.arrays(np.float32, shape, elements=elements)


def as_mode(mode, *arrays):
  """Arrays of the mode's dtype, and the numbers in them as float64."""
  dtype = MODES[mode][1]
  given_arrays = [jnp.asarray(x, dtype) for x in arrays]
  return given_arrays, [np.asarray(x, np.float64) for x in given_arrays]


images = hnp.arrays(
  np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))
)
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))


def centers(size, out):
  """Where the centers of `out` pixels lie among `size`, exactly."""
  return [
    fractions.Fraction(2 * i + 1, 2 * out) * size - fractions.Fraction(1, 2)
    for i in range(out)
  ]


@pytest.mark.thorough
@examples
@given(images, sizes, st.sampled_from([None, "center"]))
def test_preprocessing_is_bilinear_between_pixel_centers(image, size, crop):
  got = transforms.preprocess(image, size, crop)[0]
  if crop:
    side = min(image.shape[:2])
    top, left = ((n - side) // 2 for n in image.shape[:2])
    image = image[top : top + side, left : left + side]
  grid = np.meshgrid(
    *(
      np.array([float(x) for x in centers(n, out)])
      for n, out in zip(image.shape[:2], size, strict=True)
    ),
    indexing="ij",
  )
  expected = np.stack(
    [
      ndimage.map_coordinates(
        image[..., c].astype(np.float64), grid, order=1, mode="nearest"
      )
      for c in range(3)
    ],
    axis=-1,
  )
  assert got.dtype == np.float32
  np.testing.assert_allclose(got, expected / 127.5 - 1, atol=2e-6)


@pytest.mark.thorough
@examples
@given(hnp.arrays(np.int64, st.tuples(*[st.integers(1, 9)] * 2)), sizes)
def test_segmentations_take_the_id_at_the_center(ids, size):
  ids = ids % 2**31
  got = transforms.preprocess_segmentation(ids, size, None)
  half = fractions.Fraction(1, 2)
  for i, y in enumerate(centers(ids.shape[0], size[0])):
    for j, x in enumerate(centers(ids.shape[1], size[1])):
      assert got[i, j] == ids[int(y + half), int(x + half)]


# Compiled once for all examples of a mode.
match = jax.jit(matching.hungarian_match)
set_loss = jax.jit(losses.set_prediction_loss)
rand_index = jax.jit(
  ari.adjusted_rand_index,
  static_argnames=("num_true_groups", "num_pred_groups", "foreground_only"),
)
mean_iou, best_overlap = (
  jax.jit(f, static_argnames=("num_true_groups", "num_pred_groups"))
  for f in (overlap.mean_iou, overlap.mean_best_overlap)
)


def check_matching(mode, cost):
  context, _, tolerance = MODES[mode]
  with context():
    (given_cost,), (exact,) = as_mode(mode, cost)
    rows, cols = jax.device_get(match(given_cost))
  assert rows.dtype == cols.dtype == np.int32
  for c, row, col in zip(exact, rows, cols, strict=True):
    assert len(set(row)) == len(set(col)) == min(c.shape)
    blocked = ~np.isfinite(c)
    # As many as must be of the pairs that cost infinity, and then the least.
    least = blocked[optimize.linear_sum_assignment(blocked)].sum()
    assert blocked[row, col].sum() == least
    large = 4 * np.abs(c[~blocked]).max(initial=1.0) * sum(c.shape)
    finite = np.where(blocked, large, c)
    best = finite[optimize.linear_sum_assignment(finite)].sum()
    scale = np.abs(c[~blocked]).max(initial=0.0)
    assert abs(finite[row, col].sum() - best) <= tolerance * max(scale, 1e-30)


@in_all_modes
@examples
@given(cost=floats((3, 5, 4), -1e3, 1e3, [np.inf]))
def test_matchings_of_small_sets_cost_the_least(mode, cost):
  check_matching(mode, cost)


@in_all_modes
@examples
@given(cost=floats((2, 4, 13), -1e3, 1e3, [np.inf]))
def test_matchings_of_large_sets_cost_the_least(mode, cost):
  check_matching(mode, cost)


@in_all_modes
@examples
@given(predictions=floats((2, 5, 4), -1, 2), targets=floats((2, 4, 4), -1, 2))
def test_the_loss_of_sets_is_that_of_the_best_matching(
  mode, predictions, targets
):
  context, _, tolerance = MODES[mode]
  with context():
    arrays, (exact, exact_targets) = as_mode(mode, predictions, targets)
    got = np.asarray(set_loss(*arrays))
  d = np.abs(exact[:, :, None] - exact_targets[:, None])
  cost = np.where(d <= 1, d**2 / 2, d - 0.5).mean(axis=-1)
  expected = [c[optimize.linear_sum_assignment(c)].sum() for c in cost]
  np.testing.assert_allclose(got, expected, atol=tolerance)


segmentations = hnp.arrays(np.int32, (3, 12), elements=st.integers(-1, 4))
GROUPS = {"num_true_groups": 4, "num_pred_groups": 3}  # Of 4 ids too few.


def counted(true_ids, pred_ids):
  """The pixels that count, image by image."""
  for true, pred in zip(true_ids, pred_ids, strict=True):
    keep = (true >= 0) & (true < 4) & (pred >= 0) & (pred < 3)
    yield true[keep], pred[keep]


@examples
@given(segmentations, segmentations, st.booleans())
def test_the_rand_index_is_scikit_learns(true_ids, pred_ids, foreground):
  from sklearn import metrics as sklearn_metrics

  with jax.debug_nans(True):
    got = rand_index(true_ids, pred_ids, **GROUPS, foreground_only=foreground)
  expected = []
  for true, pred in counted(true_ids, pred_ids):
    keep = true > 0 if foreground else slice(None)
    expected.append(sklearn_metrics.adjusted_rand_score(true[keep], pred[keep]))
  np.testing.assert_allclose(got, expected, atol=2e-6)


@examples
@given(segmentations, segmentations)
def test_overlaps_are_those_of_sets_of_pixels(true_ids, pred_ids):
  with jax.debug_nans(True):
    matched = mean_iou(true_ids, pred_ids, **GROUPS)
    best = best_overlap(true_ids, pred_ids, **GROUPS)
  expected, expected_best = [], []
  for true, pred in counted(true_ids, pred_ids):
    objects = [set(np.flatnonzero(true == g)) for g in range(1, 4)]
    objects = [pixels for pixels in objects if pixels]
    segments = [set(np.flatnonzero(pred == s)) for s in range(3)]
    iou = np.array(
      [[len(a & b) / len(a | b) for b in segments] for a in objects]
    )
    if not objects:
      expected.append(1.0)
      expected_best.append(1.0)
      continue
    total = iou[optimize.linear_sum_assignment(-iou)].sum()
    expected.append(total / len(objects))
    expected_best.append(iou.max(axis=1).mean())
  np.testing.assert_allclose(matched, expected, atol=2e-6)
  np.testing.assert_allclose(best, expected_best, atol=2e-6)


levels = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@in_all_modes
@examples
@given(
  predictions=hnp.arrays(np.float32, (2, 4, 3), elements=levels),
  targets=hnp.arrays(np.float32, (2, 3, 3), elements=levels),
  real=hnp.arrays(bool, (2, 3)),
)
def test_average_precision_is_that_of_plain_loops(
  mode, predictions, targets, real
):
  real[0, 0] = True  # Without any object it is 0, the loops divide by it.
  targets[..., 2] = real
  layout = precision_oracle._DOTS
  context, _, tolerance = MODES[mode]
  thresholds = (np.inf, 1.1, 0.3)
  with context():
    arrays, exact = as_mode(mode, predictions, targets)
    got = average_precision.average_precision(*arrays, layout, thresholds)
    got = np.asarray(got)
  expected = [precision_oracle._oracle(*exact, layout, t) for t in thresholds]
  np.testing.assert_allclose(got, expected, atol=tolerance)


FAMILIES = {
  "tetrominoes": (procedural.Tetrominoes(), (35, 35)),
  "multi_dsprites": (procedural.MultiDSprites(), (24, 24)),
}
rendered = {
  name: jax.jit(
    jax.vmap(
      lambda key, family=family, size=size: family.render(
        family.sample(key), size
      )
    )
  )
  for name, (family, size) in FAMILIES.items()
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(FAMILIES))
@examples
@given(seed=st.integers(0, 2**32 - 1))
def test_scenes_are_what_they_are_said_to_be(name, seed):
  family, size = FAMILIES[name]
  keys = jax.random.split(jax.random.key(seed), 4)
  for image, ids, visible in zip(
    *(
      np.asarray(x)
      for x in jax.tree.leaves(jax.device_get(rendered[name](keys)))
    ),
    strict=True,
  ):
    assert image.shape == (*size, 3)
    assert np.isfinite(image).all()
    assert np.abs(image).max() <= 1
    assert ids.min() >= 0
    assert ids.max() <= family.max_objects
    counts = np.bincount(ids.ravel(), minlength=1 + family.max_objects)[1:]
    np.testing.assert_array_equal(visible, counts)
    for i in np.unique(ids):
      # Colors are flat: objects and background alike.
      assert len(np.unique(image[ids == i], axis=0)) == 1
      if name == "tetrominoes" and i:
        # One piece of four squares of 5 x 5 pixels.
        assert counts[i - 1] == 100
        assert ndimage.label(ids == i)[1] == 1
