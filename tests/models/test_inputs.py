"""Tests of what models take: ranges, batch axes, dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import slot_attention_jax as sa

SMALL = {
  "num_slots": 2,
  "slot_size": 8,
  "mlp_hidden_size": 8,
  "encoder_channels": (4,),
  "encoder_kernel_sizes": (3,),
  "encoder_strides": (1,),
  "encoder_mlp_sizes": (8,),
}


def autoencoder(**options):
  return sa.SlotAttentionAutoEncoder(
    resolution=(8, 8),
    broadcast_size=(4, 4),
    decoder_channels=(4,),
    decoder_kernel_sizes=(5, 3),
    decoder_strides=(2, 1),
    **SMALL,
    **options,
  )


def classifier(**options):
  return sa.SlotAttentionClassifier(num_properties=5, **SMALL, **options)


def classifier_with_moments(**options):
  return classifier(attention_moments=True, **options)


MODELS = pytest.mark.parametrize(
  "make", [autoencoder, classifier, classifier_with_moments]
)
RNGS = {"params": jax.random.key(0), "slots": jax.random.key(1)}


@MODELS
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_images_of_integers_are_refused(make, dtype):
  images = jax.ShapeDtypeStruct((1, 8, 8, 3), dtype)
  with pytest.raises(
    ValueError, match=rf"floats in \[-1, 1\], got {dtype}\..*preprocess"
  ):
    jax.eval_shape(make().init, RNGS, images)


@MODELS
def test_one_image_without_a_batch_axis_is_refused(make):
  images = jax.ShapeDtypeStruct((8, 8, 3), jnp.float32)
  with pytest.raises(ValueError, match=r"batch axis\. Add one: images\[None\]"):
    jax.eval_shape(make().init, RNGS, images)


@pytest.mark.parametrize("size", [(8, 6), (6, 8)])
def test_preprocessed_images_have_the_range_and_the_size(size):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, 20, 30, 3), np.uint8)
  images[:, 0, 0], images[:, -1, -1] = 0, 255
  out = sa.preprocess(images, size)
  assert (out.shape, out.dtype) == ((2, *size, 3), np.float32)
  assert -1 <= out.min() < -0.5 < 0.5 < out.max() <= 1
  np.testing.assert_array_equal(sa.preprocess(images[1], size), out[1:])
  # As it is, each value by itself.
  same = sa.preprocess(images)
  np.testing.assert_allclose(same, images / 127.5 - 1, atol=1e-6)
  assert sa.preprocess(images, crop="center").shape == (2, 20, 20, 3)
  middle = sa.preprocess(images[:, :, 5:25])
  np.testing.assert_array_equal(sa.preprocess(images, crop="center"), middle)


@pytest.mark.parametrize(
  ("images", "message"),
  [
    (np.zeros((2, 8, 8, 3), np.float32), r"float32\. Floats in \[-1, 1\] need"),
    (np.zeros((8, 8), np.uint8), r"got \(8, 8\) uint8"),
    (np.zeros((8, 8, 4), np.uint8), r"got \(1, 8, 8, 4\) uint8"),
    (np.zeros((0, 8, 8, 3), np.uint8), "at least one image"),
    (np.zeros((8, 8, 3), np.uint16), "uint16"),
  ],
)
def test_preprocess_takes_uint8_in_colors_alone(images, message):
  with pytest.raises(ValueError, match=message):
    sa.preprocess(images)


@pytest.mark.parametrize(
  "dtype",
  [
    jnp.bfloat16,
    *(
      pytest.param(dtype, marks=pytest.mark.thorough)
      for dtype in (jnp.float16, jnp.float32)
    ),
  ],
)
@pytest.mark.parametrize("update", ["gru", "residual"])
def test_parameters_of_16_bits_are_initialized(dtype, update):
  module = sa.SlotAttention(
    num_slots=2,
    slot_size=8,
    mlp_hidden_size=8,
    slot_update=update,
    param_dtype=dtype,
  )
  params = jax.jit(module.init)(RNGS, jnp.zeros((1, 4, 8)))
  assert all(x.dtype == dtype for x in jax.tree.leaves(params))
  if update == "gru":
    kernel = params["params"]["gru"]["recurrent_kernel"].astype(jnp.float32)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(8), atol=0.03)


@MODELS
def test_gradients_run_under_strict_promotion_of_dtypes(make):
  """In float32: Flax's LayerNorm itself mixes dtypes for others."""
  model, images = make(), jnp.zeros((1, 8, 8, 3))

  def loss(params):
    output = model.apply(params, images, rngs={"slots": jax.random.key(0)})
    return sum(x.astype(jnp.float32).sum() for x in jax.tree.leaves(output))

  with jax.numpy_dtype_promotion("strict"):
    params = jax.eval_shape(model.init, RNGS, images)
    jax.eval_shape(jax.grad(loss), params)


@pytest.mark.parametrize(
  "make",
  [
    classifier,
    classifier_with_moments,
    pytest.param(autoencoder, marks=pytest.mark.thorough),
  ],
)
def test_gradients_are_exported_for_any_batch_size(make):
  """SavedModel's default has a symbolic batch, and gradients."""
  model = make()
  params = jax.eval_shape(model.init, RNGS, jnp.zeros((1, 8, 8, 3)))

  @jax.jit
  def run(params, images):
    rngs = {"slots": jax.random.key(0)}
    output = model.apply(params, images, rngs=rngs)
    return getattr(output, "predictions", output.slots)

  shape = export.symbolic_shape("b, 8, 8, 3")
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  exported = export.export(run)(params, images)
  assert exported.vjp().in_avals[-1].ndim == 3
