"""Tests of the way from the settings of a config to the model."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.models import from_config
from slot_attention_jax.runtime import files


def settings_of(config):
  """The `model` group as it comes back from a file."""
  return json.loads(json.dumps(files.jsonable(config.model.to_dict())))


def test_settings_from_json_make_the_same_model():
  config = sa.load_config("quickstart:plain,model.precision=bfloat16")
  made, again = (
    from_config.create_model("discovery", settings, resolution=resolution)
    for settings, resolution in (
      (config.model, (28, 28)),
      (settings_of(config), [28, 28]),
    )
  )
  assert again == made
  # A static argument of compiled functions.
  assert hash(again) == hash(made)
  assert again.dtype == from_config.PRECISIONS["bfloat16"]
  assert again.decoder_strides == (1, 1, 2)
  assert again.slot_init == "per_slot"


def test_the_old_name_of_slot_init_is_read():
  settings = settings_of(sa.load_config("quickstart"))
  old = {
    "slot_start" if k == "slot_init" else k: v for k, v in settings.items()
  }
  assert "slot_init" not in old
  made, again = (
    from_config.create_model("discovery", s, resolution=(28, 28))
    for s in (settings, old)
  )
  assert again == made
  assert again.slot_attention.slot_init == "per_slot"


def test_set_prediction_has_the_size_of_the_properties():
  settings = settings_of(sa.load_config("clevr_set:model.head_hidden_size=8"))
  model = from_config.create_model(
    "set_prediction", settings, resolution=(128, 128), num_properties=7
  )
  assert (model.num_properties, model.head_hidden_size) == (7, 8)


def test_attention_moments_are_a_setting():
  settings = settings_of(sa.load_config("clevr_set"))
  old = {k: v for k, v in settings.items() if k != "attention_moments"}
  for given, expected in (
    (settings, False),
    (old, False),
    ({**settings, "attention_moments": True}, True),
  ):
    model = from_config.create_model(
      "set_prediction", given, resolution=(128, 128), num_properties=7
    )
    assert model.attention_moments == expected


def test_settings_missing_in_old_files_are_the_papers():
  settings = settings_of(sa.load_config("quickstart"))
  old = dict(settings)
  for name in ("slot_update", "normalization", "gradient"):
    del old[name]
  made, again = (
    from_config.create_model("discovery", s, resolution=(28, 28))
    for s in (settings, old)
  )
  assert again == made
  assert again.slot_update == "gru"
  settings["slot_update"] = "residual"
  other = from_config.create_model("discovery", settings, resolution=(28, 28))
  assert other.slot_update == "residual"


def test_a_background_grid_makes_a_background():
  settings = settings_of(
    sa.load_config(
      "quickstart:plain,model.background_grid=2,model.background_logit=3,"
      "model.precision=bfloat16"
    )
  )
  model = from_config.create_model("discovery", settings, resolution=(28, 28))
  assert (model.background.grid, model.background_grid) == (2, 2)
  assert model.background.logit == 3
  images, rngs = jnp.zeros((1, 28, 28, 3)), {"slots": jax.random.key(0)}
  shapes = jax.eval_shape(model.init, {"params": rngs["slots"], **rngs}, images)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  masks = jax.jit(model.apply)(zeros, images, rngs=rngs).masks
  expected = np.exp([3, 0, 0, 0]) / (np.exp(3) + 3)
  np.testing.assert_allclose(masks[0, :, 5, 5, 0], expected, rtol=1e-2)
  assert model.background.dtype == model.dtype
  assert hash(model) == hash(model.clone())
  del settings["background_grid"]
  older = from_config.create_model("discovery", settings, resolution=(28, 28))
  assert older.background is None
  assert model.clone(background=None) == older


@pytest.mark.parametrize(
  ("task", "changes", "message"),
  [
    ("segment", {}, "Expected task 'discovery' or .* got 'segment'"),
    ("discovery", {"precision": "half"}, r"bfloat16.*got 'half'"),
    ("discovery", {"slot_init": None}, r"none of \['slot_init'\]"),
    ("set_prediction", {}, "Expected num_properties"),
  ],
)
def test_bad_settings_are_errors(task, changes, message):
  settings = settings_of(sa.load_config("quickstart")) | changes
  settings = {k: v for k, v in settings.items() if v is not None}
  with pytest.raises(ValueError, match=message):
    from_config.create_model(task, settings, resolution=(28, 28))
