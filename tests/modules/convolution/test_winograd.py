import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules.convolution import by_platform, winograd


def arguments(batch_size, size, channels, filters):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(batch_size, *size, channels))
  kernel = rng.normal(size=(5, 5, channels, filters))
  g = rng.normal(size=(batch_size, size[0] // 2, size[1] // 2, filters))
  return x, kernel, g


def direct(x, kernel):
  """The sum over taps, by NumPy in float64."""
  x = np.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
  h, w = x.shape[1] - 3, x.shape[2] - 3
  taps = [
    x[:, i : i + h : 2, j : j + w : 2] @ kernel[i, j]
    for i in range(5)
    for j in range(5)
  ]
  return np.sum(taps, axis=0)


def direct_gradients(x, kernel, g):
  """Those of `direct`, by NumPy in float64."""
  padded = np.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
  h, w = x.shape[1], x.shape[2]
  of_inputs, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
  for i in range(5):
    for j in range(5):
      window = np.s_[:, i : i + h : 2, j : j + w : 2]
      of_inputs[window] += g @ kernel[i, j].T
      of_kernel[i, j] = np.einsum("bhwc,bhwf->cf", padded[window], g)
  return of_inputs[:, 1 : 1 + h, 1 : 1 + w], of_kernel


def plain(x, kernel):
  return jax.lax.conv_general_dilated(
    x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def ours(x, kernel):
  return by_platform.conv2d(x, kernel, 2)


@pytest.fixture
def small(monkeypatch):
  """`conv2d` takes small arrays here, too, an image at a time."""
  monkeypatch.setattr(winograd, "_MIN_TILES", 1)
  monkeypatch.setattr(winograd, "_MIN_CHANNELS", 1)
  monkeypatch.setattr(winograd, "_PIECE_TILES", 2)
  monkeypatch.setattr(winograd, "_MIN_PIECE_TILES", 1)


def with_gradients(x, kernel, g):
  return winograd.strided(x, kernel), *winograd.gradients(x, kernel, g)


# All images at once, and in pieces of which each has some.
@pytest.mark.parametrize("piece_tiles", [512, 12])
def test_matches_the_sum_over_taps(monkeypatch, piece_tiles):
  monkeypatch.setattr(winograd, "_PIECE_TILES", piece_tiles)
  args = arguments(6, (16, 24), 3, 5)
  expected = direct(*args[:2]), *direct_gradients(*args)
  # A program of its own, as the size of a piece is a constant.
  got = jax.jit(lambda *args: with_gradients(*args))(
    *(jnp.asarray(x, jnp.float32) for x in args)
  )
  for a, b in zip(got, expected, strict=True):
    assert a.shape == b.shape
    assert a.dtype == jnp.float32
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_rounding():
  """As the docstring says, with the channels of CLEVR."""
  args = arguments(2, (16, 16), 64, 64)
  expected = direct(*args[:2]), *direct_gradients(*args)
  got = jax.jit(with_gradients)(*(jnp.asarray(x, jnp.float32) for x in args))
  for a, b in zip(got, expected, strict=True):
    assert np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)) < 2.5e-6
    assert np.abs(a - b).max() / np.abs(b).max() < 1e-5


@pytest.mark.usefixtures("small")
def test_kernels_can_be_vectorized():
  """None reads one dynamic slice, or one sum of such, in several places.

  LLVM does not vectorize that, which doubled the time of the convolution.
  """
  args = [jnp.asarray(x, jnp.float32) for x in arguments(2, (16, 16), 4, 4)]
  # A program of its own, as the size of a piece is a constant.
  program = jax.jit(lambda *args: with_gradients(*args)).lower(*args).compile()
  kernels = re.findall(
    r"^%fused_computation\S* .*?^}", program.as_text(), re.MULTILINE | re.DOTALL
  )
  slices = 0
  for kernel in kernels:
    parents = dict(
      re.findall(r"(%\S+) = \S+ (?:slice|bitcast|broadcast)\((%[^,)]+)", kernel)
    )
    names = re.findall(r"(%\S+) = \S+ dynamic-slice\(", kernel)
    slices += len(names)
    for name in names:
      # What is the same numbers has one user each, too.
      while name is not None:
        uses = len(re.findall(rf"{re.escape(name)}(?![\w.])", kernel)) - 1
        assert uses <= 1, kernel
        name = next((x for x, of in parents.items() if of == name), None)
  assert slices > 10


SHAPE = (8, 128, 128, 32)


@pytest.mark.parametrize(
  ("shape", "kernel", "stride", "dtypes", "expected"),
  [
    (SHAPE, (5, 5, 32, 32), 2, "ff", True),
    ((7, 128, 128, 32), (5, 5, 32, 32), 2, "ff", False),
    ((9, 124, 128, 32), (5, 5, 32, 32), 2, "ff", False),
    ((9, 128, 124, 32), (5, 5, 32, 32), 2, "ff", False),
    (SHAPE, (5, 5, 31, 32), 2, "ff", False),
    (SHAPE, (5, 5, 32, 31), 2, "ff", False),
    (SHAPE, (3, 5, 32, 32), 2, "ff", False),
    (SHAPE, (5, 5, 32, 32), 1, "ff", False),
    # Half, mixed, complex and whole numbers.
    (SHAPE, (5, 5, 32, 32), 2, "ee", False),
    (SHAPE, (5, 5, 32, 32), 2, "ef", False),
    (SHAPE, (5, 5, 32, 32), 2, "FF", False),
    (SHAPE, (5, 5, 32, 32), 2, "ii", False),
    # Prime numbers of images, of 16 and of 4 tiles.
    ((131, 32, 32, 32), (5, 5, 32, 32), 2, "ff", True),
    ((521, 16, 16, 32), (5, 5, 32, 32), 2, "ff", False),
  ],
)
def test_is_faster(shape, kernel, stride, dtypes, expected):
  def ask(x, kernel):
    assert winograd.is_faster(x, kernel, stride) is expected

  jax.eval_shape(
    ask, *map(jax.ShapeDtypeStruct, (shape, kernel), map(np.dtype, dtypes))
  )


def test_is_not_used_where_the_compiler_would_gather_the_images():
  """But is within `jax.shard_map`, where each device has its own."""
  mesh = jax.make_mesh(
    (2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  answers = []

  def ask(x, kernel):
    answers.append(winograd.is_faster(jax.nn.relu(x), kernel, 2))
    return x

  kernel = jnp.zeros((5, 5, 32, 32))
  x = jax.ShapeDtypeStruct(
    (16, *SHAPE[1:]),
    jnp.float32,
    sharding=jax.NamedSharding(mesh, jax.P("data")),
  )
  on_each = jax.shard_map(
    ask, mesh=mesh, in_specs=(jax.P("data"), jax.P()), out_specs=jax.P("data")
  )
  jax.jit(ask).trace(x, kernel)
  jax.jit(on_each).trace(x, kernel)
  assert answers == [False, True]


def test_is_used_on_cpu_only_and_for_any_batch_not():
  """By the products of 36 points, in the programs of each platform."""
  kernel = jax.ShapeDtypeStruct((5, 5, 32, 32), jnp.float32)

  def loss(x, kernel):
    return jnp.sum(by_platform.conv2d(x, kernel, 2) ** 2)

  step = jax.jit(jax.grad(loss, argnums=(0, 1)))
  traced = step.trace(jax.ShapeDtypeStruct(SHAPE, jnp.float32), kernel)

  def products(platform):
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    lines = [x for x in text.splitlines() if "stablehlo.dot_general" in x]
    return sum("tensor<6x" in line for line in lines)

  assert products("cpu") == 3
  assert products("cuda") == products("tpu") == 0


@pytest.mark.parametrize(
  ("batch_size", "expected"),
  [(1, 1), (8, 2), (9, 3), (15, 3), (11, 1), (22, 2), (512, 2)],
)
def test_images_of_a_piece(batch_size, expected):
  """Two of 256 tiles are enough; not all of a prime number."""
  assert winograd._piece(batch_size, 64, 64, 512) == expected


@pytest.mark.usefixtures("small")
def test_in_shard_map():
  """Which checks over which axes the carry of a loop differs."""
  mesh = jax.make_mesh(
    (2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )

  def loss(x, kernel):
    outputs = by_platform.conv2d(x, kernel, 2)
    return jax.lax.psum(jnp.sum(outputs**2), "data")

  gradients = jax.shard_map(
    jax.grad(loss, argnums=(0, 1)),
    mesh=mesh,
    in_specs=(jax.P("data"), jax.P()),
    out_specs=(jax.P("data"), jax.P()),
  )
  x, kernel = jnp.zeros((4, 8, 8, 2)), jnp.zeros((5, 5, 2, 3))
  of_inputs, of_kernel = jax.eval_shape(gradients, x, kernel)
  assert of_inputs.shape == x.shape
  assert of_kernel.shape == kernel.shape


@pytest.mark.usefixtures("small")
def test_gradients_of_gradients():
  x, kernel, _ = (
    jnp.asarray(x, jnp.float32) for x in arguments(2, (8, 8), 2, 3)
  )

  def results(conv, x, kernel):
    def of_kernel(x, kernel):
      return jax.grad(lambda k: jnp.sum(conv(x, k) ** 3))(kernel)

    each = jax.vmap(of_kernel, (0, None))(x[:, None], kernel)
    twice = jax.grad(lambda x: jnp.sum(of_kernel(x, kernel) ** 2))(x)
    # As `jax.hessian` does.
    forward = jax.jvp(of_kernel, (x, kernel), (x, kernel))[1]
    return each, twice, forward

  got, expected = (
    jax.jit(results, static_argnums=0)(conv, x, kernel)
    for conv in (ours, plain)
  )
  for a, b in zip(got, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_image_does_not_reach_the_others(bad):
  x, kernel, _ = (
    jnp.asarray(x, jnp.float32) for x in arguments(3, (8, 8), 2, 3)
  )
  x = x.at[0].set(bad)

  def results(conv, x, kernel):
    outputs, gradients = jax.vjp(conv, x, kernel)
    of_inputs, of_kernel = gradients(outputs)
    return outputs[1:], of_inputs[1:], of_kernel  # This is bad, rightly.

  got, expected = (
    jax.jit(results, static_argnums=0)(conv, x, kernel)
    for conv in (ours, plain)
  )
  for a, b in zip(got[:2], expected[:2], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
