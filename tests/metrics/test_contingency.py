"""Tests of the contingency table, in both of its forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.metrics import contingency

FORMS = {
  "default": contingency.contingency_table,
  "counting": lambda t, p, g, s: contingency._by_counting(
    t, p, num_true=g, num_pred=s
  ),
  "product": lambda t, p, g, s: contingency._by_matrix_product(
    t, p, num_true=g, num_pred=s
  ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("num_true", "num_pred"), [(5, 7), (11, 3), (1, 2)])
def test_pixels_are_counted_once_and_ids_out_of_range_never(
  form, num_true, num_pred
):
  rng = np.random.default_rng(0)
  true_ids = rng.integers(-2, num_true + 2, (3, 200)).astype(np.int32)
  pred_ids = rng.integers(-2, num_pred + 2, (3, 200)).astype(np.int32)
  # Times the number of groups these overflow int32.
  true_ids[0, :2] = np.iinfo(np.int32).max, np.iinfo(np.int32).min
  expected = np.zeros((3, num_true, num_pred))
  for b in range(3):
    for t, p in zip(true_ids[b], pred_ids[b], strict=True):
      if 0 <= t < num_true and 0 <= p < num_pred:
        expected[b, t, p] += 1
  count = jax.jit(FORMS[form], static_argnums=(2, 3))
  table = count(true_ids, pred_ids, num_true, num_pred)
  assert table.dtype == jnp.float32
  np.testing.assert_array_equal(table, expected)


@pytest.mark.parametrize(
  ("platform", "product"), [("cpu", False), ("cuda", True), ("tpu", True)]
)
def test_accelerators_multiply_matrices(platform, product):
  ids = jnp.zeros((2, 8, 8), jnp.int32)
  count = jax.jit(lambda ids: contingency.contingency_table(ids, ids, 3, 4))
  text = count.trace(ids).lower(lowering_platforms=(platform,)).as_text()
  assert ("dot_general" in text) == product
  assert ("stablehlo.scatter" in text) != product


def test_narrow_ids_do_not_overflow():
  true_ids = jnp.full((1, 10), 200, jnp.uint8)
  pred_ids = jnp.full((1, 10), 7, jnp.uint8)
  count = jax.jit(lambda t, p: contingency.contingency_table(t, p, 256, 8))
  table = np.asarray(count(true_ids, pred_ids))
  assert table[0, 200, 7] == 10
  assert table.sum() == 10


def test_counts_of_groups_are_found_where_ids_have_values():
  true_ids, pred_ids = jnp.array([[0, 2, -1]]), jnp.array([[1, 0, 1]])
  table = contingency.contingency_table(true_ids, pred_ids)
  expected = contingency.contingency_table(true_ids, pred_ids, 3, 2)
  np.testing.assert_array_equal(table, expected)
  nothing = jnp.full((1, 4), -1)
  assert contingency.contingency_table(nothing, nothing).shape == (1, 1, 1)
  with pytest.raises(ValueError, match="num_true_groups under jit"):
    jax.jit(contingency.contingency_table)(true_ids, pred_ids)
  with pytest.raises(ValueError, match=r"ids below 65,536, got an id of 65536"):
    contingency.contingency_table(true_ids, jnp.array([[2**16, 0, 0]]))
