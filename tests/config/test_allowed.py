"""Tests of what the keys of a config may be: 200 configs that cannot be meant.

None is accepted, none ends in an error of another library, and none gets as far
as rendering, caching or compiling anything.
"""

import functools
import math

import jax
import pytest

import slot_attention_jax as sa
from slot_attention_jax import evaluate, render, train
from slot_attention_jax.config import allowed, arguments, base
from slot_attention_jax.data import cache, from_config
from slot_attention_jax.data.images import folder
from slot_attention_jax.data.procedural import datasets, scenes
from slot_attention_jax.models import from_config as models_from_config
from slot_attention_jax.modules import slot_attention, slot_init
from slot_attention_jax.runtime import user_errors
from slot_attention_jax.training import optimizers, prepared_run

NAN, INF = math.nan, math.inf
DISCOVERY, PREDICTION = "quickstart:plain,debug", "clevr_set:small,debug"
COUNTS = [0, -1, 2**40, 1.5, NAN, "3", None, True]
OPTIONAL = [-1, 2**40, 1.5, "3"]
SIZES = [(), (0, 0), (-1, 8), (8,), (8, 8, 8), (8.5, 8), (NAN, 8), 8]
LAYERS = [(0, 1, 1), (-1, 1, 1), (1.5, 1, 1), (1, 1), ("5", 5, 5)]
# What is wrong on its own: values by key.
VALUES = {
  "task": ["segmentation", ""],
  "seed": [-1, 2**32, 0.5],
  "data.name": ["", "clver", "Tetrominoes"],
  "data.resolution": SIZES,
  "data.crop": ["nonsense", "Center", "paper"],
  "data.max_objects": [-1, 0.5],
  "data.on_device": ["maybe"],
  "data.variant": ["textured", "nonsense"],
  "train.initial_weights": ["quikstart", "no/such/directory"],
  "data.scenes.num_eval": [0, -1, 2**40, 2.5],
  "data.scenes.num_train": [-1, 2**40, 0.5],
  "data.scenes.num_objects": [(3, 1), (-1, 2), (0, 3), (1, 2), (1.5, 2), ()],
  "data.scenes.held_out": ["cogent_c", "cogent_a"],
  "data.scenes.frame": [(0, 0), (240,), (-240, 320)],
  "data.scenes.tetrominoes_step": [0, 6, -1, 1.5],
  "data.tfds.train_split": ["", "records[0:9]"],
  "data.tfds.num_train_eval": [0, -1, 70_000],
  "data.folder.train_split": ["test", "all"],
  "model.num_slots": COUNTS,
  "model.num_iterations": [0, -1, 2**40, 1.5, NAN],
  "model.slot_size": [0, -1, 2**40, 1.5],
  "model.mlp_hidden_size": [-1, 1.5],
  "model.slot_init": ["random", "Shared"],
  "model.slot_update": ["lstm"],
  "model.normalization": ["max"],
  "model.gradient": ["explicit"],
  "model.epsilon": [-1.0, NAN, INF, 2.0],
  "model.encoder_channels": [(), *LAYERS],
  "model.encoder_kernel_sizes": [(), *LAYERS],
  "model.preset": ["strided3", "strided", "wide"],
  "model.encoder_strides": [(), *LAYERS],
  "model.encoder_mlp_sizes": [(0,), (-1,), (1.5,)],
  "model.broadcast_size": [*SIZES, (7, 14)],
  "model.decoder_channels": [(0, 1), (-1, 1), (1,), (1.5, 1)],
  "model.decoder_kernel_sizes": [(), *LAYERS],
  "model.decoder_strides": [(), *LAYERS, (2, 2, 2)],
  "model.background_grid": [-1, 1.5],
  "model.background_logit": [-200.0, NAN, INF],
  "model.background_weight": [-1.0, NAN, INF],
  "model.foreground_weight": [-1.0, NAN, INF],
  "model.overlap_weight": [-1.0, NAN, INF],
  "model.foreground_fall": [(5, 5), (5, 1), (-1, 5), (1.5, 3), (), (3,)],
  "model.overlap_ramp": [(5, 5), (5, 1), (-1, 5), (1.5, 3), (), (3,)],
  "model.foreground_ramp": [(5, 5), (5, 1), (-1, 5), (1.5, 3), (), (3,)],
  "model.train_iterations": [(3, 1), (0, 3), (-1, 3), (1.5, 3), (), (3,)],
  "model.early_iterations": [(3, 1), (0, 3), (-1, 3), (1.5, 3), (), (3,)],
  "model.early_steps": [-1, 1.5],
  "model.head_hidden_size": [0, -1],
  "model.attention_moments": ["yes"],
  "model.position_weight": [-1.0, NAN],
  "model.precision": ["float16", "int8"],
  "model.unroll": [0, -1, 1.5],
  "optim.name": ["sgd", "Adam"],
  "optim.schedule": ["linear"],
  "optim.learning_rate": [0.0, -1e-3, NAN, INF, 1e6],
  "optim.warmup_steps": [-1, 0.5, NAN],
  "optim.decay_rate": [0.0, -0.5, 1.5, NAN],
  "optim.decay_steps": [0, -1, 0.5],
  "optim.b1": [1.0, -0.1, NAN, 2.0],
  "optim.b2": [1.0, -0.1, NAN, 2.0],
  "optim.eps": [-1e-8, NAN, INF],
  "optim.clip_norm": [-1.0, NAN, INF],
  "train.batch_size": [0, -1, 10**12, 1.5, 3],
  "train.num_steps": [0, -1, 10**12, 1.5],
  "train.steps_per_call": [-1, 1.5],
  "train.max_minutes": [-1.0, NAN],
  "train.quick_compilation": ["yes"],
  "eval.split": ["train", "", "nonsense"],
  "eval.batch_size": [0, -1, 10**12, 1.5, 3],
  "eval.every_steps": [0, -1],
  "eval.num_slots": [*OPTIONAL, 9],
  "eval.num_iterations": OPTIONAL,
  "eval.seed": [-1, 0.5],
  "eval.thresholds": [(), (NAN,), (-2.0,), ("1",), (1.0, 1.0), 1.0],
  "eval.checkpoint": ["first", ""],
  "checkpoint.every_steps": [0, -1],
  "checkpoint.keep": [0, -1],
  "checkpoint.keep_best": [-1],
  "checkpoint.best_metric": ["ap_inf", "nonsense"],
  "checkpoint.best_mode": ["most"],
  "logging.every_steps": [0, -1],
  "logging.num_images": [-1, 0.5],
  "logging.writers": [("json",), ("jsonl", "jsonl"), "jsonl", (1,)],
  "logging.tensorboard": ["yes"],
}
# What is wrong together.
TOGETHER = [
  (PREDICTION, {"model.num_slots": 9}),
  (PREDICTION, {"eval.num_slots": 9}),
  (PREDICTION, {"checkpoint.best_metric": "fg_ari"}),
  (PREDICTION, {"data.name": "folder", "data.data_dir": ""}),
  (PREDICTION, {"data.name": "clevr_scenes", "data.data_dir": "/data"}),
  (PREDICTION, {"data.variant": "binarized"}),
  (PREDICTION, {"data.crop": "center"}),
  (PREDICTION, {"data.crop": "literal", "data.scenes.frame": (64, 64)}),
  (PREDICTION, {"data.scenes.num_objects": (3, 99)}),
  (PREDICTION, {"data.name": "clevr", "data.data_dir": "/no/such"}),
  (PREDICTION, {"data.name": "multi_dsprites", "data.fallback": False}),
  (
    DISCOVERY,
    {"model.train_iterations": (1, 3), "model.gradient": "implicit"},
  ),
  (
    DISCOVERY,
    {"model.train_iterations": (1, 3), "model.gradient": "implicit_start"},
  ),
  (DISCOVERY, {"model.train_iterations": (1, 3), "model.early_steps": 10}),
  (
    DISCOVERY,
    {"model.train_iterations": (1, 3), "model.early_iterations": (1, 5)},
  ),
  (DISCOVERY, {"model.early_iterations": (1, 5), "model.early_steps": 10}),
  (DISCOVERY, {"model.foreground_ramp": (5, 10)}),
  (DISCOVERY, {"model.foreground_fall": (5, 10)}),
  (DISCOVERY, {"model.overlap_ramp": (5, 10)}),
  (DISCOVERY, {"model.background_weight": 0.01}),
  (DISCOVERY, {"model.background_logit": 3.0}),
  (
    DISCOVERY,
    {
      "model.foreground_weight": 0.1,
      "model.foreground_ramp": (5, 10),
      "model.foreground_fall": (9, 12),
    },
  ),
  (DISCOVERY, {"model.background_grid": 2, "model.num_slots": 1}),
  (DISCOVERY, {"model.position_weight": 10.0}),
  (DISCOVERY, {"model.attention_moments": True}),
  (PREDICTION, {"model.background_grid": 1}),
  (PREDICTION, {"model.background_grid": 1, "model.background_logit": 3.0}),
  (PREDICTION, {"model.background_weight": 0.1}),
  (PREDICTION, {"model.foreground_weight": 0.1}),
  (PREDICTION, {"model.overlap_weight": 0.1}),
  (DISCOVERY, {"data.resolution": (30, 30)}),
  (DISCOVERY, {"model.num_slot": 3}),
  (DISCOVERY, {"data.scenes.num_object": (1, 2)}),
]
CASES = [
  *((DISCOVERY, {key: value}) for key in VALUES for value in VALUES[key]),
  *TOGETHER,
]


load = functools.cache(sa.load_config)


def mutated(name, changes):
  """A config with values that neither flags nor files would let through."""
  config = load(name).copy_and_resolve_references()
  with config.unlocked(), config.ignore_type():
    for key, value in changes.items():
      *groups, leaf = key.split(".")
      holder = config
      for group in groups:
        holder = holder[group]
      holder[leaf] = value
  return config


@pytest.fixture
def nothing_happens(monkeypatch):
  """Fails where anything would be rendered, decoded, compiled or run."""

  def late(*unused_args, **unused_kwargs):
    pytest.fail("too late")

  monkeypatch.setattr(cache, "build_or_load", late)
  monkeypatch.setattr(scenes, "SceneDataset", late)
  monkeypatch.setattr(datasets, "open", late)
  monkeypatch.setattr(folder, "open", late)
  monkeypatch.setattr(prepared_run, "open_checkpointer", late)
  monkeypatch.setattr(jax, "jit", late)


def test_there_are_enough_cases_for_every_key_that_has_a_range():
  assert len(CASES) >= 200
  free = {"data.data_dir", "data.cache_dir", "data.fallback"}
  free |= {"model.remat_decoder"}
  assert set(VALUES) == set(allowed.ALLOWED) - free


@pytest.mark.parametrize(
  ("name", "changes"), CASES, ids=[f"{n}-{c}" for n, c in CASES]
)
def test_what_cannot_be_meant_is_refused_before_anything_happens(
  name, changes, nothing_happens, tmp_path
):
  config = mutated(name, changes)
  with pytest.raises((ValueError, FileNotFoundError)) as refused:
    train.train(config, str(tmp_path / "run"))
  assert user_errors.is_users(refused.value)
  message = str(refused.value)
  assert message.startswith("Expected")
  keys = [key.rpartition(".")[2] for key in changes]
  assert any(key in message for key in keys), message
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("run", [evaluate.evaluate_model, render.render])
@pytest.mark.parametrize("key", ["model.epsilon", "data.resolution"])
def test_evaluation_and_rendering_check_values_too(
  run, key, nothing_happens, tmp_path
):
  config = mutated(DISCOVERY, {key: VALUES[key][0]})
  with pytest.raises(ValueError, match=key):
    run(config, str(tmp_path / "run"))


def test_every_key_of_the_base_has_a_rule_that_accepts_its_default():
  config = base.base_config()
  assert [*allowed.ALLOWED] == [key for key, _ in arguments.flatten(config)]
  allowed.check_values(config)


@pytest.mark.parametrize(
  "changes",
  [
    {"eval.thresholds": (INF, 1.0)},
    {"eval.thresholds": (-1.0,)},
    {"model.mlp_hidden_size": 0},
    {"model.encoder_mlp_sizes": ()},
    {"model.epsilon": 0},
    {"model.train_iterations": (1, 5)},
    {"optim.clip_norm": 0},
    {"train.max_minutes": INF},
    {"logging.num_images": 0},
    {"data.my_option": 3},
  ],
)
def test_what_can_be_meant_is_accepted(changes):
  allowed.check_values(mutated(DISCOVERY, changes))


def test_all_that_is_wrong_is_said_at_once():
  config = mutated(DISCOVERY, {"model.epsilon": -1.0, "model.unroll": 0})
  with pytest.raises(ValueError, match="2 keys") as refused:
    allowed.check_values(config)
  assert "model.epsilon: expected a number of at least 0" in str(refused.value)
  assert "model.unroll: expected an integer from 1" in str(refused.value)
  assert "--config.model.epsilon=1e-08" in str(refused.value)


@pytest.mark.parametrize(
  ("key", "known"),
  [
    ("model.slot_init", slot_init.SLOT_INITS),
    ("model.slot_update", slot_attention.SLOT_UPDATES),
    ("model.normalization", slot_attention.NORMALIZATIONS),
    ("model.gradient", slot_attention.GRADIENTS),
    ("model.precision", tuple(models_from_config.PRECISIONS)),
    ("task", models_from_config.TASKS),
    ("optim.name", optimizers.OPTIMIZERS),
    ("optim.schedule", optimizers.SCHEDULES),
    ("data.on_device", tuple(from_config._ON_DEVICE)),
  ],
)
def test_choices_are_those_that_the_code_knows(key, known):
  assert allowed.ALLOWED[key].expected == f"one of {known}"
  assert all(map(allowed.ALLOWED[key].accepts, known))


def test_a_refused_default_is_no_example():
  config = mutated(DISCOVERY, {"model.overlap_ramp": (5, 10)})
  with pytest.raises(ValueError, match=r"Change it in the config file\.$"):
    allowed.check_values(config)


def test_the_example_can_be_pasted_into_a_shell():
  config = mutated(DISCOVERY, {"model.encoder_strides": (0,)})
  with pytest.raises(ValueError, match=r"model\.encoder_strides='\(.*\)'\.$"):
    allowed.check_values(config)
