"""Tests of decoders that grow layers and channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.training import initial_weights

SMALL = sa.SlotAttentionAutoEncoder(
  num_slots=3,
  num_iterations=2,
  slot_size=8,
  mlp_hidden_size=8,
  encoder_channels=(4,),
  encoder_kernel_sizes=(4,),
  encoder_strides=(2,),
  encoder_mlp_sizes=(8, 8),
  resolution=(12, 16),
  broadcast_size=(3, 4),
  decoder_channels=(6, 5),
  decoder_kernel_sizes=(5, 4, 4),
  decoder_strides=(1, 2, 2),
)
DEEP = {
  "decoder_channels": (6, 6, 5),
  "decoder_kernel_sizes": (5, 1, 4, 4),
  "decoder_strides": (1, 1, 2, 2),
}


def init(model, seed=0):
  """Parameters that are nowhere 0, as the initial biases are."""
  params = jax.jit(model.init)(
    jax.random.key(seed), jnp.zeros((1, *model.resolution, 3))
  )
  leaves, treedef = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
  pairs = zip(leaves, keys, strict=True)
  return jax.tree.unflatten(
    treedef, [x + 0.1 * jax.random.normal(k, x.shape) for x, k in pairs]
  )


def fit(params, model, target):
  shapes = jax.eval_shape(
    target.init, jax.random.key(0), jnp.zeros((1, *target.resolution, 3))
  )
  return initial_weights.fit(params, model, target, shapes, "weights")


def decode(model, params):
  slots = jax.random.normal(jax.random.key(5), (2, 3, 8))
  images, masks = jax.jit(
    lambda params, slots: model.apply(params, slots, method="decode")
  )(params, slots)[1:3]
  return np.asarray(images), np.asarray(masks)


LARGER = {
  "one layer": DEEP,
  "two layers": {
    "decoder_channels": (6, 6, 6, 5),
    "decoder_kernel_sizes": (5, 1, 1, 4, 4),
    "decoder_strides": (1, 1, 1, 2, 2),
  },
  "a layer later": {
    "decoder_channels": (6, 5, 5),
    "decoder_kernel_sizes": (5, 4, 1, 4),
    "decoder_strides": (1, 2, 1, 2),
  },
  "channels": {"decoder_channels": (9, 7)},
  "a layer and channels": {**DEEP, "decoder_channels": (9, 7, 8)},
}


@pytest.mark.parametrize("name", LARGER)
def test_a_larger_decoder_starts_as_the_smaller_one(name):
  larger = SMALL.clone(**LARGER[name])
  params = init(SMALL)
  grown = fit(params, SMALL, larger)
  for got, want in zip(
    decode(larger, grown), decode(SMALL, params), strict=True
  ):
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_what_is_added_learns():
  larger = SMALL.clone(**LARGER["a layer and channels"])
  grown = fit(init(SMALL), SMALL, larger)

  @jax.jit
  def step(params):
    def loss(params):
      slots = jax.random.normal(jax.random.key(5), (2, 3, 8))
      image = larger.apply(params, slots, method="decode")[0]
      return jnp.mean((image - 0.5) ** 2)

    return jax.tree.map(lambda x, g: x - g, params, jax.grad(loss)(params))

  # New channels are read after the first step, and learn from the second on.
  after = step(step(grown))["params"]["decoder"]
  before = grown["params"]["decoder"]
  for layer, channels in (("conv_0", 6), ("conv_1", 6), ("conv_2", 5)):
    changed = np.abs(after[layer]["kernel"] - before[layer]["kernel"])
    assert np.all(np.max(changed[:, :, channels:], axis=(0, 1, 3)) > 0), layer


def test_a_decoder_that_has_such_a_layer_grows_another():
  deep = SMALL.clone(**DEEP)
  deeper = SMALL.clone(**LARGER["two layers"])
  params = init(deep)
  grown = fit(params, deep, deeper)
  np.testing.assert_allclose(
    decode(deeper, grown)[0], decode(deep, params)[0], atol=2e-6
  )


def test_larger_images_and_a_larger_decoder_in_one():
  larger = SMALL.clone(
    resolution=(24, 32),
    encoder_kernel_sizes=(8,),
    encoder_strides=(4,),
    decoder_channels=(6, 6, 5),
    decoder_kernel_sizes=(5, 1, 4, 8),
    decoder_strides=(1, 1, 2, 4),
  )
  params = init(SMALL)
  got, _ = decode(larger, fit(params, SMALL, larger))
  want = decode(SMALL, params)[0].repeat(2, axis=-3).repeat(2, axis=-2)
  np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize(
  "decoder",
  [
    {**DEEP, "decoder_kernel_sizes": (5, 3, 4, 4)},  # No identity.
    {**DEEP, "decoder_strides": (1, 2, 2, 1)},
    {"decoder_channels": (5, 5)},  # Fewer channels.
    {**DEEP, "decoder_channels": (6, 5, 5)},
    {"decoder_channels": (6,), "decoder_kernel_sizes": (5, 4)},  # Fewer layers.
  ],
)
def test_another_decoder_is_refused(decoder):
  if "decoder_strides" not in decoder and len(decoder["decoder_channels"]) < 2:
    decoder = {**decoder, "decoder_strides": (2, 2)}
  other = SMALL.clone(**decoder)
  with pytest.raises(ValueError, match=r"model\.decoder_"):
    fit(init(SMALL), SMALL, other)
