"""Tests of the experiments in configs/: their keys, shapes and numbers."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax import models, tasks
from slot_attention_jax.config import arguments, base, preset
from slot_attention_jax.data import from_config, procedural, types
from slot_attention_jax.data.multi_object import dataset
from slot_attention_jax.training import checks, initial_weights, optimizers

ROOT = pathlib.Path(__file__).parents[1]
NAMES = [
  "clevr_discovery",
  "clevr_set",
  "folder",
  "multi_dsprites",
  "objects_room",
  "quickstart",
  "tetrominoes",
]
# Variants with a schedule of their own.
VARIANTS = [
  "clevr_discovery:fast",
  "clevr_discovery:small",
  "clevr_discovery:small,background",
  "clevr_discovery:small,background,enlarged",
  "clevr_set:fast",
  "clevr_set:small",
  "clevr_set:small,enlarged",
  "multi_dsprites:fast",
  "multi_dsprites:small",
  "multi_dsprites:small,background",
  "multi_dsprites:small,background,enlarged",
  "tetrominoes:fast",
]
WITH_VARIANTS = [
  *NAMES,
  *VARIANTS,
  "quickstart:plain",
  "quickstart:robust",
]
# Warm-up, decay, batch size, steps and K; the rest is the same in all.
PAPER = {
  "clevr_discovery": (10_000, 100_000, 64, 500_000, 7),
  "clevr_set": (1_000, 50_000, 512, 150_000, 10),
  "multi_dsprites": (10_000, 100_000, 64, 500_000, 6),
  "tetrominoes": (10_000, 100_000, 64, 500_000, 4),
}


def flat(config):
  return dict(arguments.flatten(config))


def test_expected_configs_exist():
  files = {path.stem for path in (ROOT / "configs").glob("*.py")}
  assert files == {*NAMES, "__init__"}


@pytest.mark.parametrize(
  "name", [*WITH_VARIANTS, *(f"{n}:debug" for n in NAMES)]
)
def test_configs_have_the_keys_of_the_base_and_their_types(name):
  config, expected = flat(sa.load_config(name)), flat(base.base_config())
  assert list(config) == list(expected)
  for key, default in expected.items():
    assert type(config[key]) is type(default), key


@pytest.mark.parametrize("name", NAMES)
def test_configs_are_locked(name):
  config = sa.load_config(name)
  assert config.is_locked
  with pytest.raises(AttributeError, match="num_slot"):
    config.model.num_slot = 3
  with pytest.raises(KeyError, match="group"):
    config["group"] = 3


@pytest.mark.parametrize("name", NAMES)
def test_configs_explain_themselves_and_refuse_unknown_arguments(name):
  module = importlib.import_module(f"configs.{name}")
  docstring = module.__doc__
  assert f"main --config={name}`" in docstring
  for line in ("Run: ", "Cost"):
    assert f"\n{line}" in docstring
  with pytest.raises(ValueError, match=r"variant out of .*'debug'.*'debgu'"):
    module.get_config("debgu")
  with pytest.raises(ValueError, match=r"key of the config, got 'model.slots'"):
    module.get_config("model.slots=4")


@pytest.mark.parametrize("name", NAMES)
def test_configs_share_nothing_that_one_changes(name):
  sa.load_config(f"{name}:model.num_slots=9")
  assert sa.load_config(name).model.num_slots != 9


@pytest.mark.parametrize("name", NAMES)
def test_each_file_states_what_it_trains(name):
  """The keys of one experiment are read in one file."""
  text = (ROOT / "configs" / f"{name}.py").read_text(encoding="utf-8")
  keys = [
    "task",
    "data.name",
    "data.resolution",
    *(f"model.{k}" for k in ("num_slots", "num_iterations", "slot_size")),
    *(
      ["model.preset"]
      if sa.load_config(name).model.preset
      else [
        f"model.encoder_{k}" for k in ("channels", "kernel_sizes", "strides")
      ]
    ),
    *(f"optim.{k}" for k in ("name", "learning_rate", "warmup_steps")),
    "train.batch_size",
    "train.num_steps",
    "checkpoint.best_metric",
  ]
  missing = [key for key in keys if f"  config.{key} = " not in text]
  assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_debug_is_small_and_the_same_model(name):
  config, debug = sa.load_config(name), sa.load_config(f"{name}:debug")
  assert debug.model.to_dict() == config.model.to_dict()
  assert debug.data.resolution == config.data.resolution
  assert debug.train.num_steps <= 4
  assert debug.train.batch_size <= 4
  # A checkpoint in the middle, an evaluation that needs padding, an image.
  assert debug.checkpoint.every_steps < debug.train.num_steps
  assert debug.data.scenes.num_eval % debug.eval.batch_size
  assert debug.logging.num_images


@pytest.mark.parametrize("name", [*PAPER, "objects_room"])
def test_with_masks_reads_a_multi_object_dataset_or_fails(name):
  config = sa.load_config(f"{name}:with_masks")
  assert config.data.name in dataset.NAMES
  assert not config.data.fallback
  if config.task == "discovery":
    assert config.checkpoint.best_metric == "fg_ari"
  # Beside another variant it changes the data only.
  for variant in [v for v in VARIANTS if v.startswith(f"{name}:")]:
    one = sa.load_config(variant)
    both = sa.load_config(f"{variant},with_masks")
    assert both.data.name == config.data.name
    assert both.model.to_dict() == one.model.to_dict()
    assert both.data.resolution == one.data.resolution


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_train_the_same_objective_in_fewer_steps(name):
  config = sa.load_config(name)
  paper = sa.load_config(name.partition(":")[0])
  assert config.task == paper.task
  assert config.train.num_steps < paper.train.num_steps
  assert config.train.num_steps % 10 == 0
  assert config.optim.decay_steps == config.train.num_steps
  # On the same data, unless the variant is for small scenes.
  assert config.data.name == paper.data.name or ":small" in name
  changed = sa.load_config(f"{name},train.num_steps=7")
  assert changed.train.num_steps == 7
  debug = sa.load_config(f"{name},debug")
  assert debug.data.scenes.num_train <= 8
  assert debug.model.to_dict() == config.model.to_dict()


def info_of(config):
  """What a task must know of a config's data."""
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


# Resolution, K, N (the inputs of Slot Attention) and parameters, as the paper
# and the reference have them. The reference has 890,308 and 380,755 parameters;
# flax's GRU has 128 fewer, it merges two biases.
SHAPES = {
  "clevr_discovery": ((128, 128), 7, 128 * 128, 890_180),
  "clevr_set": ((128, 128), 10, 32 * 32, 380_627),
  "multi_dsprites": ((64, 64), 6, 64 * 64, None),
  "tetrominoes": ((35, 35), 4, 35 * 35, None),
}


def shapes_of(config):
  """The same as the config says."""
  h, w = config.data.resolution
  for stride in config.model.encoder_strides:
    h, w = -(-h // stride), -(-w // stride)
  return config.data.resolution, config.model.num_slots, h * w, None


@pytest.mark.parametrize("name", WITH_VARIANTS)
def test_models_give_the_shapes_of_the_data(name):
  config = preset.resolve(sa.load_config(name))
  (h, w), k, n, num_params = SHAPES.get(name) or shapes_of(config)
  assert config.data.resolution == (h, w)
  model = tasks.create_task(config, info_of(config)).model
  rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  output, params = jax.eval_shape(
    model.init_with_output, rngs, jnp.zeros((2, h, w, 3))
  )
  assert output.attention.shape == (2, config.model.num_iterations, k, n)
  assert output.slots.shape == (2, k, config.model.slot_size)
  if config.task == "discovery":
    assert output.reconstruction.shape == (2, h, w, 3)
    assert output.images.shape == (2, k, h, w, 3)
    assert output.masks.shape == (2, k, h, w, 1)
  else:
    assert output.predictions.shape == (2, k, types.CLEVR_LAYOUT.size)
  if num_params:
    assert sum(x.size for x in jax.tree.leaves(params)) == num_params


@pytest.mark.parametrize(
  "name",
  [
    "clevr_discovery:small",
    "clevr_discovery:small,background",
    "clevr_set:small",
    "multi_dsprites:small",
    "multi_dsprites:small,background",
  ],
)
def test_the_enlarged_model_starts_from_the_small_one(name):
  small, large = (
    tasks.create_task(config, info_of(config))
    for config in map(sa.load_config, (name, f"{name},enlarged"))
  )
  assert large.image_shape[0] == 2 * small.image_shape[0]
  given, wanted = (
    jax.eval_shape(task.init, jax.random.key(0)) for task in (small, large)
  )
  given = jax.tree.map(lambda x: np.zeros(x.shape), given)
  fitted = initial_weights.fit(given, small.model, large.model, wanted, "run")
  assert jax.tree.map(np.shape, fitted) == jax.tree.map(np.shape, wanted)


@pytest.mark.parametrize(
  "name", ["clevr_discovery", "clevr_set", "multi_dsprites"]
)
@pytest.mark.parametrize(
  "variants", ["enlarged", "enlarged,small", "fast,enlarged"]
)
def test_enlarged_is_for_the_small_model(name, variants):
  with pytest.raises(
    ValueError, match=r"^Expected the variant .*small,enlarged"
  ):
    sa.load_config(f"{name}:{variants}")


@pytest.mark.parametrize("name", WITH_VARIANTS)
def test_the_best_metric_is_one_that_the_task_has(name):
  config = sa.load_config(name)
  task = tasks.create_task(config, info_of(config))
  config = checks.with_best_metric(config, task)
  best = config.checkpoint.best_metric
  assert best in task.metric_names
  # An error is best when it is small, a score when it is large.
  small = best in ("mse", "loss")
  assert config.checkpoint.best_mode == ("min" if small else "max")


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_s_settings(name):
  config = sa.load_config(name)
  optim, model = config.optim, config.model
  assert (
    optim.warmup_steps,
    optim.decay_steps,
    config.train.batch_size,
    config.train.num_steps,
    model.num_slots,
  ) == PAPER[name]
  assert (optim.learning_rate, optim.decay_rate) == (4e-4, 0.5)
  assert (optim.b1, optim.b2, optim.eps) == (0.9, 0.999, 1e-8)
  assert optim.clip_norm == 0.0
  assert model.num_iterations == 3
  assert (model.slot_size, model.mlp_hidden_size) == (64, 128)
  assert model.epsilon == 1e-8
  assert model.precision == "float32"


@pytest.mark.parametrize(
  ("name", "presets", "preset"),
  [
    ("clevr_discovery", models.AUTOENCODER_PRESETS, "clevr"),
    ("multi_dsprites", models.AUTOENCODER_PRESETS, "multi_dsprites"),
    ("tetrominoes", models.AUTOENCODER_PRESETS, "tetrominoes"),
    ("clevr_set", models.CLASSIFIER_PRESETS, "clevr"),
  ],
)
def test_configs_and_the_library_s_presets_are_the_same_models(
  name, presets, preset
):
  config = sa.load_config(name)
  expected = dict(presets[preset])
  expected.pop("num_properties", None)
  resolution = expected.pop("resolution", config.data.resolution)
  assert resolution == config.data.resolution
  assert {key: config.model[key] for key in expected} == expected


def test_the_paper_s_learning_rate_at_known_steps():
  optim = sa.load_config("clevr_discovery").optim
  _, schedule = optimizers.create_optimizer(optim)
  assert float(schedule(0)) == 0.0
  assert float(schedule(10_000)) == pytest.approx(3.732e-4, rel=1e-4)
  assert float(schedule(500_000)) == pytest.approx(1.25e-5, rel=1e-5)
  _, schedule = optimizers.create_optimizer(sa.load_config("clevr_set").optim)
  assert float(schedule(1_000)) == pytest.approx(4e-4 * 0.5**0.02, rel=1e-5)
  assert float(schedule(150_000)) == pytest.approx(5e-5, rel=1e-5)


def test_the_paper_s_data():
  discovery, prediction = map(sa.load_config, ("clevr_discovery", "clevr_set"))
  assert discovery.task == "discovery"
  assert discovery.data.max_objects == 6
  assert from_config.resolve_crop(discovery) == "paper"
  assert prediction.task == "set_prediction"
  assert prediction.data.max_objects == 0
  assert from_config.resolve_crop(prediction) is None
  assert prediction.data.tfds.num_train_eval == 512
  assert prediction.eval.thresholds == (float("inf"), 1.0, 0.5, 0.25, 0.125)
  assert prediction.model.encoder_strides == (1, 2, 2, 1)
