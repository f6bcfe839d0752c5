import jax
import numpy as np
import pytest

from slot_attention_jax.modules import slot_attention

B, N, F, K, D = 3, 7, 6, 3, 4
MODULE = slot_attention.SlotAttention(
  num_slots=K, num_iterations=2, slot_size=D, mlp_hidden_size=5
)


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


INPUTS = normal(0, B, N, F)
NOISE = normal(1, B, K, D)


@pytest.fixture(scope="module")
def params():
  tree = jax.eval_shape(
    lambda: MODULE.init(jax.random.key(0), INPUTS, noise=NOISE)
  )
  rng = np.random.default_rng(2)
  return jax.tree.map(
    lambda p: rng.normal(size=p.shape, scale=0.7).astype(np.float32), tree
  )


def run(module, params, **options):
  count = options.pop("num_iterations", None)
  return jax.jit(
    lambda params, options: module.apply(
      params, INPUTS, noise=NOISE, num_iterations=count, **options
    )
  )(params, options)


def test_each_example_stops_after_its_own_iterations(params):
  counts = np.array([1, 3, 2])
  slots, attention = run(MODULE, params, num_iterations=3, stop_after=counts)
  assert attention.shape == (B, 3, K, N)
  for b, count in enumerate(counts):
    expected, before = run(MODULE, params, num_iterations=int(count))
    np.testing.assert_allclose(slots[b], expected[b], atol=2e-6)
    np.testing.assert_allclose(attention[b, :count], before[b], atol=2e-6)


@pytest.mark.thorough
def test_gradients_are_those_of_the_iterations_that_were_made(params):
  def total(tree, **options):
    return (run(MODULE, tree, **options)[0][0] ** 2).sum()

  got, expected = (
    jax.jit(lambda p, o=options: jax.grad(total)(p, **o))(params)
    for options in (
      {"num_iterations": 4, "stop_after": np.array([2, 4, 4])},
      {"num_iterations": 2},
    )
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    got,
    expected,
  )


def test_no_implicit_gradient_where_examples_stop(params):
  module = MODULE.clone(gradient="implicit")
  with pytest.raises(ValueError, match=r"'unrolled'.* got 'implicit'"):
    run(module, params, stop_after=np.array([1, 2, 2]))
