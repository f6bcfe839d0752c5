"""Tests of the configs: keys, overrides, shapes and the paper's numbers."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import pytest

from slot_attention_jax import tasks
from slot_attention_jax.config import base as base_config
from slot_attention_jax.data import from_config, procedural, types
from slot_attention_jax.data.multi_object import dataset
from slot_attention_jax.training import optimizers

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(
  path.stem
  for path in (ROOT / "configs").glob("*.py")
  if path.stem != "__init__"
)


def load(name, arg=""):
  return importlib.import_module(f"configs.{name}").get_config(arg)


def keys(config, prefix=""):
  """Dotted names of all keys."""
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from keys(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}"


def test_the_issue_s_configs_exist():
  expected = {
    "clevr_discovery",
    "clevr_set",
    "multi_dsprites",
    "objects_room",
    "quickstart",
    "tetrominoes",
  }
  assert expected <= set(NAMES)


RECIPES = [
  ("clevr_discovery", "fast"),
  ("clevr_discovery", "small"),
  ("clevr_set", "fast"),
  ("clevr_set", "small"),
  ("multi_dsprites", "fast"),
  ("multi_dsprites", "small"),
  ("tetrominoes", "fast"),
]
"""Recipes beside the paper's."""


@pytest.mark.parametrize(
  ("name", "arg"),
  [(name, arg) for name in NAMES for arg in ("", "debug")] + RECIPES,
)
def test_configs_have_the_keys_of_the_base_and_their_types(name, arg):
  config, base = load(name, arg), base_config.base_config()
  assert set(keys(config)) == set(keys(base))
  for key in keys(base):
    group, _, leaf = key.rpartition(".")
    default = (base[group] if group else base)[leaf]
    value = (config[group] if group else config)[leaf]
    assert type(value) is type(default), key


@pytest.mark.parametrize("name", NAMES)
def test_configs_are_locked(name):
  config = load(name)
  assert config.is_locked
  with pytest.raises(AttributeError, match="num_slot"):
    config.model.num_slot = 3
  with pytest.raises(KeyError, match="group"):
    config["group"] = 3


@pytest.mark.parametrize("name", NAMES)
def test_configs_open_with_a_docstring_and_refuse_what_they_do_not_know(name):
  assert importlib.import_module(f"configs.{name}").__doc__
  with pytest.raises(ValueError, match=r"'debug'.*, got 'debgu'"):
    load(name, "debgu")
  with pytest.raises(ValueError, match=r"key of the config, got 'model.slots'"):
    load(name, "model.slots=4")


@pytest.mark.parametrize(
  "key", ["num_slots", "modle.epsilon", "model.num_slots.x", "seed.x", "model"]
)
def test_unknown_keys_are_errors(key):
  # A group is no key either.
  with pytest.raises(ValueError, match=f"key of the config, got '{key}'"):
    load("quickstart", f"{key}=4")


@pytest.mark.parametrize("name", NAMES)
def test_debug_is_small_and_the_same_model(name):
  full, debug = load(name), load(name, "debug")
  assert debug.model.to_dict() == full.model.to_dict()
  assert debug.data.resolution == full.data.resolution
  assert debug.train.num_steps <= 4
  assert debug.train.batch_size <= 4
  # A checkpoint in the middle, an evaluation that needs padding, a picture.
  assert debug.checkpoint.every_steps < debug.train.num_steps
  assert debug.data.scenes.num_eval % debug.eval.batch_size
  assert debug.logging.num_images


@pytest.mark.parametrize(
  ("arg", "group", "key", "value"),
  [
    ("model.num_slots=5", "model", "num_slots", 5),
    ("data.resolution=(64, 48)", "data", "resolution", (64, 48)),
    ("data.resolution=(64,48)", "data", "resolution", (64, 48)),
    ("model.decoder_channels=()", "model", "decoder_channels", ()),
    ("model.encoder_channels=(8,)", "model", "encoder_channels", (8,)),
    ("optim.learning_rate=1", "optim", "learning_rate", 1.0),
    ("optim.learning_rate=3e-4", "optim", "learning_rate", 3e-4),
    ("optim.eps=1e-5 , model.unroll=2", "optim", "eps", 1e-5),
    ("model.remat_decoder=True", "model", "remat_decoder", True),
    ("data.data_dir=/a/b=c", "data", "data_dir", "/a/b=c"),
    ("data.data_dir=", "data", "data_dir", ""),
    ("data.data_dir=123", "data", "data_dir", "123"),
    ("debug,train.num_steps=9", "train", "num_steps", 9),
    ("train.num_steps=9,debug", "train", "num_steps", 2),
  ],
)
def test_overrides_are_typed(arg, group, key, value):
  got = load("quickstart", arg)[group][key]
  assert got == value
  assert type(got) is type(value)


def test_overrides_reach_the_top_level():
  config = load("quickstart", "seed=7,task=set_prediction")
  assert (config.seed, config.task) == (7, "set_prediction")


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
    # Not a Python value at all.
    ("model.num_slots=five", "model.num_slots of type int"),
    ("model.num_slots=", "model.num_slots of type int"),
    ("model.remat_decoder=true", "model.remat_decoder of type bool"),
  ],
)
def test_overrides_of_another_type_are_errors(arg, expected):
  with pytest.raises(ValueError, match=f"Expected {expected}"):
    load("quickstart", arg)


@pytest.mark.parametrize(
  "arg", ["data.resolution=(64, 64", "seed=1,data.resolution=64, 64)"]
)
def test_open_brackets_are_errors(arg):
  # They would hide the end of the argument, and the run would not notice.
  with pytest.raises(ValueError, match=r"resolution|bracket"):
    load("quickstart", arg)


def test_overrides_of_one_config_do_not_reach_the_next():
  load("quickstart", "model.num_slots=9")
  assert load("quickstart").model.num_slots != 9


def info_of(config):
  """What the data of a config are, as far as a task must know."""
  image_shape = (*config.data.resolution, 3)
  if config.data.name == "clevr" or config.task == "set_prediction":
    return types.DatasetInfo(
      name="clevr:3.1.0",
      split="train",
      image_shape=image_shape,
      num_examples=100,
      layout=types.CLEVR_LAYOUT,
      max_objects=10,
    )
  family = procedural.Tetrominoes()
  return types.DatasetInfo(
    name=family.name,
    split="train",
    image_shape=image_shape,
    num_examples=None,
    layout=family.layout,
    max_objects=family.max_objects,
    has_segmentation=True,
    own_scenes=True,
  )


def shapes_of(config):
  """Resolution, K and N as a config of our own sets them."""
  h, w = config.data.resolution
  for stride in config.model.encoder_strides:
    h, w = -(-h // stride), -(-w // stride)
  return config.data.resolution, config.model.num_slots, h * w


# Resolution, K and N, the inputs of Slot Attention, in the paper; B = 2.
SHAPES = {
  "clevr_discovery": ((128, 128), 7, 128 * 128),
  "clevr_set": ((128, 128), 10, 32 * 32),
  "multi_dsprites": ((64, 64), 6, 64 * 64),
  "tetrominoes": ((35, 35), 4, 35 * 35),
}


@pytest.mark.parametrize(
  ("name", "arg"), [(name, "") for name in NAMES] + RECIPES
)
def test_models_give_the_shapes_of_the_data(name, arg):
  config = load(name, arg)
  expected = SHAPES.get(name) if not arg else None
  (h, w), k, n = expected or shapes_of(config)
  assert config.data.resolution == (h, w)
  task = tasks.create_task(config, info_of(config))
  output = jax.eval_shape(
    lambda key: task.apply(task.init(key), jnp.zeros((2, h, w, 3)), key),
    jax.random.key(0),
  )
  assert output.attention.shape == (2, config.model.num_iterations, k, n)
  assert output.slots.shape == (2, k, config.model.slot_size)
  if config.task == "discovery":
    assert output.reconstruction.shape == (2, h, w, 3)
    assert output.images.shape == (2, k, h, w, 3)
    assert output.masks.shape == (2, k, h, w, 1)
  else:
    assert output.predictions.shape == (2, k, types.CLEVR_LAYOUT.size)


@pytest.mark.parametrize(
  ("name", "arg"), [(name, "") for name in NAMES] + RECIPES
)
def test_the_best_metric_is_one_that_the_task_has(name, arg):
  config = load(name, arg)
  task = tasks.create_task(config, info_of(config))
  best = config.checkpoint.best_metric
  assert best in task.metric_names
  # An error is best when it is small, a score when it is large.
  small = best in ("mse", "loss")
  assert config.checkpoint.best_mode == ("min" if small else "max")


PAPER = {
  # warm-up, decay, batch, steps, K; the rest is the same in all.
  "clevr_discovery": (10_000, 100_000, 64, 500_000, 7),
  "clevr_set": (1_000, 50_000, 512, 150_000, 10),
  "multi_dsprites": (10_000, 100_000, 64, 500_000, 6),
  "tetrominoes": (10_000, 100_000, 64, 500_000, 4),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_recipe_paper_is_the_config_as_it_is(name):
  assert load(name, "paper").to_dict() == load(name).to_dict()
  with pytest.raises(ValueError, match=r"'fast',.* got 'quick'"):
    load(name, "quick")


@pytest.mark.parametrize("name", [*PAPER, "objects_room"])
def test_the_recipe_masks_reads_a_set_with_masks_or_nothing(name):
  config = load(name, "masks")
  assert config.data.name in dataset.NAMES
  assert not config.data.fallback
  # Beside other recipes it changes the data alone.
  for recipe in [r for n, r in RECIPES if n == name]:
    both, one = load(name, f"{recipe},masks"), load(name, recipe)
    assert both.data.name == config.data.name
    assert both.model.to_dict() == one.model.to_dict()
    assert both.data.resolution == one.data.resolution


@pytest.mark.parametrize(("name", "recipe"), RECIPES)
def test_recipes_are_what_keys_can_be_set_after(name, recipe):
  config = load(name, f"{recipe},train.num_steps=7")
  full = load(name, recipe)
  assert config.train.num_steps == 7
  assert full.train.num_steps % 10 == 0
  assert full.optim.decay_steps == full.train.num_steps
  # The same objective, on fewer updates than the paper's.
  assert full.task == load(name).task
  assert full.train.num_steps < load(name).train.num_steps
  # On files, where the task has some, unless the recipe is for small scenes.
  assert full.data.name == load(name).data.name or recipe == "small"
  debug = load(name, f"{recipe},debug")
  assert debug.data.scenes.num_train <= 8
  assert debug.model.to_dict() == full.model.to_dict()


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_settings(name):
  config = load(name)
  assert (
    config.optim.warmup_steps,
    config.optim.decay_steps,
    config.train.batch_size,
    config.train.num_steps,
    config.model.num_slots,
  ) == PAPER[name]
  optim, model = config.optim, config.model
  assert (optim.learning_rate, optim.decay_rate) == (4e-4, 0.5)
  assert (optim.b1, optim.b2, optim.eps) == (0.9, 0.999, 1e-8)
  assert optim.clip_norm == 0.0
  assert model.num_iterations == 3
  assert (model.slot_size, model.mlp_hidden_size) == (64, 128)
  assert model.epsilon == 1e-8
  assert model.precision == "float32"


def test_the_paper_s_learning_rate_at_known_steps():
  _, schedule = optimizers.create_optimizer(load("clevr_discovery").optim)
  assert float(schedule(0)) == 0.0
  assert float(schedule(10_000)) == pytest.approx(3.732e-4, rel=1e-4)
  assert float(schedule(500_000)) == pytest.approx(1.25e-5, rel=1e-5)
  _, schedule = optimizers.create_optimizer(load("clevr_set").optim)
  assert float(schedule(1_000)) == pytest.approx(4e-4 * 0.5**0.02, rel=1e-5)
  assert float(schedule(150_000)) == pytest.approx(5e-5, rel=1e-5)


def test_the_paper_s_data():
  discovery, prediction = load("clevr_discovery"), load("clevr_set")
  assert discovery.task == "discovery"
  assert discovery.data.max_objects == 6
  assert from_config.crop_of(discovery) == "paper"
  assert prediction.task == "set_prediction"
  assert prediction.data.max_objects == 0
  assert from_config.crop_of(prediction) is None
  assert prediction.data.tfds.num_train_eval == 512
  assert prediction.eval.thresholds == (float("inf"), 1.0, 0.5, 0.25, 0.125)
  assert prediction.model.encoder_strides == (1, 2, 2, 1)


def test_the_paper_s_numbers_of_parameters():
  # 890,308 and 380,755 in the reference; flax's GRU has 128 fewer, it merges
  # two biases.
  for name, expected in (("clevr_discovery", 890_180), ("clevr_set", 380_627)):
    config = load(name)
    task = tasks.create_task(config, info_of(config))
    params = jax.eval_shape(task.init, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(params)) == expected
