"""Tests of parameters that a training starts from."""

import contextlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.data import from_config, types
from slot_attention_jax.modules import background
from slot_attention_jax.training import claimed_run, initial_weights

SHARED = {
  "num_slots": 3,
  "num_iterations": 2,
  "slot_size": 8,
  "mlp_hidden_size": 8,
  "encoder_channels": (4, 6),
  "encoder_kernel_sizes": (4, 3),
  "encoder_strides": (2, 1),
  "encoder_mlp_sizes": (8, 8),
}
SMALL = sa.SlotAttentionAutoEncoder(
  **SHARED,
  resolution=(12, 16),
  broadcast_size=(3, 4),
  decoder_channels=(5,),
  decoder_kernel_sizes=(4, 4),
  decoder_strides=(2, 2),
)
SETS = sa.SlotAttentionClassifier(
  **SHARED, num_properties=5, head_hidden_size=8
)


def images_of(size, seed=0):
  return jax.random.uniform(jax.random.key(seed), (2, *size, 3)) * 2 - 1


def init(model, size, seed=0):
  """Parameters that are nowhere 0, as the initial biases are."""
  params = jax.jit(model.init)(jax.random.key(seed), images_of(size))
  leaves, treedef = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
  return jax.tree.unflatten(
    treedef,
    [
      x + 0.1 * jax.random.normal(k, x.shape)
      for x, k in zip(leaves, keys, strict=True)
    ],
  )


def shapes_of(model, size):
  return jax.eval_shape(model.init, jax.random.key(0), images_of(size))


def enlarge(images, factor):
  return np.asarray(images).repeat(factor, axis=-3).repeat(factor, axis=-2)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_model_of_larger_images_starts_as_the_smaller_one(factor):
  size = (12 * factor, 16 * factor)
  larger = SMALL.clone(
    resolution=size,
    encoder_kernel_sizes=(4 * factor, 3),
    encoder_strides=(2 * factor, 1),
    decoder_kernel_sizes=(4, 4 * factor),
    decoder_strides=(2, 2 * factor),
  )
  params = init(SMALL, (12, 16))
  fitted = initial_weights.fit(
    params, SMALL, larger, shapes_of(larger, size), "weights"
  )
  images = images_of((12, 16), 5)
  noise = jax.random.normal(jax.random.key(6), (2, 3, 8))
  before = jax.jit(SMALL.apply)(params, images, noise=noise)
  after = jax.jit(larger.apply)(fitted, enlarge(images, factor), noise=noise)
  np.testing.assert_allclose(after.slots, before.slots, atol=1e-5)
  np.testing.assert_allclose(
    after.masks, enlarge(before.masks, factor), atol=1e-5
  )
  np.testing.assert_allclose(
    after.reconstruction, enlarge(before.reconstruction, factor), atol=1e-5
  )


def predictions(model, params, images):
  noise = jax.random.normal(jax.random.key(6), (2, 3, 8))
  return jax.jit(model.apply)(params, images, noise=noise).predictions


def test_a_set_predictor_of_larger_images_starts_as_the_smaller_one():
  larger = SETS.clone(encoder_kernel_sizes=(8, 3), encoder_strides=(4, 1))
  params, images = init(SETS, (12, 16)), images_of((12, 16), 5)
  fitted = initial_weights.fit(
    params, SETS, larger, shapes_of(larger, (24, 32)), "weights"
  )
  np.testing.assert_allclose(
    predictions(larger, fitted, enlarge(images, 2)),
    predictions(SETS, params, images),
    atol=1e-5,
  )


def test_attention_moments_begin_as_if_they_were_not_there():
  other = SETS.clone(attention_moments=True)
  params, images = init(SETS, (12, 16)), images_of((12, 16), 5)
  shapes = shapes_of(other, (12, 16))
  fitted = initial_weights.fit(params, SETS, other, shapes, "weights")
  before = predictions(SETS, params, images)
  np.testing.assert_array_equal(predictions(other, fitted, images), before)
  fitted["params"]["moments"]["kernel"] += 0.1
  changed = predictions(other, fitted, images)
  assert np.abs(changed - before).max() > 1e-3


def test_attention_moments_are_kept_and_not_dropped():
  with_moments = SETS.clone(attention_moments=True)
  params = init(with_moments, (12, 16))
  shapes = shapes_of(with_moments, (12, 16))
  fitted = initial_weights.fit(params, with_moments, with_moments, shapes, "")
  jax.tree.map(np.testing.assert_array_equal, params, fitted)
  message = r"model\.attention_moments: False, in the weights True"
  with pytest.raises(ValueError, match=message):
    initial_weights.fit(
      params, with_moments, SETS, shapes_of(SETS, (12, 16)), "weights"
    )


def test_an_error_of_another_setting_does_not_name_the_moments():
  other = SETS.clone(attention_moments=True, mlp_hidden_size=0)
  with pytest.raises(ValueError, match=r"mlp_hidden_size: 0") as info:
    initial_weights.fit(
      init(SETS, (12, 16)), SETS, other, shapes_of(other, (12, 16)), "weights"
    )
  assert "moments" not in str(info.value)


def test_parameters_of_the_same_model_stay_as_they_are():
  params = init(SETS, (12, 16))
  fitted = initial_weights.fit(
    params, SETS, SETS, shapes_of(SETS, (12, 16)), "weights"
  )
  jax.tree.map(np.testing.assert_array_equal, params, fitted)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    # A larger kernel with the same stride is another layer.
    (
      {"encoder_kernel_sizes": (8, 3)},
      r"model\.encoder_kernel_sizes: \(8, 3\), in the weights \(4, 3\)",
    ),
    # Not a whole number of times as large.
    (
      {"encoder_kernel_sizes": (6, 3), "encoder_strides": (3, 1)},
      r"model\.encoder_strides: \(3, 1\), in the weights \(2, 1\)",
    ),
    (
      {"num_slots": 4, "slot_init": "per_slot"},
      r"model\.num_slots: 4, in the weights 3",
    ),
    ({"mlp_hidden_size": 0}, r"model\.mlp_hidden_size: 0, in the weights 8"),
    # That depends on the data.
    (
      {"num_properties": 7},
      r"head/dense_1/bias: \(7,\), in the weights \(5,\)",
    ),
  ],
)
def test_another_model_is_an_error_that_names_settings(changes, message):
  other = SETS.clone(**changes)
  with pytest.raises(ValueError, match=message) as info:
    initial_weights.fit(
      init(SETS, (12, 16)), SETS, other, shapes_of(other, (12, 16)), "my file"
    )
  assert "from my file" in str(info.value)


def test_a_background_is_a_setting():
  with_one = SMALL.clone(background=background.SmoothBackground(grid=2))
  shapes = {m: shapes_of(m, (12, 16)) for m in (SMALL, with_one)}
  for model, other, message in (
    (SMALL, with_one, r"model\.background_grid: 2, in the weights 0"),
    (with_one, SMALL, r"model\.background_grid: 0, in the weights 2"),
  ):
    params = jax.tree.map(lambda x: np.zeros(x.shape), shapes[model])
    with pytest.raises(ValueError, match=message):
      initial_weights.fit(params, model, other, shapes[other], "weights")


def test_another_task_is_an_error():
  message = "SlotAttentionClassifier, .* got a SlotAttentionAutoEncoder"
  with pytest.raises(ValueError, match=message):
    initial_weights.fit(
      init(SMALL, (12, 16)), SMALL, SETS, shapes_of(SETS, (12, 16)), "weights"
    )


def test_dtypes_become_float32():
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), init(SETS, (12, 16)))
  fitted = initial_weights.fit(
    params, SETS, SETS, shapes_of(SETS, (12, 16)), "weights"
  )
  assert {x.dtype for x in jax.tree.leaves(fitted)} == {np.dtype(np.float32)}


# Data of one's own, of which only the config is known at first.


def trained_of(model, size=(12, 16)):
  """A trained model, with zeros in place of its parameters."""
  params = jax.tree.map(lambda x: np.zeros(x.shape), shapes_of(model, size))
  return SimpleNamespace(name="mine", model=model, params=params, steps=1)


def config_of(model, task, **changes):
  config = sa.load_config("quickstart:plain").copy_and_resolve_references()
  options = {k: getattr(model, k) for k in model.options() if k in config.model}
  config.model.update(options | {"background_grid": 0, "preset": ""} | changes)
  config.task, config.data.name = task, "mine"
  return config


@pytest.mark.parametrize(
  ("model", "task"), [(SMALL, "discovery"), (SETS, "set_prediction")]
)
def test_a_config_alone_tells_all_but_what_the_data_say(model, task):
  trained = trained_of(model)
  # Neither the size of the images nor that of the property vectors.
  initial_weights.check_config(trained, config_of(model, task))
  wrong = config_of(model, task, slot_size=6)
  with pytest.raises(ValueError, match=r"model\.slot_size: 6, .*weights 8"):
    initial_weights.check_config(trained, wrong)
  other = SETS if model is SMALL else SMALL
  with pytest.raises(ValueError, match="the model of the config's task"):
    initial_weights.check_config(trained_of(other), config_of(model, task))


def test_property_vectors_of_another_size_leave_nothing(tmp_path, monkeypatch):
  info = types.DatasetInfo(
    *("mine", "train", (12, 16, 3), None, types.CLEVR_LAYOUT), max_objects=3
  )
  monkeypatch.setitem(
    from_config._REGISTERED, "mine", lambda *a, **k: SimpleNamespace(info=info)
  )
  config = config_of(SETS, "set_prediction")
  config.train.initial_weights = "mine"
  with (
    contextlib.ExitStack() as stack,
    pytest.raises(ValueError, match=r"bias: \(19,\), in the weights \(5,\)"),
  ):
    claimed_run.claim_and_prepare(
      stack, config, tmp_path / "run", lambda name: trained_of(SETS)
    )
  assert not list(tmp_path.iterdir())
