import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules.convolution import dense

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


def with_gradients(fun, x, kernel, stride):
  """Outputs and gradients with respect to inputs and kernel."""
  outputs, pull = jax.vjp(lambda x, k: fun(x, k, stride), x, kernel)
  g = jnp.sin(jnp.arange(outputs.size, dtype=jnp.float32))
  return outputs, *pull(g.reshape(outputs.shape))


def arguments(size, kernel_size, kernel_channels):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 3)).astype(np.float32)
  kernel = rng.normal(size=(*kernel_size, *kernel_channels))
  return x, kernel.astype(np.float32)


def constant(x):
  """Images that hold the first pixel of `x` everywhere."""
  return jnp.broadcast_to(x[:, :1, :1], x.shape)


FUNCTIONS = {
  "conv2d": (dense.conv2d, reference_conv, (3, 4)),
  "conv_transpose2d_of_constant": (
    lambda x, kernel, stride: dense.conv_transpose2d_of_constant(
      x[:, 0, 0], x.shape[1:3], kernel, stride
    ),
    lambda x, *args: reference_conv_transpose(constant(x), *args),
    (4, 3),
  ),
}


@pytest.fixture(scope="module")
def results():
  """Ours and LAX' results of all cases, in one compilation."""
  keys = [(name, *case) for name in FUNCTIONS for case in CASES]

  @jax.jit
  def run(args):
    return [
      [with_gradients(f, *a, stride) for f in FUNCTIONS[name][:2]]
      for (name, _, stride, _), a in zip(keys, args, strict=True)
    ]

  args = [
    arguments(size, kernel_size, FUNCTIONS[name][2])
    for name, kernel_size, _, size in keys
  ]
  return dict(zip(keys, run(args), strict=True))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("kernel_size", "stride", "size"), CASES)
def test_matches_lax(results, name, kernel_size, stride, size):
  got, expected = results[name, kernel_size, stride, size]
  names = ("outputs", "gradient of inputs", "gradient of kernel")
  # Gradients of one vector sum over all pixels, which cancel.
  tolerance = 1e-5 if name.endswith("constant") else 2e-6
  for what, a, b in zip(names, got, expected, strict=True):
    scale = np.abs(b).max()
    assert scale > 0.1
    np.testing.assert_allclose(
      a, b, rtol=0, atol=tolerance * scale, err_msg=what
    )


def windows(fun, stride, channels):
  """The windows of all convolutions in forward and gradients, compiled."""
  run = jax.jit(with_gradients, static_argnums=(0, 3))
  args = arguments((8, 8), (5, 5), channels)
  text = run.lower(fun, *args, stride).compile().as_text()
  return re.findall(r" convolution\(.*?window=\{(.*?)\}", text)


@pytest.mark.parametrize("stride", [1, 2])
def test_compiled_code_has_dense_stride_1_convolutions_only(stride):
  slow = ("lhs_dilate", "rhs_dilate", "stride=")
  ours, reference, channels = FUNCTIONS["conv2d"]
  found = windows(ours, stride, channels)
  assert len(found) == 3, found  # Forward and two gradients.
  for window in found:
    assert not any(word in window for word in slow), window
  if stride > 1:  # The search does find what it looks for.
    found = windows(reference, stride, channels)
    assert any(word in window for window in found for word in slow), found


def test_constant_needs_neither_convolution_nor_scatter():
  ours, _, channels = FUNCTIONS["conv_transpose2d_of_constant"]
  run = jax.jit(with_gradients, static_argnums=(0, 3))
  text = run.lower(ours, *arguments((8, 8), (5, 5), channels), 2).as_text()
  assert "dot_general" in text
  for word in ("convolution", "scatter", "gather"):
    assert f"stablehlo.{word}" not in text


def test_dtype_is_kept():
  x = jnp.ones((1, 4, 4, 3), jnp.bfloat16)
  kernel = jnp.ones((3, 3, 3, 3), jnp.bfloat16)
  out = jax.eval_shape(lambda x, k: dense.conv2d(x, k, 2), x, kernel)
  assert out.dtype == jnp.bfloat16
  out = jax.eval_shape(
    lambda v, k: dense.conv_transpose2d_of_constant(v, (4, 4), k),
    x[:, 0, 0],
    kernel,
  )
  assert out.dtype == jnp.bfloat16


def test_errors():
  x, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((5, 5, 3, 8))
  fun = dense.conv_transpose2d_of_constant
  with pytest.raises(ValueError, match=r"vectors \[B, C\].*\(1, 4, 4, 3\)"):
    fun(x, (4, 4), kernel)
  with pytest.raises(ValueError, match=r"size of at least 1.*\(4, 0\)"):
    fun(x[:, 0, 0], (4, 0), jnp.ones((5, 5, 8, 3)))
  with pytest.raises(ValueError, match="Expected 8 input channels"):
    fun(x[:, 0, 0], (4, 4), kernel)


def test_depth_to_space_is_the_inverse_of_space_to_depth():
  x = np.arange(2 * 6 * 9 * 2, dtype=np.float32).reshape(2, 6, 9, 2)
  blocks = dense.space_to_depth(x, 3)
  assert blocks.shape == (2, 2, 3, 18)
  # Channels run over row, column, channel of the block.
  np.testing.assert_array_equal(
    blocks[1, 1, 2].reshape(3, 3, 2), x[1, 3:, 6:, :]
  )
  np.testing.assert_array_equal(dense.depth_to_space(blocks, 3), x)
