"""Tests of what follows the colon: variants and typed overrides."""

import pytest

from slot_attention_jax.config import arguments, base


def wide(config):
  config.model.slot_size = 128


def long(config):
  config.train.num_steps *= 2


def with_masks(config):
  config.data.name = "clevr_with_masks"


def apply(arg):
  config = base.base_config()
  return arguments.apply_arguments(config, arg, wide, long, with_masks)


def get(config, key):
  return dict(arguments.flatten(config))[key]


def test_no_argument_changes_nothing_but_the_lock():
  config = apply("")
  assert config.is_locked
  assert config.to_dict() == base.base_config().to_dict()


def test_variants_apply_in_order():
  assert apply("wide").model.slot_size == 128
  assert apply("debug,long").train.num_steps == 4
  assert apply("long, debug").train.num_steps == 2


def test_paper_is_the_config_as_it_is():
  assert apply("paper").to_dict() == apply("").to_dict()


def test_masks_is_accepted_for_with_masks():
  assert apply("masks").to_dict() == apply("with_masks").to_dict()
  assert apply("masks").data.name == "clevr_with_masks"


@pytest.mark.parametrize(
  ("arg", "suggestion"),
  [("wid", "wide"), ("with_mask", "with_masks"), ("debgu", "debug")],
)
def test_an_unknown_variant_suggests_the_nearest(arg, suggestion):
  expected = (
    r"Expected a variant out of \['wide', 'long', 'with_masks', 'debug'\], "
    f"got '{arg}'. Did you mean '{suggestion}'"
  )
  with pytest.raises(ValueError, match=expected):
    apply(arg)


def test_nothing_is_suggested_for_what_is_unlike_all():
  with pytest.raises(ValueError, match=r"got 'xyz'\.$"):
    apply("xyz")


@pytest.mark.parametrize(
  ("arg", "key", "value"),
  [
    ("seed=7", "seed", 7),
    ("task=set_prediction", "task", "set_prediction"),
    ("model.num_slots=5", "model.num_slots", 5),
    ("data.scenes.num_eval=9", "data.scenes.num_eval", 9),
    ("data.resolution=(64, 48)", "data.resolution", (64, 48)),
    ("data.resolution=(64,48)", "data.resolution", (64, 48)),
    ("model.decoder_channels=()", "model.decoder_channels", ()),
    ("model.encoder_channels=(8,)", "model.encoder_channels", (8,)),
    ("optim.learning_rate=1", "optim.learning_rate", 1.0),
    ("optim.learning_rate=3e-4", "optim.learning_rate", 3e-4),
    ("optim.eps=1e-5 , model.unroll=2", "optim.eps", 1e-5),
    ("model.remat_decoder=True", "model.remat_decoder", True),
    ("data.data_dir=/a/b=c", "data.data_dir", "/a/b=c"),
    ("data.data_dir=", "data.data_dir", ""),
    ("data.data_dir=123", "data.data_dir", "123"),
    ("debug,train.num_steps=9", "train.num_steps", 9),
    ("train.num_steps=9,debug", "train.num_steps", 2),
  ],
)
def test_overrides_have_the_type_of_their_key(arg, key, value):
  got = get(apply(arg), key)
  assert got == value
  assert type(got) is type(value)


@pytest.mark.parametrize(
  ("arg", "expected"),
  [
    ("model.num_slots=5.0", "model.num_slots of type int"),
    ("model.num_slots=True", "model.num_slots of type int"),
    ("data.resolution=64", "data.resolution of type tuple"),
    ("data.resolution=[64, 64]", "data.resolution of type tuple"),
    ("model.remat_decoder=1", "model.remat_decoder of type bool"),
    ("optim.learning_rate=True", "optim.learning_rate of type float"),
    ("optim.learning_rate='a'", "optim.learning_rate of type float"),
    # Not Python values at all.
    ("model.num_slots=five", "model.num_slots of type int"),
    ("model.num_slots=", "model.num_slots of type int"),
    ("model.remat_decoder=true", "model.remat_decoder of type bool"),
  ],
)
def test_a_value_of_another_type_is_an_error(arg, expected):
  with pytest.raises(ValueError, match=f"Expected {expected}"):
    apply(arg)


@pytest.mark.parametrize(
  ("key", "suggestion"),
  [
    ("modle.epsilon", "model.epsilon"),
    ("num_slots", "model.num_slots"),
    ("model.num_slot", "model.num_slots"),
    ("data.scenes.num_evl", "data.scenes.num_eval"),
  ],
)
def test_an_unknown_key_suggests_the_nearest(key, suggestion):
  expected = f"key of the config, got '{key}'. Did you mean '{suggestion}'"
  with pytest.raises(ValueError, match=expected):
    apply(f"{key}=4")


@pytest.mark.parametrize(
  "key", ["model", "data.scenes", "seed.x", "data.name.x", "data.x.num_eval"]
)
def test_a_group_or_part_of_a_key_is_not_a_key(key):
  with pytest.raises(ValueError, match=f"key of the config, got '{key}'"):
    apply(f"{key}=4")


@pytest.mark.parametrize(
  "arg", ["data.resolution=(64, 64", "seed=1,data.resolution=64, 64)"]
)
def test_unmatched_brackets_are_errors(arg):
  # They would swallow the rest of the argument.
  with pytest.raises(ValueError, match="matching brackets"):
    apply(arg)


def test_text_of_a_config_is_python_that_makes_it():
  config = apply("wide,data.data_dir=it's inf")
  text = arguments.to_text(config)
  again = base.base_config()
  again.eval.thresholds = ()
  exec(text, {"config": again})
  assert again.to_dict() == config.to_dict()
  # In the order of declaration, a line per key.
  keys = [key for key, _ in arguments.flatten(base.base_config())]
  assert [line.split(" = ")[0] for line in text.splitlines()] == [
    f"config.{key}" for key in keys
  ]
  assert keys[:3] == ["task", "seed", "data.name"]
