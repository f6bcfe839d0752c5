import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules.convolution import by_platform, paired_columns

# Batch, kernel (kh, kw), image (H, W), channels (C, F): sizes that tiles of
# twelve columns and pairs divide and do not, kernels of even and odd sides.
CASES = [
  (3, (5, 5), (7, 33), (2, 3)),
  (2, (2, 6), (6, 24), (3, 2)),
  (2, (4, 5), (5, 14), (1, 2)),
]


def padding_of(size, kernel):
  return by_platform._same_padding(size, kernel, 2)


def plain(x, kernel):
  return jax.lax.conv_general_dilated(
    x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_equal_to_the_direct_sum(monkeypatch, in_pieces, case):
  batch_size, kernel_size, size, (c, f) = case
  monkeypatch.setattr(paired_columns, "_PIECE", 1 if in_pieces else 2**20)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(batch_size, *size, c)).astype(np.float32)
  kernel = rng.normal(size=(*kernel_size, c, f)).astype(np.float32)
  padding = padding_of(size, kernel)

  @jax.jit
  def both(x, kernel):
    outputs, pull = jax.vjp(lambda x: plain(x, kernel), x)
    return (
      (outputs, pull(outputs)[0]),
      (
        paired_columns.strided(x, kernel, padding),
        paired_columns.transposed(outputs, kernel, padding, size),
      ),
    )

  for expected, got in zip(*both(x, kernel), strict=True):
    assert got.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * scale)


def shapes(batch_size=1, size=64, channels=64, dtype=jnp.float32):
  image = jax.ShapeDtypeStruct((batch_size, size, size, channels), dtype)
  half = jax.ShapeDtypeStruct(
    (batch_size, size // 2, size // 2, channels), dtype
  )
  kernel = jax.ShapeDtypeStruct((5, 5, channels, channels), dtype)
  return image, half, kernel


def operations(function, *args):
  return jax.jit(function).lower(*args).cost_analysis()["flops"]


def test_it_needs_fewer_operations():
  image, half, kernel = shapes()
  padding = padding_of((64, 64), kernel)
  direct = operations(plain, image, kernel)
  # Eight fifteenths of the multiplications, and the transforms.
  strided = functools.partial(paired_columns.strided, padding=padding)
  assert operations(strided, image, kernel) < 0.75 * direct
  transposed = functools.partial(
    paired_columns.transposed, padding=padding, size=(64, 64)
  )
  assert operations(transposed, half, kernel) < 0.75 * direct


def test_the_program_does_not_grow_with_the_batch():
  def text(batch_size):
    image, _, kernel = shapes(batch_size)
    padding = padding_of((64, 64), kernel)
    strided = functools.partial(paired_columns.strided, padding=padding)
    return jax.jit(strided).lower(image, kernel).as_text()

  assert text(16).count("\n") == text(160).count("\n")
  # One convolution a point.
  assert text(16).count("stablehlo.convolution") == 8
  assert "stablehlo.while" in text(16)


def test_cpus_use_it_where_it_is_faster():
  def count(image, kernel, platform="cpu"):
    conv = functools.partial(by_platform.conv2d, stride=2)
    traced = jax.jit(conv).trace(image, kernel)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return text.count("stablehlo.convolution")

  image, _, kernel = shapes()
  assert count(image, kernel) == 8
  assert count(image, kernel, "cuda") == 1
  for other in (
    shapes(channels=16),
    shapes(size=16),
    shapes(dtype=jnp.bfloat16),
  ):
    assert count(other[0], other[2]) == 1
