import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from scipy import optimize

from slot_attention_jax import losses, matching

_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
)
# The dynamic program runs below it, the Hungarian algorithm from it on.
_LARGE = 13


def _mesh(axis_type=jax.sharding.AxisType.Auto):
  return jax.make_mesh((4,), ("data",), axis_types=(axis_type,))


def _costs(kind, shape, seed=0):
  rng = np.random.default_rng(seed)
  if kind == "tied":
    return rng.integers(0, 3, shape).astype(np.float32)
  if kind == "negative":
    return rng.normal(size=shape).astype(np.float32)
  return rng.random(shape).astype(np.float32)


def _check_optimal(cost, rows, cols):
  num_pairs = min(cost.shape[1:])
  assert rows.shape == cols.shape == (cost.shape[0], num_pairs)
  assert rows.dtype == cols.dtype == jnp.int32
  for c, row, col in zip(cost, np.array(rows), np.array(cols), strict=True):
    assert len(set(row)) == len(set(col)) == num_pairs
    assert row.tolist() == sorted(row)
    best = c[optimize.linear_sum_assignment(c)].sum()
    np.testing.assert_allclose(c[row, col].sum(), best, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["random", "tied", "negative"])
@pytest.mark.parametrize(
  "shape",
  [
    (32, 7, 4),
    (32, 4, 7),
    (16, 12, 12),
    (8, _LARGE, _LARGE),
    (8, _LARGE, 4),
    *(
      pytest.param(shape, marks=pytest.mark.thorough)
      for shape in ((64, 10, 10), (16, 12, 10), (16, 3, 12), (8, 4, _LARGE))
    ),
  ],
)
def test_total_cost_matches_scipy(kind, shape):
  cost = _costs(kind, shape)
  rows, cols = jax.jit(matching.hungarian_match)(cost)
  _check_optimal(cost, rows, cols)


@pytest.mark.parametrize(
  "k",
  [
    3,
    *(
      pytest.param(k, marks=pytest.mark.thorough) for k in (1, 2, 4, 5, 6, 7, 8)
    ),
  ],
)
def test_every_small_shape(k):
  match = jax.jit(matching.hungarian_match)
  for o in range(1, 9):
    cost = np.concatenate(
      [_costs(kind, (8, k, o)) for kind in ("random", "tied", "negative")]
    )
    drop = np.random.default_rng(1).random(cost.shape) < 0.2
    drop[::2] = False
    rows, cols = match(np.where(drop, np.nan, cost))
    _check_optimal(np.where(drop, 100.0, cost), rows, cols)


@pytest.mark.parametrize("shape", [(4, 5, 0), (4, 0, 5)])
def test_an_empty_set_has_no_pairs(shape):
  rows, cols = matching.hungarian_match(jnp.zeros(shape))
  assert rows.shape == cols.shape == (4, 0)


def test_small_differences_beside_large_costs_decide():
  # A constant on a row changes the total, never the best matching.
  cost = _costs("random", (8, 6, 6))
  offset = cost.copy()
  offset[:, 2] += 1000.0
  _check_optimal(cost, *matching.hungarian_match(offset))
  # A pair to avoid must not swamp the small costs of the others.
  cost *= 1e-6
  _check_optimal(cost * 1e6, *matching.hungarian_match(cost))
  forbidden, high = cost.copy(), cost.copy()
  forbidden[:, 0, 0], high[:, 0, 0] = np.inf, 1e-4
  _check_optimal(high * 1e6, *matching.hungarian_match(forbidden))


def test_single_problem():
  cost = _costs("random", (1, 3, 5))
  rows, cols = matching.hungarian_match(cost[0])
  assert rows.shape == cols.shape == (3,)
  _check_optimal(cost, rows[None], cols[None])


@pytest.mark.parametrize("shape", [(5,), (1, 2, 3, 4)])
def test_other_ranks_are_errors(shape):
  with pytest.raises(ValueError, match="expected cost"):
    matching.hungarian_match(jnp.zeros(shape))


def test_infinite_and_nan_costs_are_avoided():
  cost = np.full((1, 3, 3), 1e-3, np.float32)
  cost[0, 0, 0] = np.inf
  cost[0, 0, 1] = np.nan
  cost[0, 2, 0] = 5e-4
  rows, cols = matching.hungarian_match(jnp.array(cost))
  assert rows.tolist() == [[0, 1, 2]]
  assert cols.tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
  "shape",
  [
    (100, 5, 5),
    (100, _LARGE, 4),
    *(
      pytest.param(shape, marks=pytest.mark.thorough)
      for shape in ((100, 4, 6), (100, 6, 4))
    ),
  ],
)
def test_as_few_infinite_or_nan_costs_as_possible(value, shape):
  # optax alone takes more of them than it must in about a tenth of these.
  rng = np.random.default_rng(1)
  cost = _costs("random", shape)
  drop = rng.random(shape) < rng.random((shape[0], 1, 1))
  rows, cols = matching.hungarian_match(jnp.array(np.where(drop, value, cost)))
  _check_optimal(np.where(drop, 100.0, cost), rows, cols)


def test_minus_infinite_costs_are_preferred():
  cost = np.array([[[1, 100, 100], [-100, 1, 100], [100, -np.inf, 1]]])
  _, cols = matching.hungarian_match(jnp.array(cost))
  assert cols.tolist() == [[2, 0, 1]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize("where", ["all", "one", "row"])
@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 5, 3), (2, _LARGE, 3)])
def test_extreme_costs_give_a_matching(value, where, shape):
  cost = _costs("random", shape)
  index = {"all": ..., "one": (0, 1, 1), "row": (0, 1)}[where]
  cost[index] = value
  rows, cols = jax.jit(matching.hungarian_match)(cost)
  for row, col in zip(np.array(rows), np.array(cols), strict=True):
    assert len(set(row)) == len(set(col)) == min(shape[1:])
  # The examples beside it are matched as ever.
  if where != "all":
    _check_optimal(cost[1:], rows[1:], cols[1:])


@pytest.mark.parametrize(
  "axis_type", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit]
)
@pytest.mark.parametrize("shape", [(16, 6, 5), (16, 5, _LARGE)])
def test_sharded_batch_is_matched_without_collectives(axis_type, shape):
  cost = _costs("random", shape)
  mesh = _mesh(axis_type)
  sharded = jax.device_put(cost, NamedSharding(mesh, P("data")))
  with jax.set_mesh(mesh):
    compiled = jax.jit(matching.hungarian_match).lower(sharded).compile()
    rows, cols = compiled(sharded)
  text = compiled.as_text()
  assert not [c for c in _COLLECTIVES if c in text]
  assert rows.sharding.is_equivalent_to(sharded.sharding, rows.ndim)
  _check_optimal(cost, rows, cols)


@pytest.mark.parametrize(
  "shape",
  [
    (16, 10, 10),
    *(
      pytest.param(shape, marks=pytest.mark.thorough)
      for shape in ((16, 5, 12), (16, 12, 5))
    ),
  ],
)
def test_small_sets_need_no_loop_and_no_mesh_in_the_context(shape):
  cost = _costs("random", shape)
  sharded = jax.device_put(cost, NamedSharding(_mesh(), P("data")))
  compiled = jax.jit(matching.hungarian_match).lower(sharded).compile()
  text = compiled.as_text()
  assert not [c for c in (*_COLLECTIVES, "while(") if c in text]
  rows, cols = compiled(sharded)
  assert cols.sharding.is_equivalent_to(sharded.sharding, cols.ndim)
  _check_optimal(cost, rows, cols)


def test_vmap_of_the_hungarian_algorithm_has_collectives():
  # Shows that the tests above can fail: no mesh in the context, plain vmap.
  sharded = jax.device_put(
    _costs("random", (16, _LARGE, 5)), NamedSharding(_mesh(), P("data"))
  )
  text = jax.jit(matching.hungarian_match).lower(sharded).compile().as_text()
  assert "all-reduce" in text
  assert "while(" in text


def test_gradient_of_a_sharded_loss_needs_no_collectives():
  rng = np.random.default_rng(0)
  predictions, targets = rng.random((2, 8, 5, 6)).astype(np.float32)
  mesh = _mesh()
  sharding = NamedSharding(mesh, P("data"))

  def total(predictions, targets):
    # No mean, which would rightly be an all-reduce.
    return jax.vjp(
      lambda x: losses.set_prediction_loss(x, targets), predictions
    )[1](jnp.ones(len(predictions)))[0]

  expected = jax.jit(total)(predictions, targets)
  sharded = jax.device_put((predictions, targets), sharding)
  with jax.set_mesh(mesh):
    compiled = jax.jit(total, out_shardings=sharding).lower(*sharded).compile()
    gradient = compiled(*sharded)
  assert not [c for c in _COLLECTIVES if c in compiled.as_text()]
  np.testing.assert_allclose(gradient, expected, atol=1e-6)
  assert np.abs(expected).max() > 0


def test_indivisible_batch_falls_back_to_vmap():
  cost = _costs("random", (6, 4, 4))
  with jax.set_mesh(_mesh()):
    _check_optimal(cost, *jax.jit(matching.hungarian_match)(cost))


@pytest.mark.thorough
def test_without_jit_on_a_mesh():
  cost = _costs("random", (8, 4, 4))
  with jax.set_mesh(_mesh()):
    _check_optimal(cost, *matching.hungarian_match(jnp.array(cost)))


@pytest.mark.thorough
def test_other_axes_and_meshes_without_data():
  cost = _costs("random", (4, 4, 4))
  auto = (jax.sharding.AxisType.Auto,)
  for shape, names in (((4,), ("model",)), ((2, 2), ("data", "model"))):
    mesh = jax.make_mesh(shape, names, axis_types=auto * len(names))
    with jax.set_mesh(mesh):
      _check_optimal(cost, *jax.jit(matching.hungarian_match)(cost))


@pytest.mark.thorough
@pytest.mark.parametrize("shape", [(16, 4, 4), (16, _LARGE, 4)])
def test_inside_the_callers_own_shard_map(shape):
  cost = _costs("random", shape)  # Four on each device: divisible again.
  with jax.set_mesh(_mesh()):
    match = jax.shard_map(
      matching.hungarian_match,
      in_specs=P("data"),
      out_specs=P("data"),
      check_vma=False,
    )
    _check_optimal(cost, *jax.jit(match)(cost))


def test_indices_carry_no_gradient_but_the_matched_cost_does():
  cost = jnp.array(_costs("random", (2, 3, 4)))

  def matched(cost):
    rows, cols = matching.hungarian_match(cost)
    return jax.vmap(lambda c, r, k: c[r, k])(cost, rows, cols).sum()

  gradient = np.array(jax.jit(jax.grad(matched))(cost))
  rows, cols = matching.hungarian_match(cost)
  expected = np.zeros_like(gradient)
  for b in range(2):
    expected[b, rows[b], cols[b]] = 1.0
  np.testing.assert_array_equal(gradient, expected)
