import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules import convolution
from slot_attention_jax.modules.convolution import by_platform, dense
from slot_attention_jax.modules.convolution import packed as packed_lib

# Kernels, strides and packings: below, at and above one another; 0: XLA's own.
CASES = [
  (5, 1, 2),
  (4, 2, 1),
  (5, 2, 2),
  (2, 3, 1),
  (5, 2, 0),
  *(
    pytest.param(*case, marks=pytest.mark.thorough)
    for case in (
      (4, 1, 2),
      (3, 1, 2),
      (1, 1, 2),
      (5, 1, 4),
      (5, 2, 1),
      (1, 2, 1),
      (6, 3, 2),
      (5, 1, 0),
      (2, 3, 0),
    )
  ),
]


def with_gradients(fun, x, kernel):
  """Outputs and gradients with respect to inputs and kernel."""
  outputs, pull = jax.vjp(fun, x, kernel)
  g = jnp.sin(jnp.arange(outputs.size, dtype=outputs.dtype))
  return outputs, *pull(g.reshape(outputs.shape))


def assert_equal(got, expected):
  for a, b in zip(got, expected, strict=True):
    assert a.dtype == b.dtype == np.float64
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("k", "stride", "packing"), CASES)
def test_convolutions(k, stride, packing):
  old, new = stride * packing or 1, packing or 1
  # Packed images are of whole blocks, on the other axis of any size.
  size = (7, 3 * old) if packing else (7, 8)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 3))
  kernel = rng.normal(size=(k, k + 1, 3, 4))

  def packed(x, kernel):
    x = packed_lib.repack(x, 1, old)
    x = packed_lib.conv2d(x, kernel, stride, packing)
    return packed_lib.repack(x, new, 1)

  def plain(x, kernel):
    return dense.conv2d(x, kernel, stride)

  with jax.enable_x64(True):
    assert_equal(
      jax.jit(lambda *a: with_gradients(packed, *a))(x, kernel),
      jax.jit(lambda *a: with_gradients(plain, *a))(x, kernel),
    )


@pytest.mark.parametrize(("k", "stride", "packing"), CASES)
def test_transposed_convolutions(k, stride, packing):
  old, new = packing or 1, stride * packing or 1
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 5, 3 * old, 3))
  kernel = rng.normal(size=(k, k + 1, 4, 3))

  def packed(x, kernel):
    x = packed_lib.repack(x, 1, old)
    x = packed_lib.conv_transpose2d(x, kernel, stride, packing)
    return packed_lib.repack(x, new, 1)

  def plain(x, kernel):
    return by_platform.conv_transpose2d(x, kernel, stride)

  with jax.enable_x64(True):
    assert_equal(
      jax.jit(lambda *a: with_gradients(packed, *a))(x, kernel),
      jax.jit(lambda *a: with_gradients(plain, *a))(x, kernel),
    )


# Name, then channels, strides and width: those of the models, an odd width,
# layers that are too wide to pack, a stride that is not packed.
STACKS = [
  ("conv_stack", (8, 8, 8), (1, 2, 2), 8),
  ("conv_stack", (8, 8), (2, 1), 7),
  ("conv_transpose_stack", (8, 8, 4), (2, 1, 1), 6),
  ("conv_transpose_stack", (8, 4), (1, 2), 5),
  *(
    pytest.param(*stack, marks=pytest.mark.thorough)
    for stack in (
      ("conv_stack", (8, 8, 8), (1, 1, 1), 8),
      ("conv_stack", (8, 65, 8), (1, 1, 2), 6),
      ("conv_stack", (8, 8), (3, 1), 6),
      ("conv_transpose_stack", (8, 8, 8, 4), (2, 2, 1, 1), 3),
      ("conv_transpose_stack", (8, 65, 4), (1, 2, 1), 4),
      ("conv_transpose_stack", (8, 4), (3, 1), 4),
    )
  ),
]


def stack_arguments(name, channels, width):
  rng = np.random.default_rng(0)
  weights, inputs = [], 3
  for f in channels:
    shape = (3, 3, inputs, f) if name == "conv_stack" else (3, 3, f, inputs)
    weights.append((rng.normal(size=shape), rng.normal(size=f)))
    inputs = f
  return rng.normal(size=(2, 5, width, 3)), weights


@pytest.mark.parametrize(("name", "channels", "strides", "width"), STACKS)
def test_stacks_match_other_platforms(name, channels, strides, width):
  x, weights = stack_arguments(name, channels, width)

  def run(module):
    def fun(x, weights):
      return getattr(module, name)(x, weights, strides)

    return jax.jit(lambda *a: with_gradients(fun, *a))(x, weights)

  with jax.enable_x64(True):
    got, expected = run(packed_lib), run(convolution)
    assert got[0].shape == expected[0].shape
    assert_equal(jax.tree.leaves(got), jax.tree.leaves(expected))


def traced(name):
  """The gradient of two layers of 64 channels."""
  weights = [(np.ones((5, 5, 64, 64), np.float32), np.zeros(64, np.float32))]
  x = np.zeros((1, 8, 8, 64), np.float32)

  def loss(x, weights):
    return (getattr(convolution, name)(x, weights * 2, (1, 1)) ** 2).sum()

  return jax.jit(jax.grad(loss, argnums=(0, 1))).trace(x, weights)


def convolutions(text):
  return [x for x in text.split("\n") if "stablehlo.convolution" in x]


@pytest.mark.parametrize("name", ["conv_stack", "conv_transpose_stack"])
def test_only_tpus_convolve_128_channels(name):
  gradient = traced(name)
  tpu = gradient.lower(lowering_platforms=("tpu",)).as_text()
  # Layers are not computed again inside the next one.
  assert tpu.count("stablehlo.optimization_barrier") == 1
  tpu = convolutions(tpu)
  lowered = gradient.lower(lowering_platforms=("cpu",))
  cpu = convolutions(lowered.as_text())
  # Two layers, forwards and their two gradients each; all of them packed.
  assert len(tpu) == 6
  assert all("1x8x4x128" in line for line in tpu)
  assert cpu
  assert not any("1x8x4x128" in line for line in cpu)
  # Traced, the other platform's residuals are there as zeros.
  text = lowered.compile().as_text()
  assert "1,8,8,64]" in text
  assert "1,8,4,128]" not in text


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["conv_stack", "conv_transpose_stack"])
def test_stacks_under_vmap_and_remat(name):
  x, weights = stack_arguments(name, (8, 8), 6)
  x, weights = jax.tree.map(np.float32, (x, weights))

  def loss(weights, x):
    return (getattr(convolution, name)(x, weights, (2, 1)) ** 2).mean()

  expected = [jax.jit(jax.grad(loss))(weights, x[i : i + 1]) for i in (0, 1)]
  expected = jax.tree.map(lambda *g: np.stack(g), *expected)
  gradient = jax.grad(jax.checkpoint(loss))
  got = jax.jit(jax.vmap(gradient, (None, 0)))(weights, x[:, None])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3),
    got,
    expected,
  )


def test_errors():
  with pytest.raises(ValueError, match=r"packs from 1 to 2.*7"):
    packed_lib.repack(jnp.zeros((1, 4, 7, 3)), 1, 2)
  with pytest.raises(ValueError, match=r"\[B, H, W, 6\]"):
    packed_lib.conv2d(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 4)), 1, 2)
