import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slot_attention_jax import losses

_GOLDEN = pathlib.Path(__file__).parents[0] / "testdata" / "golden"


def _sets(shape=(3, 4, 5), num_targets=4, seed=0):
  rng = np.random.default_rng(seed)
  batch, num_slots, size = shape
  predictions = rng.random((batch, num_slots, size)).astype(np.float32)
  targets = rng.random((batch, num_targets, size)).astype(np.float32)
  return predictions, targets


def _huber(difference):
  size = np.abs(difference)
  return np.where(size <= 1, 0.5 * size**2, size - 0.5)


def test_set_prediction_loss_matches_reference(equal_to_reference):
  golden = np.load(_GOLDEN / "set_metrics.npz")
  loss = losses.set_prediction_loss(golden["predictions"], golden["targets"])
  expected = golden["hungarian_huber_loss"]
  equal_to_reference(
    "Hungarian Huber loss of 40 sets, relative",
    loss.mean(),
    expected,
    1e-4,
    scale=expected,
  )


@pytest.mark.parametrize("weights", [None, (1.0, 1.0, 10.0, 0.0, 2.0)])
def test_pairwise_huber_matches_loops(weights):
  predictions, targets = _sets(num_targets=2)
  predictions = 4 * predictions - 2  # Beyond 1 apart, where Huber is linear.
  cost = losses.pairwise_huber(predictions, targets, weights)
  assert cost.shape == (3, 4, 2)
  scale = np.ones(5) if weights is None else np.array(weights)
  for b, k, o in np.ndindex(*cost.shape):
    expected = np.mean(scale * _huber(predictions[b, k] - targets[b, o]))
    np.testing.assert_allclose(cost[b, k, o], expected, rtol=1e-5)


@pytest.mark.parametrize("num_targets", [3, 4])
@pytest.mark.parametrize("weights", [None, (9.0, 1.0, 1.0, 1.0, 0.0)])
def test_set_prediction_loss_is_the_best_of_all_matchings(num_targets, weights):
  predictions, targets = _sets(num_targets=num_targets)
  loss = losses.set_prediction_loss(predictions, targets, weights=weights)
  cost = np.array(losses.pairwise_huber(predictions, targets, weights))
  expected = [
    min(
      sum(c[k, o] for o, k in enumerate(chosen))
      for chosen in itertools.permutations(range(4), num_targets)
    )
    for c in cost
  ]
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_weights_affect_the_matching():
  predictions = jnp.array([[[0.0, 1.0], [1.0, 0.0]]])
  targets = jnp.array([[[0.0, 0.0], [1.0, 1.0]]])
  by_first = losses.set_prediction_loss(
    predictions, targets, weights=jnp.array([4.0, 1.0])
  )
  by_second = losses.set_prediction_loss(
    predictions, targets, weights=jnp.array([1.0, 8.0])
  )
  # Matched on the heavier dimension, only the lighter one is wrong, twice.
  np.testing.assert_allclose(by_first, [2 * 0.5 * 1.0 / 2])
  np.testing.assert_allclose(by_second, [2 * 0.5 * 1.0 / 2])


def test_loss_is_invariant_to_the_order_of_slots():
  predictions, targets = _sets()
  loss = losses.set_prediction_loss(predictions, targets)
  np.testing.assert_allclose(
    losses.set_prediction_loss(predictions[:, ::-1], targets), loss, rtol=1e-6
  )


def test_gradient_flows_through_matched_pairs():
  # Clearly matched crosswise: the gradient of 0.5 d^2 / P is d / P.
  targets = jnp.array([[[0.0, 0.0], [1.0, 1.0]]])
  predictions = jnp.array([[[0.9, 0.7], [0.2, 0.1]]])
  gradient = jax.grad(lambda x: losses.set_prediction_loss(x, targets).sum())(
    predictions
  )
  np.testing.assert_allclose(
    gradient, [[[-0.05, -0.15], [0.1, 0.05]]], atol=1e-6
  )


@pytest.mark.thorough
def test_training_on_the_loss_learns_a_set():
  targets = jnp.array(_sets()[1][:1])
  predictions = jnp.full((1, 4, 5), 0.5) + 0.1 * jax.random.normal(
    jax.random.key(0), (1, 4, 5)
  )
  optimizer = optax.adam(0.05)
  state = optimizer.init(predictions)

  @jax.jit
  def step(predictions, state):
    loss, gradient = jax.value_and_grad(
      lambda x: losses.set_prediction_loss(x, targets).mean()
    )(predictions)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(predictions, updates), state, loss

  first = None
  for _ in range(100):
    predictions, state, loss = step(predictions, state)
    first = loss if first is None else first
  assert loss < 0.01 * first


def test_nan_affects_only_the_loss_of_its_example():
  predictions, targets = _sets()
  predictions[1, 2, 3] = np.nan
  loss = np.array(losses.set_prediction_loss(predictions, targets))
  assert np.isnan(loss).tolist() == [False, True, False]


@pytest.mark.parametrize(
  ("predictions", "targets"),
  [
    ((2, 3, 4), (2, 3, 5)),
    ((2, 3, 4), (1, 3, 4)),
    ((3, 4), (3, 4)),
  ],
)
def test_sets_that_do_not_fit_are_errors(predictions, targets):
  with pytest.raises(ValueError, match="same B and P"):
    losses.set_prediction_loss(jnp.zeros(predictions), jnp.zeros(targets))


def test_weights_of_another_length_are_an_error():
  predictions, targets = _sets()
  with pytest.raises(ValueError, match="expected weights"):
    losses.set_prediction_loss(predictions, targets, weights=(1.0, 2.0))


def test_reconstruction_loss_matches_numpy():
  rng = np.random.default_rng(0)
  images, reconstruction = rng.uniform(-1, 1, (2, 3, 6, 5, 3))
  loss = losses.reconstruction_loss(
    jnp.array(reconstruction), jnp.array(images)
  )
  expected = ((images - reconstruction) ** 2).mean(axis=(1, 2, 3))
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_reconstruction_loss_of_bfloat16_is_float32():
  # In bfloat16 the square of 0.01171875 and its sum would both be rounded.
  images = jnp.zeros((1, 32, 32, 3), jnp.bfloat16)
  reconstruction = jnp.full(images.shape, 0.01171875, jnp.bfloat16)
  loss = losses.reconstruction_loss(reconstruction, images)
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, [0.01171875**2], rtol=1e-6)


def test_reconstruction_of_another_shape_is_an_error():
  with pytest.raises(ValueError, match="one shape"):
    losses.reconstruction_loss(jnp.zeros((2, 8, 8, 3)), jnp.zeros((2, 8, 8, 1)))
  with pytest.raises(ValueError, match="one shape"):
    losses.reconstruction_loss(jnp.zeros((8, 8, 3)), jnp.zeros((8, 8, 3)))


def test_mask_overlap_is_a_sum_over_pairs_of_slots():
  masks = jax.random.uniform(jax.random.key(0), (2, 4, 3, 5, 1))
  expected = sum(
    (masks[:, k] * masks[:, j]).mean(axis=(1, 2, 3))
    for k, j in itertools.permutations(range(4), 2)
  )
  actual = losses.mask_overlap(masks.astype(jnp.bfloat16))
  assert actual.dtype == jnp.float32
  np.testing.assert_allclose(losses.mask_overlap(masks), expected, rtol=1e-5)
  np.testing.assert_allclose(actual, expected, rtol=2e-2)


def test_masks_without_a_channel_are_an_error():
  with pytest.raises(ValueError, match=r"mask_overlap.*\(2, 4, 3, 5\)"):
    losses.mask_overlap(jnp.ones((2, 4, 3, 5)))
