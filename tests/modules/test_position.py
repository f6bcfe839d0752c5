import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules import position


def test_grid_matches_reference():
  grid = position.position_grid(3, 5)
  assert grid.shape == (3, 5, 4)
  assert grid.dtype == np.float32
  # build_grid of the reference: row, column, then their complements.
  for i in range(3):
    for j in range(5):
      y, x = i / 2, j / 4
      np.testing.assert_allclose(
        grid[i, j], [y, x, 1 - y, 1 - x], rtol=0, atol=1e-7
      )


def test_grid_of_one_cell_is_finite():
  np.testing.assert_array_equal(
    position.position_grid(1, 1)[0, 0], [0, 0, 1, 1]
  )


def test_embedding_is_a_linear_map_of_the_grid_for_any_resolution():
  module = position.SoftPositionEmbed()
  x = jnp.zeros((2, 4, 6, 3))
  params = jax.jit(module.init)(jax.random.key(1), x)
  dense = params["params"]["dense"]
  assert set(params["params"]) == {"dense"}
  assert dense["kernel"].shape == (4, 3)
  np.testing.assert_array_equal(dense["bias"], 0)
  limit = np.sqrt(6 / (4 + 3))
  assert 0.5 * limit < np.abs(dense["kernel"]).max() <= limit
  params = jax.tree.map(lambda p: p + 0.1, params)
  kernel, bias = (
    np.asarray(params["params"]["dense"][n]) for n in ("kernel", "bias")
  )
  for shape in ((2, 4, 6, 3), (1, 9, 2, 3)):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    grid = position.position_grid(*shape[1:3])
    np.testing.assert_allclose(
      module.apply(params, x), x + (grid @ kernel + bias)[None], atol=2e-6
    )


def test_dtype_is_that_of_the_inputs():
  module = position.SoftPositionEmbed()
  x = jnp.zeros((1, 4, 4, 3), jnp.bfloat16)
  out, params = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
  assert out.dtype == jnp.bfloat16
  assert params["params"]["dense"]["kernel"].dtype == jnp.float32


def test_error():
  with pytest.raises(ValueError, match=r"\[B, H, W, C\], got \(4, 4, 3\)"):
    position.SoftPositionEmbed().init(jax.random.key(0), jnp.zeros((4, 4, 3)))
