import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules.convolution import by_platform, toom_cook


def arguments(batch_size, size, rows, channels, filters):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(batch_size, *size, channels))
  kernel = rng.normal(size=(rows, 5, channels, filters))
  return x, kernel


def direct(x, kernel, padding):
  """The sum over taps, by NumPy in float64."""
  x = np.pad(x, ((0, 0), *padding, (0, 0)))
  kh, kw = kernel.shape[:2]
  h, w = x.shape[1] - kh + 1, x.shape[2] - kw + 1
  return sum(
    x[:, i : i + h, j : j + w] @ kernel[i, j]
    for i in range(kh)
    for j in range(kw)
  )


# Columns that tiles of four divide and do not, one tile and many.
@pytest.mark.parametrize(
  "columns",
  [
    1,
    6,
    *(pytest.param(n, marks=pytest.mark.thorough) for n in (4, 7, 13)),
  ],
)
@pytest.mark.parametrize(
  ("rows", "padding"),
  [
    (5, ((2, 2), (2, 2))),
    (3, ((1, 1), (0, 4))),
    (2, ((0, 1), (4, 0))),
    (1, ((0, 0), (3, 1))),
  ],
)
def test_matches_the_sum_over_taps(columns, rows, padding):
  x, kernel = arguments(3, (6, columns), rows, 4, 5)
  expected = direct(x, kernel, padding)
  got = jax.jit(lambda x, k: toom_cook.convolve(x, k, padding))(
    np.float32(x), np.float32(kernel)
  )
  assert got.shape == expected.shape
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_rounding():
  """As the docstring says, with the channels of CLEVR."""
  x, kernel = arguments(2, (16, 32), 5, 64, 64)
  x, kernel = np.float32(x), np.float32(kernel)
  padding = ((2, 2), (2, 2))
  expected = direct(np.float64(x), np.float64(kernel), padding)
  error = toom_cook.convolve(x, kernel, padding) - expected
  assert np.sqrt(np.mean(error**2) / np.mean(expected**2)) < 2.5e-6
  assert np.abs(error).max() / np.abs(expected).max() < 1e-5


def test_multiplies_less():
  """FLOPs of the convolutions: 2 / 5 of the direct sum's."""
  x, kernel = arguments(2, (16, 32), 5, 32, 32)

  def convolutions(fun):
    jaxpr = jax.make_jaxpr(fun)(jnp.float32(x), jnp.float32(kernel)).jaxpr
    return [e for e in jaxpr.eqns if "conv" in e.primitive.name]

  got = convolutions(lambda x, k: toom_cook.convolve(x, k, ((2, 2), (2, 2))))
  macs = [
    np.prod(e.outvars[0].aval.shape) * np.prod(e.invars[1].aval.shape[:3])
    for e in got
  ]
  assert len(macs) == 8
  assert sum(macs) * 5 == 2 * x.size * kernel.size // 32


@pytest.mark.parametrize(
  ("shape", "kernel", "stride", "dtype", "expected"),
  [
    ((2, 16, 16, 32), (5, 5, 32, 32), 1, "float32", True),
    ((2, 1, 16, 64), (1, 5, 64, 64), 1, "float32", True),
    ((2, 16, 15, 32), (5, 5, 32, 32), 1, "float32", False),
    ((2, 16, 16, 31), (5, 5, 31, 32), 1, "float32", False),
    ((2, 16, 16, 32), (5, 5, 32, 3), 1, "float32", False),
    ((2, 16, 16, 32), (5, 3, 32, 32), 1, "float32", False),
    ((2, 16, 16, 32), (5, 5, 32, 32), 2, "float32", False),
    ((2, 16, 16, 32), (5, 5, 32, 32), 1, "bfloat16", False),
  ],
)
def test_is_faster(shape, kernel, stride, dtype, expected):
  x, k = jnp.zeros(shape, dtype), jnp.zeros(kernel, dtype)
  assert toom_cook.is_faster(x, k, stride) is expected


def test_is_used_on_cpu_only():
  """By the kernels of the convolutions, in the programs of each platform."""
  x, kernel = arguments(1, (16, 16), 5, 32, 32)

  def loss(x, kernel):
    return jnp.sum(by_platform.conv2d(x, kernel) ** 2)

  step = jax.jit(jax.grad(loss, argnums=(0, 1)))
  traced = step.trace(jnp.float32(x), jnp.float32(kernel))

  def column_convolutions(platform):
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    lines = [x for x in text.splitlines() if "stablehlo.convolution" in x]
    return sum("tensor<5x1x32x32xf32>)" in line for line in lines)

  assert column_convolutions("cpu") == 16
  assert column_convolutions("cuda") == column_convolutions("tpu") == 0


def test_other_kernels_are_errors():
  with pytest.raises(ValueError, match=r"\[kh, 5, C, F\], got \(5, 3, 4, 4\)"):
    toom_cook.convolve(
      jnp.zeros((1, 8, 8, 4)), jnp.zeros((5, 3, 4, 4)), ((2, 2), (1, 1))
    )
