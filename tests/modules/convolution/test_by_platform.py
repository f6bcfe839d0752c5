import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules.convolution import (
  by_platform,
  dense,
  kernel_gradient,
)

# Batch, kernel (kh, kw), stride, image (H, W), channels (C, F): kernels below,
# at and above the stride, sizes that it divides and does not, one image, more
# images than pieces, outputs that are wide and narrow for XLA:CPU, and
# channels enough for Toom-Cook.
CASES = [
  (18, (5, 5), 2, (8, 8), (3, 4)),
  (2, (4, 5), 3, (8, 10), (2, 3)),
  (2, (5, 5), 1, (3, 18), (32, 33)),
  *(
    pytest.param(case, marks=pytest.mark.thorough)
    for case in (
      (2, (5, 5), 1, (6, 7), (3, 4)),
      (1, (3, 3), 1, (5, 6), (2, 3)),
      (3, (2, 4), 1, (5, 6), (1, 2)),
      (2, (5, 4), 2, (7, 9), (3, 2)),
      (3, (1, 2), 3, (7, 9), (2, 2)),
      (2, (1, 3), 2, (3, 128), (2, 64)),
    )
  ),
]
PLATFORMS = ("cpu", "cuda", "tpu")


@pytest.fixture(params=PLATFORMS)
def platform(request, monkeypatch):
  """Computes, on the CPU, in the form of each platform."""

  def choose(*args, default, **forms):
    return forms.get(request.param, default)(*args)

  monkeypatch.setattr(jax.lax, "platform_dependent", choose)
  return request.param


def plain_conv(x, kernel, stride):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def plain_conv_transpose(x, kernel, stride):
  """The transpose of `plain_conv`, of images of (H, W) * stride."""
  b, h, w, _ = x.shape
  images = jnp.zeros((b, h * stride, w * stride, kernel.shape[2]))
  _, pull = jax.vjp(lambda i: plain_conv(i, kernel, stride), images)
  return pull(x)[0]


def arguments(batch_size, size, kernel_size, channels, kernel_channels):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(batch_size, *size, channels)).astype(np.float32)
  kernel = rng.normal(size=(*kernel_size, *kernel_channels))
  return x, kernel.astype(np.float32)


def with_gradients(fun, x, kernel):
  """Outputs and gradients with respect to inputs and kernel."""

  @jax.jit
  def run(x, kernel):
    outputs, pull = jax.vjp(fun, x, kernel)
    g = jnp.sin(jnp.arange(outputs.size, dtype=jnp.float32))
    return outputs, *pull(g.reshape(outputs.shape))

  return run(x, kernel)


def assert_same(got, expected):
  for a, b in zip(got, expected, strict=True):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_conv2d_and_gradients(platform, case):
  batch_size, kernel_size, stride, size, (c, f) = case
  x, kernel = arguments(batch_size, size, kernel_size, c, (c, f))
  conv = functools.partial(by_platform.conv2d, stride=stride)
  plain = functools.partial(plain_conv, stride=stride)
  assert_same(with_gradients(conv, x, kernel), with_gradients(plain, x, kernel))


@pytest.mark.parametrize("case", CASES)
def test_conv_transpose2d_and_gradients(platform, case):
  batch_size, kernel_size, stride, size, (c, f) = case
  x, kernel = arguments(batch_size, size, kernel_size, c, (f, c))
  conv = functools.partial(by_platform.conv_transpose2d, stride=stride)
  plain = functools.partial(plain_conv_transpose, stride=stride)
  assert_same(with_gradients(conv, x, kernel), with_gradients(plain, x, kernel))


def test_transformations(platform):
  """vmap, remat, jit and the gradient of a gradient."""
  x, kernel = arguments(2, (6, 6), (3, 3), 2, (2, 2))

  def loss(conv, x, kernel):
    return jnp.sum(conv(conv(x, kernel, 2), kernel, 1) ** 2)

  def results(conv):
    fun = functools.partial(loss, conv)
    of_kernel = jax.grad(jax.checkpoint(fun), argnums=1)

    @jax.jit
    def run(x, kernel):
      each = jax.vmap(of_kernel, (0, None))(x[:, None], kernel)
      twice = jax.grad(lambda k: jnp.sum(of_kernel(x, k) ** 2))(kernel)
      return of_kernel(x, kernel), each, twice

    return run(x, kernel)

  got = results(by_platform.conv2d)
  for a, b in zip(got, results(plain_conv), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3 * np.abs(b).max())


@pytest.mark.parametrize(
  "conv", [by_platform.conv2d, by_platform.conv_transpose2d]
)
def test_hessian(conv):
  """Its forward mode is of gradients, which it needs to reach."""
  x, kernel = arguments(1, (4, 4), (3, 3), 2, (2, 2))
  hessian = jax.hessian(lambda k: jnp.sum(conv(x, k, 2) ** 3))
  shape = jax.eval_shape(hessian, kernel).shape
  assert shape == kernel.shape + kernel.shape


def test_bfloat16(platform):
  x, kernel = arguments(2, (8, 8), (5, 5), 4, (4, 4))
  x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
  for stride in (1, 2):

    @jax.jit
    def run(x, kernel, stride=stride):
      outputs, pull = jax.vjp(
        lambda x, k: by_platform.conv2d(x, k, stride), x, kernel
      )
      return outputs, *pull(outputs)

    outputs, of_inputs, of_kernel = run(x, kernel)
    assert outputs.dtype == of_inputs.dtype == of_kernel.dtype == jnp.bfloat16
    exact = plain_conv(
      x.astype(jnp.float32), kernel.astype(jnp.float32), stride
    )
    np.testing.assert_allclose(
      outputs.astype(jnp.float32), exact, rtol=0.05, atol=0.2
    )


def test_the_platform_is_chosen_when_lowered():
  x, kernel = arguments(2, (8, 8), (5, 5), 4, (4, 4))

  def step(x, kernel):
    def loss(x, kernel):
      return jnp.sum(by_platform.conv2d(x, kernel, 2) ** 2)

    return jax.value_and_grad(loss, argnums=(0, 1))(x, kernel)

  traced = jax.jit(step).trace(x, kernel)
  texts = {
    name: traced.lower(lowering_platforms=(name,)).as_text()
    for name in PLATFORMS
  }
  # TPUs: forward, inputs' gradient, kernel's gradient, all through blocks.
  counts = {k: v.count("stablehlo.convolution") for k, v in texts.items()}
  assert counts["tpu"] == counts["cuda"] == 3
  # CPUs: forward, four phases, the kernel's gradient image by image.
  assert counts["cpu"] == 1 + 4 + 2
  assert "rhs_dilate = [2, 2]" not in texts["tpu"]
  assert "stride = [2, 2]" not in texts["tpu"]
  assert "stride = [2, 2]" in texts["cuda"]
  for text in texts.values():
    assert "lhs_dilate = [2, 2]" not in text


@pytest.mark.parametrize("function", ["conv2d", "conv_transpose2d"])
def test_errors(function):
  fun = getattr(by_platform, function)
  with pytest.raises(ValueError, match="stride of at least 1, got 0"):
    fun(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 3)), 0)
  with pytest.raises(ValueError, match="Expected 2 input channels"):
    fun(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 2, 2)))
  # The axis of the inputs differs between the two layouts.
  shape = (5, 5, 4, 3) if function == "conv2d" else (5, 5, 3, 4)
  with pytest.raises(ValueError, match="Expected 4 input channels"):
    fun(jnp.zeros((1, 4, 4, 3)), jnp.zeros(shape))
  with pytest.raises(ValueError, match=r"inputs \[B, H, W, C\].*\(4, 4, 3\)"):
    fun(jnp.zeros((4, 4, 3)), jnp.zeros((3, 3, 3, 3)))
  with pytest.raises(ValueError, match=r"kernel of 4 axes.*\(3, 3, 3\)"):
    fun(jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3)))


@pytest.mark.parametrize("batch_size", [1, 40])
@pytest.mark.parametrize(
  "channels",
  [
    (1, 9),
    *(
      pytest.param(channels, marks=pytest.mark.thorough)
      for channels in ((9, 1), (4, 4))
    ),
  ],
)
@pytest.mark.parametrize(
  ("kernel_size", "padding"),
  [
    ((1, 1), ((0, 0), (0, 0))),
    ((2, 3), ((0, 3), (3, 0))),
    ((5, 5), ((1, 2), (2, 1))),
  ],
)
def test_kernel_gradient(
  monkeypatch, kernel_size, padding, channels, batch_size
):
  # Small enough for pieces of some rows, or of some images.
  monkeypatch.setattr(kernel_gradient, "_PRODUCT_BYTES", 16384)
  c, f = channels
  h, w = 6, 8
  (top, bottom), (left, right) = padding
  rng = np.random.default_rng(0)
  x = rng.normal(size=(batch_size, h, w, c)).astype(np.float32)
  shape = (
    batch_size,
    h + top + bottom - kernel_size[0] + 1,
    w + left + right - kernel_size[1] + 1,
    f,
  )
  g = rng.normal(size=shape).astype(np.float32)
  transpose = jax.linear_transpose(
    lambda k: dense.convolution(x, k, padding),
    jax.ShapeDtypeStruct((*kernel_size, c, f), jnp.float32),
  )
  got = jax.jit(
    lambda x, g: kernel_gradient.kernel_gradient(x, g, kernel_size, 1, padding)
  )(x, g)
  expected = jax.jit(transpose)(g)[0]
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


def test_kernel_gradient_loops_over_the_batch():
  # The program's size must not grow with the batch.
  def text(batch_size):
    x = jax.ShapeDtypeStruct((batch_size, 32, 32, 8), jnp.float32)
    fun = functools.partial(
      kernel_gradient.kernel_gradient,
      kernel_size=(5, 5),
      stride=1,
      padding=((2, 2), (2, 2)),
    )
    return jax.jit(fun).lower(x, x).as_text()

  assert text(64).count("\n") == text(640).count("\n")
  assert "stablehlo.while" in text(64)


def test_kernel_gradient_checks_shapes():
  x, g = jnp.zeros((2, 8, 8, 3)), jnp.zeros((2, 4, 5, 4))
  with pytest.raises(ValueError, match=r"\(H', W'\) = \(4, 4\)"):
    kernel_gradient.kernel_gradient(x, g, (5, 5), 2, ((1, 2), (1, 2)))
