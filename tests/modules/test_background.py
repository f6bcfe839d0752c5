import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules import background


def colors(grid, resolution=(5, 9)):
  """The image of one slot, with an MLP that gives 0, 1, 2, ..."""
  module = background.SmoothBackground(
    grid=grid, hidden_size=4, output_channels=1
  )
  slots = np.zeros((1, 3), np.float32)
  params = jax.tree.map(
    lambda p: np.zeros(p.shape, p.dtype),
    jax.eval_shape(
      lambda key: module.init(key, slots, resolution), jax.random.key(0)
    ),
  )
  bias = np.arange(grid * grid, dtype=np.float32)
  params["params"]["dense_1"]["bias"] = bias
  run = jax.jit(lambda p: module.apply(p, slots, resolution))
  return np.asarray(run(params))[0, :, :, 0]


def test_a_grid_of_one_point_is_one_color():
  module = background.SmoothBackground()
  slots = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
  image = jax.jit(lambda key: module.init_with_output(key, slots, (5, 9))[0])(
    jax.random.key(0)
  )
  assert image.shape == (2, 5, 9, 3)
  assert (image == image[:, :1, :1]).all()
  assert not np.allclose(image[0], image[1])


def test_the_grid_reaches_into_the_corners_and_is_linear_in_between():
  rows, columns = np.linspace(0, 2, 5)[:, None], np.linspace(0, 1, 9)
  np.testing.assert_allclose(colors(2), rows + columns, atol=1e-6)
  assert colors(3)[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 2, 6, 8]


def test_no_point_in_the_grid():
  with pytest.raises(ValueError, match="at least 1, got 0"):
    colors(0)


@pytest.mark.parametrize("logit", [0, 3])
def test_colors_in_front_are_bounded_and_the_background_has_one_logit(logit):
  images, logits = background.put_behind(
    jnp.full((1, 2, 2, 3), 5.0),
    jnp.full((1, 3, 2, 2, 3), -50.0),
    jnp.full((1, 3, 2, 2, 1), 7.0),
    logit,
  )
  assert images.shape == (1, 4, 2, 2, 3)
  assert (images[:, 0] == 5).all()
  np.testing.assert_allclose(images[:, 1:], -background.COLOR_LIMIT)
  assert logits[0, :, 0, 0, 0].tolist() == [logit, 7, 7, 7]
