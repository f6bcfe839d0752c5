import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules import encoder

SMALL = encoder.CNNEncoder(
  channels=(4, 6), kernel_sizes=(3, 5), strides=(1, 2), mlp_sizes=(8, 5)
)


def shapes(module, images):
  return jax.eval_shape(
    module.init_with_output, jax.random.key(0), jnp.zeros(images)
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
  out, params = shapes(SMALL, (2, 7, 8, 3))
  assert out.shape == (2, 4 * 4, 5)
  assert jax.tree.map(lambda p: p.shape, params["params"]) == {
    "conv_0": {"kernel": (3, 3, 3, 4), "bias": (4,)},
    "conv_1": {"kernel": (5, 5, 4, 6), "bias": (6,)},
    "position": {"dense": {"kernel": (4, 6), "bias": (6,)}},
    "norm": {"scale": (6,), "bias": (6,)},
    "mlp_0": {"kernel": (6, 8), "bias": (8,)},
    "mlp_1": {"kernel": (8, 5), "bias": (5,)},
  }


@pytest.mark.parametrize(
  ("strides", "size", "n"),
  [
    ((1, 1, 1, 1), 128, 128 * 128),
    ((1, 2, 2, 1), 128, 32 * 32),
    ((1, 2, 2, 1), 35, 9 * 9),
  ],
)
def test_shapes_of_the_papers_encoders(strides, size, n):
  out, _ = shapes(encoder.CNNEncoder(strides=strides), (2, size, size, 3))
  assert out.shape == (2, n, 64)


def test_same_parameters_at_other_resolutions():
  params = random_params(SMALL, jnp.zeros((1, 7, 8, 3)))
  out = jax.eval_shape(SMALL.apply, params, jnp.zeros((3, 12, 5, 3)))
  assert out.shape == (3, 18, 5)


def test_inputs_are_in_row_major_order():
  # With one 1x1 convolution an input feature depends on its own pixel only.
  module = encoder.CNNEncoder(
    channels=(4,), kernel_sizes=(1,), strides=(1,), mlp_sizes=(4,)
  )
  images = normal(0, 1, 3, 5, 3)
  apply = jax.jit(module.apply)
  params = random_params(module, images)
  # Fetched before the change: the computation may read the array in place.
  before = np.asarray(apply(params, images))
  images[0, 1, 2] += 1.0
  changed = np.abs(apply(params, images) - before).max(axis=-1)[0] > 1e-6
  assert np.flatnonzero(changed).tolist() == [1 * 5 + 2]


def test_matches_the_steps_of_the_paper():
  """CNN, ReLU after each; positions; LayerNorm; MLP, linear at the end."""
  images = normal(0, 2, 6, 6, 3)
  params = random_params(SMALL, images)
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
  x = images
  for name, stride in (("conv_0", 1), ("conv_1", 2)):
    layer = params["params"][name]
    x = jax.lax.conv_general_dilated(
      x,
      layer["kernel"],
      (stride, stride),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = jnp.maximum(x + layer["bias"][None, None, None], 0)
  x = np.asarray(x, np.float64)
  y = np.linspace(0, 1, 3)
  rows, columns = np.meshgrid(y, y, indexing="ij")
  grid = np.stack([rows, columns, 1 - rows, 1 - columns], axis=-1)
  dense = p["position"]["dense"]
  x = (x + grid @ dense["kernel"] + dense["bias"]).reshape(2, 9, 6)
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
  x = x * p["norm"]["scale"] + p["norm"]["bias"]
  x = np.maximum(x @ p["mlp_0"]["kernel"] + p["mlp_0"]["bias"], 0)
  x = x @ p["mlp_1"]["kernel"] + p["mlp_1"]["bias"]
  assert x.min() < 0  # No ReLU after the last layer.
  got = jax.jit(SMALL.apply)(params, images)
  np.testing.assert_allclose(got, x, atol=2e-5)


def test_bfloat16_keeps_float32_parameters():
  module = SMALL.clone(dtype=jnp.bfloat16)
  out, params = shapes(module, (1, 8, 8, 3))
  assert out.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_errors():
  with pytest.raises(ValueError, match=r"\[B, H, W, C\], got \(8, 8, 3\)"):
    shapes(SMALL, (8, 8, 3))
  with pytest.raises(ValueError, match=r"one entry per layer.*'strides': 1"):
    shapes(SMALL.clone(strides=(1,)), (1, 8, 8, 3))
  nothing = SMALL.clone(channels=(), kernel_sizes=(), strides=())
  with pytest.raises(ValueError, match="one entry per layer"):
    shapes(nothing, (1, 8, 8, 3))
