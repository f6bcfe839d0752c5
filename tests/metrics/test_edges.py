"""Metrics and losses at the edges: nothing to score, odd ids, strict dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.metrics import contingency

LAYOUT = sa.CLEVR_LAYOUT
SEGMENTATION = {
  name: getattr(sa, name)
  for name in ("mean_iou", "mean_best_overlap", "segmentation_covering")
}


@pytest.mark.parametrize("name", SEGMENTATION)
@pytest.mark.parametrize(
  "pixels",
  [
    (0, 2, 3),
    (2, 0, 3),
    *(
      pytest.param(pixels, marks=pytest.mark.thorough)
      for pixels in ((0, 4), (2, 0))
    ),
  ],
)
def test_no_image_has_no_score_and_no_pixel_misses_nothing(name, pixels):
  ids = jnp.zeros(pixels, jnp.int32)
  groups = {"num_true_groups": 3, "num_pred_groups": 2}
  score = jax.jit(lambda x: SEGMENTATION[name](x, x, **groups))(ids)
  np.testing.assert_array_equal(score, np.ones(pixels[0]))


def test_average_precision_of_no_image_is_0():
  sets = np.zeros((0, 3, LAYOUT.size))
  assert sa.average_precision(sets, sets, LAYOUT, (1.0, 0.5)).tolist() == [0, 0]


def test_the_loss_of_no_example_is_empty():
  sets = jnp.zeros((0, 3, 5))
  assert sa.set_prediction_loss(sets, sets).shape == (0,)


@pytest.mark.parametrize(
  "odd", [2**63, 2**32, 2**32 + 1, 2**31, 2**64 - 1, 300]
)
def test_ids_that_no_group_has_are_left_out(odd):
  """Of 64 bits, the lower 32 would be a group."""
  ids = np.array([[0, 1, 1, odd]], np.uint64)
  table = contingency.contingency_table(ids, ids, 2, 2)
  np.testing.assert_array_equal(table[0], [[1, 0], [0, 2]])


@pytest.mark.parametrize("odd", [-1, -(2**63), -(2**32), 2**62])
def test_ids_of_64_bits_may_be_negative(odd):
  ids = np.array([[0, 1, 1, odd]], np.int64)
  table = contingency.contingency_table(ids, ids, 2, 2)
  np.testing.assert_array_equal(table[0], [[1, 0], [0, 2]])


def test_large_ids_in_a_trace_are_left_out():
  ids = jnp.array([[0, 1, 1, 2**32 - 1]], jnp.uint32)
  table = jax.jit(lambda x: contingency.contingency_table(x, x, 2, 2))(ids)
  np.testing.assert_array_equal(table[0], [[1, 0], [0, 2]])


def test_objects_that_no_slot_is_left_for_cost_something():
  targets = jnp.array([[[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]])
  one = targets[:, :1]
  # The second object against nothing; padding costs nothing.
  assert sa.set_prediction_loss(one, targets).tolist() == [0.25]
  assert sa.set_prediction_loss(targets, targets).tolist() == [0.0]
  weighted = sa.set_prediction_loss(one, targets, weights=(1.0, 8.0))
  assert weighted.tolist() == [2.0]
  # As if there were empty slots.
  padded = jnp.pad(one, ((0, 0), (0, 2), (0, 0)))
  assert sa.set_prediction_loss(padded, targets).tolist() == [0.25]


def test_all_run_under_strict_promotion_of_dtypes():
  ids = jnp.array([[0, 1, 1, 2]])
  sets = jnp.full((1, 2, LAYOUT.size), 0.5)
  images = jnp.zeros((1, 4, 4, 3))
  groups = {"num_true_groups": 3, "num_pred_groups": 3}
  with jax.numpy_dtype_promotion("strict"):
    for score in SEGMENTATION.values():
      jax.eval_shape(lambda x, score=score: score(x, x, **groups), ids)
    jax.eval_shape(lambda x: sa.adjusted_rand_index(x, x, **groups), ids)
    jax.eval_shape(lambda x: sa.average_precision(x, x, LAYOUT), sets)
    jax.eval_shape(sa.reconstruction_loss, images, images)
    for fewer in (sets, sets[:, :1]):
      jax.eval_shape(
        jax.grad(lambda x: sa.set_prediction_loss(x, sets).sum()), fewer
      )
