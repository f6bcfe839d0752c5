import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from slot_attention_jax import interop, losses, models
from slot_attention_jax.training import optimizers

GOLDEN = pathlib.Path(__file__).parents[1] / "testdata" / "golden"
SMALL = models.SlotAttentionAutoEncoder(
  resolution=(8, 8),
  num_slots=3,
  num_iterations=2,
  slot_size=8,
  mlp_hidden_size=8,
  encoder_channels=(4,),
  encoder_kernel_sizes=(3,),
  encoder_strides=(2,),
  encoder_mlp_sizes=(8,),
  broadcast_size=(4, 4),
  decoder_channels=(4,),
  decoder_kernel_sizes=(3, 3),
  decoder_strides=(2, 1),
)


def shapes(model, images, **options):
  rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  return jax.eval_shape(
    lambda x: model.init_with_output(rngs, x, **options), jnp.zeros(images)
  )


def sizes(output):
  return {k: v.shape for k, v in vars(output).items()}


# Shapes.


@pytest.mark.parametrize(
  ("preset", "size", "k", "n", "parameters"),
  [
    ("clevr", 128, 7, 128 * 128, 890_180),
    ("multi_dsprites", 64, 6, 64 * 64, None),
    ("tetrominoes", 35, 4, 35 * 35, None),
  ],
)
def test_autoencoder_presets(preset, size, k, n, parameters):
  model = models.SlotAttentionAutoEncoder.from_preset(preset)
  output, params = shapes(model, (2, size, size, 3))
  assert sizes(output) == {
    "reconstruction": (2, size, size, 3),
    "images": (2, k, size, size, 3),
    "masks": (2, k, size, size, 1),
    "slots": (2, k, 64),
    "attention": (2, 3, k, n),
  }
  assert set(params["params"]) == {"encoder", "slot_attention", "decoder"}
  if parameters:
    assert sum(p.size for p in jax.tree.leaves(params)) == parameters


def test_classifier_preset():
  model = models.SlotAttentionClassifier.from_preset("clevr")
  output, params = shapes(model, (2, 128, 128, 3))
  assert sizes(output) == {
    "predictions": (2, 10, 19),
    "slots": (2, 10, 64),
    "attention": (2, 3, 10, 32 * 32),
  }
  assert set(params["params"]) == {"encoder", "slot_attention", "head"}
  assert sum(p.size for p in jax.tree.leaves(params)) == 380_627


@pytest.mark.parametrize("preset", models.AUTOENCODER_PRESETS)
def test_presets_have_the_papers_widths(preset):
  # What the shapes of the outputs do not show: the hidden layers.
  model = models.SlotAttentionAutoEncoder.from_preset(preset)
  size = model.resolution[0]
  _, params = shapes(model, (1, size, size, 3))
  width = 64 if preset == "clevr" else 32
  for part in ("encoder", "decoder"):
    layers = {k: v for k, v in params["params"][part].items() if "conv" in k}
    last = max(layers)
    for name, layer in layers.items():
      if part == "decoder" and name == last:
        assert layer["kernel"].shape == (3, 3, 4, width)
      else:
        assert layer["kernel"].shape[:2] == (5, 5)
        assert layer["bias"].shape == (width,)


def test_slot_options_are_passed_on():
  noise = np.zeros((2, 5, 8), np.float32)
  output, _ = shapes(SMALL, (2, 8, 8, 3), noise=noise, num_iterations=4)
  assert output.masks.shape == (2, 5, 8, 8, 1)
  assert output.attention.shape == (2, 4, 5, 16)
  classifier = models.SlotAttentionClassifier(num_properties=5)
  output, _ = shapes(classifier, (2, 16, 16, 3), num_slots=3)
  assert output.predictions.shape == (2, 3, 5)


def test_overrides_of_a_preset():
  model = models.SlotAttentionClassifier.from_preset("clevr", num_slots=4)
  assert (model.num_slots, model.num_properties) == (4, 19)


# Properties.


def run_small():
  """Parameters, images and noise of the small model."""
  rng = np.random.default_rng(0)
  tree = shapes(SMALL, (2, 8, 8, 3))[1]
  params = jax.tree.map(
    lambda p: rng.normal(size=p.shape, scale=0.5).astype(np.float32), tree
  )
  images = rng.uniform(-1, 1, size=(2, 8, 8, 3)).astype(np.float32)
  noise = rng.normal(size=(2, 3, 8)).astype(np.float32)
  return params, images, noise


def test_masks_mix_the_images():
  params, images, noise = run_small()
  output = jax.jit(SMALL.apply)(params, images, noise=noise)
  masks = np.asarray(output.masks)
  assert masks.min() > 0
  np.testing.assert_allclose(masks.sum(axis=1), 1, atol=1e-6)
  np.testing.assert_allclose(
    output.reconstruction, (masks * output.images).sum(axis=1), atol=1e-6
  )


def test_encode_then_decode_is_the_whole_model():
  params, images, noise = run_small()
  expected = jax.jit(SMALL.apply)(params, images, noise=noise)

  @jax.jit
  def halves(params, images, noise):
    slots, attention = SMALL.apply(params, images, noise=noise, method="encode")
    return *SMALL.apply(params, slots, method="decode"), slots, attention

  got = models.AutoEncoderOutput(*halves(params, images, noise))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, expected
  )
  # The encoder takes images of any size.
  other = jnp.zeros((1, 12, 6, 3))
  slots, attention = jax.eval_shape(
    lambda x: SMALL.apply(
      params, x, method="encode", rngs={"slots": jax.random.key(0)}
    ),
    other,
  )
  assert slots.shape == (1, 3, 8)
  assert attention.shape == (1, 2, 3, 18)


@pytest.mark.thorough
def test_remat_of_the_decoder_keeps_gradients():
  params, _, slots = run_small()

  def gradient(model):
    def loss(params):
      reconstruction, _, _ = model.apply(params, slots, method="decode")
      return (reconstruction**2).mean()

    return jax.grad(loss)

  remat = SMALL.clone(remat_decoder=True)
  assert "remat" in str(jax.make_jaxpr(gradient(remat))(params))
  assert "remat" not in str(jax.make_jaxpr(gradient(SMALL))(params))
  expected = jax.jit(gradient(SMALL))(params)
  got = jax.jit(gradient(remat))(params)
  assert optax.tree.norm(expected) > 0.01
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
    got,
    expected,
  )


def test_bfloat16():
  output, params = shapes(SMALL.clone(dtype=jnp.bfloat16), (2, 8, 8, 3))
  assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  dtypes = {k: v.dtype.name for k, v in vars(output).items()}
  assert dtypes == {
    "reconstruction": "float32",
    "images": "bfloat16",
    "masks": "float32",
    "slots": "bfloat16",
    "attention": "float32",
  }
  classifier = models.SlotAttentionClassifier(dtype=jnp.bfloat16)
  output, _ = shapes(classifier, (2, 16, 16, 3))
  assert output.predictions.dtype == jnp.float32


# Errors.


def test_unknown_presets_are_errors():
  with pytest.raises(ValueError, match=r"'clevr', .*'tetro.*got 'sprites'"):
    models.SlotAttentionAutoEncoder.from_preset("sprites")
  with pytest.raises(ValueError, match=r"\['clevr'\], got 'tetrominoes'"):
    models.SlotAttentionClassifier.from_preset("tetrominoes")


def test_images_of_another_size_are_errors():
  for images in ((2, 8, 9, 3), (8, 8, 3)):
    with pytest.raises(ValueError, match=r"images \[B, 8, 8, C\], got"):
      shapes(SMALL, images)
  with pytest.raises(ValueError, match=r"\[B, H, W, C\], got \(8, 8, 3\)"):
    shapes(models.SlotAttentionClassifier(), (8, 8, 3))


def test_a_decoder_of_another_resolution_is_an_error():
  model = SMALL.clone(broadcast_size=(5, 4))
  with pytest.raises(ValueError, match=r"\(2, 8, 8, 3\), got \(2, 10, 8, 3\)"):
    shapes(model, (2, 8, 8, 3))


# Golden values of the reference implementation.

_RENAMES = (
  (r"^encoder/conv_(\d+)", r"encoder_cnn/layer_with_weights-\1"),
  (r"^decoder/conv_(\d+)", r"decoder_cnn/layer_with_weights-\1"),
  (r"^(encoder|decoder)/position/dense", r"\1_pos/dense"),
  (r"^encoder/norm", "layer_norm"),
  (r"^encoder/mlp_(\d)", r"mlp/layer_with_weights-\1"),
  (r"^head/dense_(\d)", r"mlp_classifier/layer_with_weights-\1"),
  (r"^slot_attention/mlp_(\d)", r"slot_attention/mlp/layer_with_weights-\1"),
  (r"(norm|norm_\w+)/scale$", r"\1/gamma"),
  (r"(norm|norm_\w+)/bias$", r"\1/beta"),
)


def reference_gradient_norms(gradients):
  """Norms of the gradients by the reference's path of the variable."""
  flat = traverse_util.flatten_dict(gradients["params"], sep="/")
  flat = {k: np.asarray(v, np.float64) for k, v in flat.items()}
  # Keras' bias [2, 3D]: both rows of z and r carry our one gradient, the
  # candidate's rows carry ours of bias and of recurrent_bias.
  bias = flat["slot_attention/gru/bias"]
  recurrent = flat.pop("slot_attention/gru/recurrent_bias")
  zr, candidate = bias[: -recurrent.size], bias[-recurrent.size :]
  flat["slot_attention/gru/bias"] = np.concatenate(
    [zr, zr, candidate, recurrent]
  )
  norms = {}
  for path, gradient in flat.items():
    for pattern, replacement in _RENAMES:
      path = re.sub(pattern, replacement, path)
    norms[path] = np.linalg.norm(gradient)
  return norms


def check_gradient_norms(check, model, gradients, golden):
  expected = {
    k.removeprefix("gradnorm/"): v
    for k, v in golden.items()
    if k.startswith("gradnorm/")
  }
  got = reference_gradient_norms(gradients)
  assert set(got) == set(expected)
  # A shift of the logits of all inputs alike: the softmax over the slots sees
  # norm_slots/beta, but the beta is the same for all slots and drops out.
  beta = "slot_attention/norm_slots/beta"
  floor = 1e-6 * max(expected.values())
  assert got.pop(beta) < floor
  assert expected.pop(beta) < floor
  for path, norm in expected.items():
    quantity = f"{model}: gradient norm of a parameter, relative"
    check(quantity, got[path], norm, 1e-3, scale=norm)


def load(name):
  with np.load(GOLDEN / f"{name}.npz") as file:
    return {k: file[k] for k in file.files}


@pytest.fixture(scope="module")
def autoencoder():
  """One compilation; four Adam steps; everything of the first of them."""
  golden = load("autoencoder")
  params = interop.load_tensorflow_checkpoint(
    GOLDEN / "official_checkpoint_object_discovery"
  )
  model = models.SlotAttentionAutoEncoder.from_preset("clevr")
  rates = jnp.asarray(golden["lr"])
  optimizer = optimizers.adam(lambda count: rates[count])

  @jax.jit
  def step(params, opt_state, images, noise):
    def loss(params):
      output = model.apply(params, images, noise=noise)
      error = losses.reconstruction_loss(output.reconstruction, images)
      return error.mean(), output.replace(images=None, attention=None)

    result, gradients = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    params = optax.apply_updates(params, updates)
    return params, opt_state, *result, gradients

  opt_state = optimizer.init(params)
  results = []
  for noise in golden["noise"]:
    params, opt_state, *result = step(
      params, opt_state, golden["images"], noise
    )
    results.append(result)
  values = np.array([value for value, _, _ in results])
  _, output, gradients = results[0]
  return golden, values, output, gradients


def check_autoencoder(check, output, golden, num):
  for quantity, got, name, bound in (
    ("reconstruction", output.reconstruction, "recon_combined", 1e-4),
    ("slots", output.slots, "slots", 1e-4),
    # Half precision in the file: half a unit of 2 ** -11 at 1.
    ("masks (stored in float16)", output.masks, "masks", 3e-4),
  ):
    check(f"autoencoder: {quantity}", got, golden[name][:num], bound)


def test_golden_autoencoder_outputs_of_one_image(equal_to_reference):
  golden = load("autoencoder")
  params = interop.load_tensorflow_checkpoint(
    GOLDEN / "official_checkpoint_object_discovery"
  )
  model = models.SlotAttentionAutoEncoder.from_preset("clevr")
  output = jax.jit(model.apply)(
    params, golden["images"][:1], noise=golden["noise"][0][:1]
  )
  check_autoencoder(equal_to_reference, output, golden, 1)


@pytest.mark.thorough
def test_golden_autoencoder_outputs(autoencoder, equal_to_reference):
  golden, _, output, _ = autoencoder
  check_autoencoder(equal_to_reference, output, golden, None)


@pytest.mark.thorough
def test_golden_autoencoder_losses_over_four_adam_steps(
  autoencoder, equal_to_reference
):
  golden, values, _, _ = autoencoder
  equal_to_reference(
    "autoencoder: losses of four Adam steps, relative",
    values,
    golden["losses"],
    1e-4,
    scale=golden["losses"],
  )


@pytest.mark.thorough
def test_golden_autoencoder_gradients(autoencoder, equal_to_reference):
  golden, _, _, gradients = autoencoder
  check_gradient_norms(equal_to_reference, "autoencoder", gradients, golden)


def test_golden_learning_rates():
  # The reference's steps count from 1: its first rate is not 0.
  schedule = optimizers.warmup_exponential_decay(
    4e-4, warmup_steps=4, decay_rate=0.5, decay_steps=100_000
  )
  got = [float(schedule(step + 1)) for step in range(4)]
  np.testing.assert_allclose(got, load("autoencoder")["lr"], rtol=1e-6)


@pytest.fixture(scope="module")
def classifier():
  golden = load("classifier")
  params = interop.load_tensorflow_checkpoint(
    GOLDEN / "official_checkpoint_set_prediction"
  )
  model = models.SlotAttentionClassifier.from_preset("clevr")

  @jax.jit
  def step(params, images, target, noise):
    def loss(params):
      predictions = model.apply(params, images, noise=noise).predictions
      value = losses.set_prediction_loss(predictions, target).mean()
      return value, predictions

    return jax.value_and_grad(loss, has_aux=True)(params)

  (value, predictions), gradients = step(
    params, golden["images"], golden["target"], golden["noise"]
  )
  return golden, value, predictions, gradients


def test_golden_classifier_predictions_and_loss(classifier, equal_to_reference):
  golden, value, predictions, _ = classifier
  equal_to_reference(
    "set predictor: predictions", predictions, golden["predictions"], 1e-4
  )
  loss = golden["loss"]
  equal_to_reference(
    "set predictor: loss, relative", value, loss, 1e-4, scale=loss
  )


def test_golden_classifier_gradients(classifier, equal_to_reference):
  golden, _, _, gradients = classifier
  check_gradient_norms(equal_to_reference, "set predictor", gradients, golden)
