"""Modules and models on a mesh of the user, split by hand or by their types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.modules.convolution import by_platform
from tests.models.test_models import SMALL

AUTO, EXPLICIT = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit


def mesh_of(kind):
  return jax.make_mesh((2,), ("batch",), (kind,), devices=jax.devices()[:2])


def split_gradient(loss, mesh):
  """Value and gradient of a mean over a batch, each half on a device."""

  def local(params, *batch):
    value, gradient = jax.value_and_grad(loss)(params, *batch)
    # JAX sums the gradients of what does not differ.
    gradient = jax.tree.map(lambda g: g / 2, gradient)
    return jax.lax.pmean(value, "batch"), gradient

  def call(params, *batch):
    specs = (jax.P(), *(jax.P("batch") for _ in batch))
    mapped = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=jax.P())
    return mapped(params, *batch)

  return call


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("function", ["conv2d", "conv_transpose2d"])
def test_convolutions_in_shard_map_have_the_gradients_of_the_batch(
  function, stride
):
  def loss(kernel, images):
    outputs = getattr(by_platform, function)(images, kernel, stride)
    return (outputs**2).mean()

  kernel = jax.random.normal(jax.random.key(0), (3, 3, 2, 2))
  images = jax.random.normal(jax.random.key(1), (4, 6, 6, 2))
  whole = jax.jit(jax.value_and_grad(loss))(kernel, images)
  split = jax.jit(split_gradient(loss, mesh_of(AUTO)))(kernel, images)
  for expected, got in zip(whole, split, strict=True):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def small_loss(params, images, noise):
  output = SMALL.apply(params, images, noise=noise)
  return ((output.reconstruction - images) ** 2).mean()


def small_batch():
  images, noise = jnp.zeros((4, 8, 8, 3)), jnp.zeros((4, 3, 8))
  params = jax.eval_shape(
    lambda key: SMALL.init(key, images, noise=noise), jax.random.key(0)
  )
  return params, images, noise


def test_a_model_is_differentiated_in_shard_map_with_its_check_of_types():
  params, *batch = small_batch()
  step = split_gradient(small_loss, mesh_of(AUTO))
  loss, gradient = jax.eval_shape(step, params, *batch)
  assert loss.shape == ()
  assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, params)


def test_a_batch_that_is_split_over_explicit_axes_is_an_error():
  params, *batch = small_batch()
  gradient = jax.value_and_grad(small_loss)
  with jax.set_mesh(mesh_of(EXPLICIT)):
    batch = [jax.device_put(x, jax.P("batch")) for x in batch]
    with pytest.raises(ValueError, match=r"AxisType\.Auto,\), or .*auto_axes"):
      jax.eval_shape(gradient, params, *batch)
    with pytest.raises(ValueError, match="Expected slots that are not split"):
      jax.eval_shape(
        lambda p, z: SMALL.apply(p, z, method="decode"), params, batch[1]
      )
    # The ways out that the message gives, and shard_map.
    loss = jax.sharding.auto_axes(small_loss, out_sharding=jax.P())
    jax.eval_shape(jax.value_and_grad(loss), params, *batch)
    jax.eval_shape(split_gradient(small_loss, None), params, *batch)
