"""Models of other parts than the package's, and options of the parts."""

import ast
import copy
import dataclasses
import pathlib
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import slot_attention_jax as sa
from slot_attention_jax import models
from slot_attention_jax.modules import attention_moments as moments_lib
from slot_attention_jax.tasks import object_discovery

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "extending.md"
OPTIONS = {
  "num_slots": 3,
  "num_iterations": 2,
  "slot_size": 8,
  "mlp_hidden_size": 8,
  "encoder_channels": (4,),
  "encoder_kernel_sizes": (3,),
  "encoder_strides": (2,),
  "encoder_mlp_sizes": (8,),
  "broadcast_size": (4, 4),
  "decoder_channels": (4,),
  "decoder_kernel_sizes": (3, 3),
  "decoder_strides": (2, 1),
}
SMALL = models.SlotAttentionAutoEncoder(resolution=(8, 8), **OPTIONS)
# Initial parameters of SMALL for these keys, the first three of an array each.
ENCODER = (-0.25515443, -0.13968092, 0.13832048)
SLOTS_MU = (-0.79776841, 0.50125581, -0.67669056)
DECODER = (0.04133227, 0.22573337, -0.22869651)
RNGS = {"params": jax.random.key(0), "slots": jax.random.key(1)}


class Patches(nn.Module):
  """An encoder that cuts images into patches."""

  size: int = 4

  @nn.compact
  def __call__(self, images):
    x = nn.Conv(
      8, (self.size,) * 2, strides=self.size, padding="VALID", name="embed"
    )(images)
    return x.reshape(x.shape[0], -1, 8)


class Mean(nn.Module):
  """An encoder of another signature: one vector for each image."""

  @nn.compact
  def __call__(self, images):
    return nn.Dense(8)(images.mean(axis=(1, 2)))


class Flat(nn.Module):
  """A decoder that paints each slot in one color."""

  resolution: tuple[int, int] = (8, 8)

  @nn.compact
  def __call__(self, slots):
    x = nn.Dense(4, name="color")(slots)[:, :, None, None]
    x = jnp.broadcast_to(x, (*slots.shape[:2], *self.resolution, 4))
    return x[..., :3], x[..., 3:]


def init(model, size=(8, 8)):
  images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
  return jax.eval_shape(lambda x: model.init_with_output(RNGS, x), images)


@pytest.fixture(scope="module")
def params():
  return jax.jit(SMALL.init)(RNGS, jnp.zeros((2, 8, 8, 3)))


# The guide.


@pytest.mark.thorough
def test_the_guide_trains_other_parts():
  blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
  assert len(blocks) == 3
  classes = [
    node for node in ast.parse(blocks[0]).body if isinstance(node, ast.ClassDef)
  ]
  lines = [c.end_lineno - c.lineno + 1 for c in classes]
  assert [c.name for c in classes] == ["ResNet", "MLPDecoder"]
  assert sum(lines) < 30
  names = {}
  for block in blocks:
    exec(compile(block, str(GUIDE), "exec"), names)
  losses = names["losses"]
  assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
  assert set(names["params"]["params"]) == {
    "encoder",
    "slot_attention",
    "decoder",
  }
  assert int(names["state"].step) == 1
  assert np.isfinite(names["metrics"]["loss"])


# Options are the fields of the parts.


def test_options_and_parts_make_the_same_model():
  composed = models.SlotAttentionAutoEncoder(
    encoder=sa.CNNEncoder(
      channels=(4,), kernel_sizes=(3,), strides=(2,), mlp_sizes=(8,)
    ),
    slot_attention=sa.SlotAttention(
      num_slots=3, num_iterations=2, slot_size=8, mlp_hidden_size=8
    ),
    decoder=sa.SpatialBroadcastDecoder(
      broadcast_size=(4, 4), channels=(4,), kernel_sizes=(3, 3), strides=(2, 1)
    ),
    resolution=(8, 8),
  )
  assert composed == SMALL
  assert hash(composed) == hash(SMALL)
  assert composed != SMALL.clone(num_slots=4)


def test_options_can_be_read_and_changed_in_copies():
  model = SMALL.clone(encoder_strides=(4,), dtype=jnp.bfloat16)
  assert {name: getattr(SMALL, name) for name in OPTIONS} == OPTIONS
  assert model.encoder.strides == (4,)
  dtypes = {
    model.encoder.dtype,
    model.slot_attention.dtype,
    model.decoder.dtype,
  }
  assert dtypes == {jnp.bfloat16}
  assert model.decoder.channels == (4,)
  assert SMALL.dtype is None
  for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
    assert other == model
  with pytest.raises(AttributeError, match='no attribute "num_slot"'):
    _ = model.num_slot


def test_defaults_are_those_of_the_paper():
  autoencoder = models.SlotAttentionAutoEncoder()
  assert autoencoder == models.SlotAttentionAutoEncoder.from_preset("clevr")
  assert (autoencoder.num_slots, autoencoder.resolution) == (7, (128, 128))
  classifier = models.SlotAttentionClassifier()
  assert classifier == models.SlotAttentionClassifier.from_preset("clevr")
  assert (classifier.num_slots, classifier.num_properties) == (10, 19)


def test_unknown_options_are_errors():
  with pytest.raises(TypeError, match=r"'num_slots'.* got \['slots'\]"):
    models.SlotAttentionAutoEncoder(slots=3)
  with pytest.raises(TypeError, match=r"got \['encoder_channels'\]"):
    models.SlotAttentionClassifier(encoder=Patches(), encoder_channels=(4,))
  model = models.SlotAttentionClassifier(encoder=Patches(), encoder_size=2)
  assert model.encoder.size == 2


@pytest.mark.thorough
def test_subclasses_take_options_too(params):
  class Doubled(models.SlotAttentionAutoEncoder):
    factor: int = 2
    labels: tuple[str, ...] = dataclasses.field(default_factory=tuple)

    def decode(self, slots):
      reconstruction, images, masks = super().decode(slots)
      return self.factor * reconstruction, images, masks

  model = Doubled(resolution=(8, 8), factor=3, **OPTIONS)
  assert (model.factor, model.clone().factor, model.num_slots) == (3, 3, 3)
  assert model.labels == ()
  images = jax.random.normal(jax.random.key(2), (2, 8, 8, 3))
  noise = jax.random.normal(jax.random.key(3), (2, 3, 8))
  got, expected = (
    jax.jit(m.apply)(params, images, noise=noise).reconstruction
    for m in (model, SMALL)
  )
  np.testing.assert_allclose(got, 3 * expected, rtol=1e-5)


def test_a_model_inside_another_module_keeps_its_parameters_together():
  class Outer(nn.Module):
    @nn.compact
    def __call__(self, images):
      return models.SlotAttentionAutoEncoder(
        resolution=(8, 8), name="model", **OPTIONS
      )(images)

  _, params = init(Outer())
  assert list(params["params"]) == ["model"]
  assert set(params["params"]["model"]) == {
    "encoder",
    "slot_attention",
    "decoder",
  }


@pytest.mark.thorough
def test_initial_parameters_do_not_depend_on_remat(params):
  remat = SMALL.clone(remat_decoder=True)
  again = jax.jit(remat.init)(RNGS, jnp.zeros((2, 8, 8, 3)))
  jax.tree.map(np.testing.assert_array_equal, params, again)


def test_initial_parameters_stay_what_they_are(params):
  # Made by models that had no parts; the names in the tree decide the keys.
  params = params["params"]
  for value, expected in (
    (params["encoder"]["conv_0"]["kernel"], ENCODER),
    (params["slot_attention"]["slots_mu"], SLOTS_MU),
    (params["decoder"]["conv_1"]["kernel"], DECODER),
  ):
    np.testing.assert_allclose(value.ravel()[:3], expected, rtol=1e-6)


# Other parts.


@pytest.mark.parametrize("remat", [False, True])
def test_another_decoder(remat):
  model = SMALL.clone(decoder=Flat(), resolution=None, remat_decoder=remat)
  output, params = init(model)
  assert output.images.shape == (2, 3, 8, 8, 3)
  assert list(params["params"]["decoder"]) == ["color"]
  with pytest.raises(ValueError, match=r"\(2, 12, 8, 3\), got \(2, 8, 8, 3\)"):
    init(model, (12, 8))


def test_another_head():
  class Logits(nn.Module):
    @nn.compact
    def __call__(self, slots):
      return nn.Dense(5)(slots)

  model = models.SlotAttentionClassifier(head=Logits(), num_slots=4)
  output, params = init(model)
  assert output.predictions.shape == (2, 4, 5)
  assert list(params["params"]["head"]) == ["Dense_0"]
  pooled = nn.Sequential([Logits(), lambda x: x.mean(axis=1)])
  with pytest.raises(
    ValueError, match=r"predictions \[B, K, P\].*got \(2, 5\)"
  ):
    init(model.clone(head=pooled))


class GridPatches(Patches):
  """The same, which says where its patches lie."""

  def feature_grid(self, resolution):
    return tuple(side // self.size for side in resolution)


def head_that_shows_what_it_gets(encoder, **options):
  """A model whose predictions are what its head gets."""
  seen = nn.Sequential([lambda slots: slots])
  return models.SlotAttentionClassifier(
    encoder=encoder, head=seen, num_slots=4, attention_moments=True, **options
  )


def images_of(size):
  rng = np.random.default_rng(0)
  return rng.uniform(-1, 1, (2, *size, 3)).astype(np.float32)


def test_a_head_sees_where_the_attention_of_any_encoder_is():
  model, images = (
    head_that_shows_what_it_gets(GridPatches()),
    images_of((8, 12)),
  )
  output, params = jax.jit(model.init_with_output)(RNGS, images)
  np.testing.assert_array_equal(output.predictions, output.slots)
  kernel = params["params"]["moments"]["kernel"]
  assert kernel.shape == (5, 64)
  params["params"]["moments"]["kernel"] = kernel.at[:, :5].set(jnp.eye(5))
  output = jax.jit(model.apply)(params, images, rngs=RNGS)
  expected = moments_lib.attention_moments(output.attention[:, -1], (2, 3))
  np.testing.assert_allclose(
    (output.predictions - output.slots)[..., :5], expected, atol=1e-5
  )


def test_examples_that_stop_early_are_as_with_fewer_iterations():
  model = head_that_shows_what_it_gets(GridPatches(), num_iterations=3)
  images = images_of((8, 12))
  params = jax.jit(model.init)(RNGS, images)
  params["params"]["moments"]["kernel"] += 1.0
  noise = jax.random.normal(jax.random.key(0), (2, 4, 64))
  apply = jax.jit(model.apply, static_argnames="num_iterations")
  stopped = apply(params, images, noise=noise, stop_after=jnp.array([1, 3]))
  for example, count in enumerate((1, 3)):
    expected = apply(params, images, noise=noise, num_iterations=count)
    np.testing.assert_allclose(
      stopped.predictions[example], expected.predictions[example], atol=1e-5
    )


def test_dtypes_of_attention_moments():
  images = images_of((8, 8))
  for dtype, param_dtype in (("bfloat16", "float32"), ("float32", "bfloat16")):
    model = head_that_shows_what_it_gets(
      sa.CNNEncoder(), dtype=dtype, param_dtype=param_dtype
    )
    output, params = jax.eval_shape(model.init_with_output, RNGS, images)
    assert output.predictions.dtype == output.slots.dtype == dtype
    assert {x.dtype.name for x in jax.tree.leaves(params)} == {param_dtype}


def test_attention_moments_of_an_unknown_grid_are_an_error():
  class WithToken(GridPatches):
    def __call__(self, images):
      inputs = super().__call__(images)
      return jnp.concatenate([inputs, inputs[:, :1]], axis=1)

  for encoder, message in (
    (Patches(), r"got Patches\. Give it a method `feature_grid\("),
    (WithToken(), r"2 x 2 inputs.*\(8, 8\).*of WithToken says, got 5\."),
  ):
    with pytest.raises(ValueError, match=message):
      init(head_that_shows_what_it_gets(encoder))


def test_parts_of_other_signatures_are_errors():
  with pytest.raises(ValueError, match=r"inputs \[B, N, F\].*got .* from Mean"):
    init(SMALL.clone(encoder=Mean()))

  class NoLogits(Flat):
    def __call__(self, slots):
      images, _ = super().__call__(slots)
      return images, images

  with pytest.raises(ValueError, match=r"alpha logits.*got .*NoLogits"):
    init(SMALL.clone(decoder=NoLogits()))


def test_the_grid_of_an_encoder():
  assert SMALL.feature_grid((9, 15)) == (5, 8)
  assert SMALL.grid_of((9, 15)) == (5, 8)
  # An encoder that does not say: N and the proportions of the image.
  model = SMALL.clone(encoder=Patches())
  assert model.feature_grid((12, 20), 15) == (3, 5)
  assert model.feature_grid((14, 22), 15) == (3, 5)
  for n in (16, None):
    with pytest.raises(ValueError, match=r"Give Patches a method `feature_gr"):
      model.feature_grid((12, 20), n)


@pytest.mark.parametrize(("size", "height"), [(4, 8), (3, 8), (4, 12)])
def test_attention_of_another_encoder_is_scored(size, height):
  model = SMALL.clone(
    encoder=Patches(size), decoder=Flat((height, 8)), resolution=None
  )
  task = object_discovery.ObjectDiscovery(
    model=model,
    image_shape=(height, 8, 3),
    max_objects=2,
    num_slots=3,
    num_iterations=2,
    extended=True,
  )
  batch = {
    "image": jax.ShapeDtypeStruct((2, height, 8, 3), jnp.float32),
    "segmentation": jax.ShapeDtypeStruct((2, height, 8), jnp.int32),
  }
  key = jax.random.key(0)
  scores = jax.eval_shape(
    lambda batch: task.evaluate(task.init(key), batch, key, 0), batch
  )
  assert scores["fg_ari_attention"].shape == (2,)


class Two(nn.Module):
  """Two models in one module, the second a copy of the first."""

  inner: nn.Module

  @nn.compact
  def __call__(self, images):
    copy = self.inner.clone(num_slots=2, parent=self, name="copy")
    return self.inner(images).masks, copy(images).masks


def test_a_copy_in_another_module_has_parameters_of_its_own():
  params = jax.eval_shape(Two(SMALL).init, RNGS, jnp.zeros((1, 8, 8, 3)))
  parts = {"encoder", "slot_attention", "decoder"}
  assert {k: set(v) for k, v in params["params"].items()} == {
    "inner": parts,
    "copy": parts,
  }


def test_the_older_name_of_slot_init():
  module = sa.SlotAttention(num_slots=3, slot_start="per_slot")
  assert module == sa.SlotAttention(num_slots=3, slot_init="per_slot")
  model = models.SlotAttentionAutoEncoder(slot_start="per_slot")
  assert model.slot_init == model.slot_start == "per_slot"


def test_a_misspelled_option_suggests_the_right_one():
  with pytest.raises(TypeError, match="Did you mean 'num_slots'"):
    models.SlotAttentionAutoEncoder(num_slotz=3)


@pytest.mark.parametrize("part", [sa.CNNEncoder, lambda images: images])
def test_a_part_that_is_no_module_is_an_error(part):
  with pytest.raises(TypeError, match="linen module as encoder"):
    models.SlotAttentionAutoEncoder(encoder=part)


class Flattened(nn.Module):
  """Gives slots alone."""

  @nn.compact
  def __call__(self, inputs):
    return inputs.mean(axis=1, keepdims=True).repeat(3, axis=1)


def test_slot_attention_without_attention_is_an_error():
  model = SMALL.clone(slot_attention=Flattened())
  with pytest.raises(ValueError, match=r"got .* from Flattened"):
    jax.eval_shape(model.init, RNGS, jnp.zeros((2, 8, 8, 3)))


class OneSlot(nn.Module):
  """Decodes the first slot only."""

  @nn.compact
  def __call__(self, slots):
    shape = (slots.shape[0], 1, 8, 8)
    return jnp.zeros((*shape, 3)), jnp.zeros((*shape, 1))


def test_a_decoder_that_drops_slots_is_an_error():
  model = SMALL.clone(decoder=OneSlot(), resolution=None)
  with pytest.raises(ValueError, match=r"of slots \(2, 3, 8\).*OneSlot"):
    jax.eval_shape(model.init, RNGS, jnp.zeros((2, 8, 8, 3)))
