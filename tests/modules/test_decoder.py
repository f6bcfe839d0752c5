import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules import decoder

SMALL = decoder.SpatialBroadcastDecoder(
  broadcast_size=(3, 4), channels=(5,), kernel_sizes=(5, 3), strides=(2, 1)
)


def shapes(module, slots):
  return jax.eval_shape(
    module.init_with_output, jax.random.key(0), jnp.zeros(slots)
  )


def random_params(module, inputs):
  """Parameters of a module, none at its initial value."""
  rng = np.random.default_rng(1)
  tree = jax.eval_shape(module.init, jax.random.key(0), inputs)
  return jax.tree.map(
    lambda p: rng.normal(size=p.shape, scale=0.5).astype(np.float32), tree
  )


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_shapes_and_names():
  (images, logits), params = shapes(SMALL, (2, 7, 6))
  assert images.shape == (2, 7, 6, 8, 3)
  assert logits.shape == (2, 7, 6, 8, 1)
  assert SMALL.resolution == (6, 8)
  assert jax.tree.map(lambda p: p.shape, params["params"]) == {
    "position": {"dense": {"kernel": (4, 6), "bias": (6,)}},
    "conv_0": {"kernel": (5, 5, 5, 6), "bias": (5,)},
    "conv_1": {"kernel": (3, 3, 4, 5), "bias": (4,)},
  }


def test_shapes_of_the_papers_decoder():
  module = decoder.SpatialBroadcastDecoder()
  (images, logits), _ = shapes(module, (2, 7, 64))
  assert module.resolution == (128, 128)
  assert images.shape == (2, 7, 128, 128, 3)
  assert logits.shape == (2, 7, 128, 128, 1)


def test_same_parameters_at_other_resolutions_and_channels():
  params = random_params(SMALL, jnp.zeros((1, 2, 6)))
  module = SMALL.clone(broadcast_size=(5, 2), strides=(3, 2))
  images, logits = jax.eval_shape(module.apply, params, jnp.zeros((2, 9, 6)))
  assert module.resolution == (30, 12)
  assert images.shape == (2, 9, 30, 12, 3)
  assert logits.shape == (2, 9, 30, 12, 1)
  (images, _), _ = shapes(SMALL.clone(output_channels=1), (1, 2, 6))
  assert images.shape == (1, 2, 6, 8, 1)


def test_images_are_cropped_at_the_bottom_and_at_the_right():
  slots = normal(0, 2, 3, 6)
  params = random_params(SMALL, slots)
  module = SMALL.clone(output_size=(5, 8))
  assert module.resolution == (5, 8)
  whole, cropped = (jax.jit(m.apply)(params, slots) for m in (SMALL, module))
  for x, y in zip(whole, cropped, strict=True):
    np.testing.assert_array_equal(x[:, :, :5], y)
  with pytest.raises(ValueError, match=r"at most \(6, 8\).*got \(6, 9\)"):
    shapes(SMALL.clone(output_size=(6, 9)), (1, 2, 6))


def test_slots_are_decoded_independently():
  slots = normal(0, 2, 3, 6)
  params = random_params(SMALL, slots)
  apply = jax.jit(SMALL.apply)
  outputs = apply(params, slots)
  for b, k in ((0, 2), (1, 0)):
    one = apply(params, slots[b : b + 1, k : k + 1])
    for whole, single in zip(outputs, one, strict=True):
      np.testing.assert_allclose(whole[b, k], single[0, 0], atol=2e-5)


def test_matches_the_steps_of_the_paper():
  """Broadcast, positions, transposed convolutions, linear at the end."""
  slots = normal(0, 1, 2, 6)
  params = random_params(SMALL, slots)
  p = params["params"]
  rows, columns = np.meshgrid(
    np.linspace(0, 1, 3), np.linspace(0, 1, 4), indexing="ij"
  )
  grid = np.stack([rows, columns, 1 - rows, 1 - columns], axis=-1)
  dense = jax.tree.map(np.asarray, p["position"]["dense"])
  x = (
    np.asarray(slots)[0][:, None, None]
    + ((grid @ dense["kernel"] + dense["bias"])[None])
  )
  for i, stride in enumerate((2, 1)):
    x = np.maximum(x, 0) if i else x
    x = jax.lax.conv_transpose(
      jnp.asarray(x, jnp.float32),
      p[f"conv_{i}"]["kernel"],
      (stride, stride),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      transpose_kernel=True,
    )
    x = np.asarray(x) + np.asarray(p[f"conv_{i}"]["bias"])
  images, logits = jax.jit(SMALL.apply)(params, slots)
  assert x.min() < 0  # No ReLU after the last layer.
  np.testing.assert_allclose(images[0], x[..., :3], atol=2e-5)
  np.testing.assert_allclose(logits[0], x[..., 3:], atol=2e-5)


def test_bfloat16_keeps_float32_parameters():
  outputs, params = shapes(SMALL.clone(dtype=jnp.bfloat16), (1, 2, 6))
  assert {o.dtype for o in outputs} == {jnp.dtype("bfloat16")}
  assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_errors():
  with pytest.raises(ValueError, match=r"slots \[B, K, D\], got \(2, 6\)"):
    shapes(SMALL, (2, 6))
  with pytest.raises(ValueError, match=r"one entry per layer.*'channels': 3"):
    # Output layer included: one more than the list of channels.
    shapes(SMALL.clone(channels=(5, 5)), (1, 2, 6))
