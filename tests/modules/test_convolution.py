import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules import convolution

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Kernel (kh, kw), stride, image (H, W): kernels below, at and above the
# stride, sizes that the stride divides and does not.
CASES = [
  ((5, 5), 1, (6, 7)),
  ((2, 4), 1, (5, 6)),
  ((5, 5), 2, (8, 8)),
  ((5, 4), 2, (7, 9)),
  ((3, 2), 2, (6, 5)),
  ((1, 1), 2, (5, 6)),
  ((1, 2), 3, (7, 9)),
  ((4, 5), 3, (8, 10)),
]


def reference_conv(x, kernel, stride):
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), "SAME", dimension_numbers=DIMENSIONS
  )


def reference_conv_transpose(x, kernel, stride):
  return jax.lax.conv_transpose(
    x,
    kernel,
    (stride, stride),
    "SAME",
    dimension_numbers=DIMENSIONS,
    transpose_kernel=True,
  )


def with_gradients(fun, stride):
  """Jitted (x, kernel, g) -> (outputs, gradients of outputs * g)."""

  @jax.jit
  def run(x, kernel, seed):
    outputs, pull = jax.vjp(lambda x, k: fun(x, k, stride), x, kernel)
    g = jax.random.normal(seed, outputs.shape)
    return outputs, *pull(g)

  return run


def arguments(size, kernel_size, kernel_channels, stride=1):
  rng = np.random.default_rng(stride)
  x = rng.normal(size=(2, *size, 3)).astype(np.float32)
  kernel = rng.normal(size=(*kernel_size, *kernel_channels))
  return x, kernel.astype(np.float32), jax.random.key(0)


def check_equal(ours, reference, stride, args):
  got = with_gradients(ours, stride)(*args)
  expected = with_gradients(reference, stride)(*args)
  names = ("outputs", "gradient of inputs", "gradient of kernel")
  for name, a, b in zip(names, got, expected, strict=True):
    scale = np.abs(b).max()
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * scale, err_msg=name)


@pytest.mark.parametrize(("kernel_size", "stride", "size"), CASES)
def test_conv2d_is_laxs_same_convolution(kernel_size, stride, size):
  args = arguments(size, kernel_size, (3, 4), stride)
  check_equal(convolution.conv2d, reference_conv, stride, args)


@pytest.mark.parametrize(("kernel_size", "stride", "size"), CASES)
def test_conv_transpose2d_is_laxs(kernel_size, stride, size):
  args = arguments(size, kernel_size, (4, 3), stride)
  check_equal(
    convolution.conv_transpose2d, reference_conv_transpose, stride, args
  )


def test_conv_transpose2d_is_the_input_gradient_of_conv2d():
  x, kernel, _ = arguments((5, 4), (5, 3), (2, 3))
  image = jnp.zeros((2, 10, 8, 2))
  _, pull = jax.vjp(lambda i: reference_conv(i, kernel, 2), image)
  got = convolution.conv_transpose2d(x, kernel, 2)
  np.testing.assert_allclose(got, pull(x)[0], rtol=0, atol=2e-5)


def windows(fun, stride, args):
  """The windows of all convolutions in forward and gradients, compiled."""
  text = with_gradients(fun, stride).lower(*args).compile().as_text()
  return re.findall(r" convolution\(.*?window=\{(.*?)\}", text)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_compiled_code_has_dense_stride_1_convolutions_only(stride):
  slow = ("lhs_dilate", "rhs_dilate", "stride=")
  for fun, reference, channels in (
    (convolution.conv2d, reference_conv, (3, 4)),
    (convolution.conv_transpose2d, reference_conv_transpose, (4, 3)),
  ):
    args = arguments((8, 8), (5, 5), channels)
    found = windows(fun, stride, args)
    assert len(found) == 3, found  # Forward and two gradients.
    for window in found:
      assert not any(word in window for word in slow), window
    if stride > 1:  # The search does find what it looks for.
      found = windows(reference, stride, args)
      assert any(word in window for window in found for word in slow), found


def test_dtype_is_kept():
  x = jnp.ones((1, 4, 4, 3), jnp.bfloat16)
  kernel = jnp.ones((3, 3, 3, 3), jnp.bfloat16)
  for fun in (convolution.conv2d, convolution.conv_transpose2d):
    out = jax.eval_shape(lambda x, k, f=fun: f(x, k, 2), x, kernel)
    assert out.dtype == jnp.bfloat16


def test_errors():
  x, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((5, 5, 3, 8))
  for fun, channels in (
    (convolution.conv2d, 4),
    (convolution.conv_transpose2d, 3),
  ):
    with pytest.raises(ValueError, match=r"inputs \[B, H, W, C\].*\(4, 4, 3\)"):
      fun(x[0], kernel)
    with pytest.raises(ValueError, match=r"kernel of 4 axes.*\(5, 3, 8\)"):
      fun(x, kernel[0])
    wrong = jnp.ones((5, 5, channels, 4 + 3 - channels))
    # The inputs' axis differs between the two layouts.
    with pytest.raises(ValueError, match=r"Expected 4 input channels"):
      fun(x, wrong)
  with pytest.raises(ValueError, match="at least 1, got 0"):
    convolution.conv2d(x, kernel, 0)
  with pytest.raises(ValueError, match="at least 1, got 0"):
    convolution.conv_transpose2d(x, jnp.ones((5, 5, 8, 3)), 0)


def test_depth_to_space_is_the_inverse_of_space_to_depth():
  x = np.arange(2 * 6 * 9 * 2, dtype=np.float32).reshape(2, 6, 9, 2)
  blocks = convolution.space_to_depth(x, 3)
  assert blocks.shape == (2, 2, 3, 18)
  # Channels run over row, column, channel of the block.
  np.testing.assert_array_equal(
    blocks[1, 1, 2].reshape(3, 3, 2), x[1, 3:, 6:, :]
  )
  np.testing.assert_array_equal(convolution.depth_to_space(blocks, 3), x)


@pytest.mark.parametrize(
  ("module", "kernel", "out"),
  [
    (convolution.Conv(5, 3, stride=2), (3, 3, 4, 5), (2, 3, 4, 5)),
    (convolution.ConvTranspose(5, 3, stride=2), (3, 3, 5, 4), (2, 10, 14, 5)),
  ],
)
def test_layers(module, kernel, out):
  x = jax.random.normal(jax.random.key(0), (2, 5, 7, 4))
  y, variables = module.init_with_output(jax.random.key(1), x)
  params = variables["params"]
  assert jax.tree.map(jnp.shape, params) == {"kernel": kernel, "bias": (5,)}
  assert y.shape == out
  # Glorot over both layouts; biases start at zero.
  limit = np.sqrt(6 / (9 * (4 + 5)))
  assert 0.9 * limit < np.abs(params["kernel"]).max() <= limit
  np.testing.assert_array_equal(params["bias"], 0)
  shifted = {"params": params | {"bias": jnp.arange(5.0)}}
  np.testing.assert_allclose(
    module.apply(shifted, x) - y,
    np.broadcast_to(np.arange(5.0), out),
    atol=1e-6,
  )


@pytest.mark.parametrize("cls", [convolution.Conv, convolution.ConvTranspose])
def test_layers_in_bfloat16_keep_float32_parameters(cls):
  module = cls(5, 3, dtype=jnp.bfloat16)
  x = jnp.ones((1, 4, 4, 3))
  y, params = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
  assert y.dtype == jnp.bfloat16
  assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
