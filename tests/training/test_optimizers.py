import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slot_attention_jax.config import base
from slot_attention_jax.training import optimizers


def schedule(learning_rate=4e-4, **changes):
  values = {"warmup_steps": 10, "decay_rate": 0.5, "decay_steps": 100}
  return optimizers.warmup_exponential_decay(
    learning_rate, **(values | changes)
  )


def optim_config(**changes):
  config = base.base_config().optim
  config.update(learning_rate=0.1, warmup_steps=0, decay_rate=1.0)
  config.update(changes)
  return config


def test_exponential_schedule_matches_its_formula():
  rate = schedule()
  for step in (0, 1, 5, 10, 11, 100, 1000):
    expected = 4e-4 * min(1, step / 10) * 0.5 ** (step / 100)
    np.testing.assert_allclose(rate(step), expected, rtol=1e-6)
  # The rate is a pure function of a traced count, as in optax.
  counts = jnp.arange(20)
  traced = jax.jit(jax.vmap(rate))(counts)
  np.testing.assert_allclose(traced, [rate(c) for c in counts], rtol=1e-6)


def test_schedule_without_warmup_or_decay():
  np.testing.assert_allclose(schedule(warmup_steps=0)(0), 4e-4, rtol=1e-6)
  flat = schedule(decay_rate=1.0)
  np.testing.assert_allclose([flat(10), flat(10**6)], 4e-4, rtol=1e-6)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"learning_rate": 0.0}, r"learning_rate > 0.*got 0.0, 10 and 100"),
    ({"warmup_steps": -1}, r"warmup_steps >= 0.*-1"),
    ({"decay_steps": 0}, r"decay_steps >= 1.* 0\."),
    ({"decay_rate": 0.0}, r"decay_rate in \(0, 1\], got 0.0"),
    ({"decay_rate": 1.5}, r"decay_rate in \(0, 1\], got 1.5"),
  ],
)
def test_schedule_errors(changes, message):
  with pytest.raises(ValueError, match=message):
    schedule(**changes)


def adam(gradients, learning_rates, b1, b2, eps):
  """Adam for one number, from 0, with epsilon where TensorFlow has it."""
  x = m = v = 0.0
  for t, (g, rate) in enumerate(
    zip(gradients, learning_rates, strict=True), start=1
  ):
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    x -= rate * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)
  return x


def minimize(config, gradients):
  optimizer, rate = optimizers.create_optimizer(config)
  x = jnp.zeros(len(gradients[0]))
  state = optimizer.init(x)
  update = jax.jit(optimizer.update)
  for g in gradients:
    updates, state = update(jnp.asarray(g), state)
    x = x + updates
  return np.asarray(x), rate


def test_adam_with_the_schedule_of_the_config():
  config = optim_config(
    warmup_steps=2, decay_rate=0.5, decay_steps=3, b1=0.8, b2=0.9, eps=0.01
  )
  gradients = [0.3, -0.1, 0.2]
  x, rate = minimize(config, [[g] for g in gradients])
  # Updates done count from 0: the first update of a warm-up has rate 0.
  rates = [0.1 * min(1, s / 2) * 0.5 ** (s / 3) for s in range(3)]
  np.testing.assert_allclose([rate(s) for s in range(3)], rates, rtol=1e-6)
  expected = adam(gradients, rates, 0.8, 0.9, 0.01)
  np.testing.assert_allclose(x, [expected], rtol=1e-5)


def test_clipping_by_the_global_norm():
  # eps so large that an update keeps its gradient's size.
  gradients = [[3.0, 4.0]]
  plain, _ = minimize(optim_config(eps=1e6), gradients)
  clipped, _ = minimize(optim_config(eps=1e6, clip_norm=1.0), gradients)
  loose, _ = minimize(optim_config(eps=1e6, clip_norm=6.0), gradients)
  np.testing.assert_allclose(clipped, plain / 5, rtol=1e-4)
  np.testing.assert_allclose(loose, plain, rtol=1e-6)


def test_negative_clip_norm_is_an_error():
  with pytest.raises(ValueError, match=r"clip_norm >= 0 .*got -1.0"):
    optimizers.create_optimizer(optim_config(clip_norm=-1.0))


def test_cosine_schedule_matches_its_formula():
  rate = optimizers.warmup_cosine_decay(2.0, warmup_steps=4, decay_steps=20)
  for step in (0, 1, 4, 10, 19, 20, 50):
    decay = (1 + np.cos(np.pi * min(1, step / 20))) / 2
    expected = 2.0 * min(1, step / 4) * decay
    np.testing.assert_allclose(rate(step), expected, rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match=r"decay_steps >= 1, got 2.0, 0 and 0"):
    optimizers.warmup_cosine_decay(2.0, warmup_steps=0, decay_steps=0)


def test_the_schedule_of_the_config():
  config = optim_config(schedule="cosine", decay_steps=8)
  _, rate = optimizers.create_optimizer(config)
  np.testing.assert_allclose(rate(4), 0.05, rtol=1e-5)
  for changes in ({"schedule": "linear"}, {"name": "sgd"}):
    ((key, value),) = changes.items()
    expected = rf"optim\.{key} out of .*got '{value}'"
    with pytest.raises(ValueError, match=expected):
      optimizers.create_optimizer(optim_config(**changes))


@pytest.mark.thorough
def test_muon_orthogonalizes_kernel_updates():
  rng = np.random.default_rng(0)
  shapes = {
    "encoder": {"conv_0": {"kernel": (5, 5, 3, 8)}},
    "decoder": {"conv_0": {"kernel": (2, 2, 4, 9)}},
    "slot_attention": {
      "gru": {"recurrent_kernel": (6, 18), "recurrent_bias": (6,)},
      "slots_mu": (1, 4, 6),
    },
  }
  is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
  params, gradients = (
    jax.tree.map(
      lambda s: rng.normal(size=s).astype(np.float32), shapes, is_leaf=is_shape
    )
    for _ in range(2)
  )
  config = optim_config(name="muon")
  optimizer, _ = optimizers.create_optimizer(config)
  updates, _ = jax.jit(optimizer.update)(
    gradients, optimizer.init(params), params
  )
  decoder = updates["decoder"]["conv_0"]["kernel"]
  for kernel in (
    updates["encoder"]["conv_0"]["kernel"].reshape(75, 8),
    # Transposed convolutions have their outputs third.
    decoder.transpose(0, 1, 3, 2).reshape(36, 4),
    updates["slot_attention"]["gru"]["recurrent_kernel"],
  ):
    values = np.linalg.svd(kernel, compute_uv=False)
    assert values.max() / values.min() < 2.0
    # Of the size of Adam's updates.
    size = np.sqrt(np.mean(np.square(kernel)))
    np.testing.assert_allclose(size, 0.1 * 0.2, rtol=0.35)
  # The same kernel the other way round is no such matrix.
  values = np.linalg.svd(decoder.reshape(16, 9), compute_uv=False)
  assert values.max() / values.min() > 2.0
  adam = optax.nadam(0.1)
  others, _ = adam.update(gradients, adam.init(params), params)
  got, expected = (x["slot_attention"]["slots_mu"] for x in (updates, others))
  np.testing.assert_allclose(got, expected, rtol=1e-4)
