import jax
import numpy as np
import pytest

from slot_attention_jax.modules import slot_attention, slot_init

B, N, F, K, D = 2, 7, 6, 3, 4


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  ("kind", "count"),
  [("shared", 1), ("background", 2), ("per_slot", K), ("learned", K)],
)
def test_number_of_gaussians(kind, count):
  shape, mu_init, log_sigma_init = slot_init.gaussians(kind, K, D)
  assert shape == (1, count, D)
  key = jax.random.key(0)
  assert mu_init(key, shape).shape == shape
  narrow = np.allclose(log_sigma_init(key, shape), np.log(0.1))
  assert narrow == (kind not in slot_init.ANY_NUM_SLOTS)


def test_the_gaussian_of_each_slot():
  values = normal(0, 1, 2, D)
  got = slot_init.of_each_slot(values, "background", 4)
  np.testing.assert_array_equal(got, values[:, [0, 1, 1, 1]])
  assert slot_init.of_each_slot(values, "per_slot", 2) is values
  assert slot_init.of_each_slot(values[:, :1], "shared", 5).shape == (1, 1, D)
  with pytest.raises(ValueError, match=r"num_slots=2.*'per_slot'.*got 4"):
    slot_init.of_each_slot(values, "per_slot", 4)


def test_slot_0_alone_has_an_initialization_of_its_own():
  module = slot_attention.SlotAttention(
    num_slots=K,
    num_iterations=2,
    slot_size=D,
    mlp_hidden_size=5,
    slot_init="background",
  )
  inputs = normal(1, B, N, F)
  rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  params = dict(jax.jit(module.init)(rngs, inputs)["params"])
  run = jax.jit(module.apply)
  mu, log_sigma = normal(2, 1, 2, D), normal(3, 1, 2, D)
  for name, values in (("slots_mu", mu), ("slots_log_sigma", log_sigma)):
    assert params[name].shape == values.shape
    params[name] = values
  for k in (1, K, K + 2):
    noise = normal(4, B, k, D)
    index = [0] + [1] * (k - 1)
    initial = mu[:, index] + np.exp(log_sigma[:, index]) * noise
    got, expected = (
      run({"params": params}, inputs, **options)[0]
      for options in ({"noise": noise}, {"initial_slots": initial})
    )
    np.testing.assert_allclose(got, expected, atol=2e-6)
