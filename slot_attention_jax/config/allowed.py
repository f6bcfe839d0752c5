"""Which values each key of a config may have, once per key.

Ranges end where no run can be meant: a batch of a trillion images is a slip.
What only the data or the model can tell is checked where they are made.
"""

import difflib
import math
import shlex
from collections.abc import Mapping
from typing import Any

from slot_attention_jax.config import preset, rules

_MOST_LINES = 10

_TEXT = rules.Rule("text", lambda value: isinstance(value, str))
_NAME = rules.Rule(
  "a name", lambda value: isinstance(value, str) and value != ""
)
_BOOL = rules.Rule("True or False", lambda value: isinstance(value, bool))
_SEED = rules.integer(0, 2**32 - 1)
_STEPS = rules.integer(1, 10**9)
_BATCH = rules.integer(1, 2**20)
_WIDTH = rules.integer(1, 2**16)
_WIDTHS = rules.each(_WIDTH)
_KERNELS = rules.each(rules.integer(1, 255))
_STRIDES = rules.each(rules.integer(1, 64))

WRITERS = ("jsonl", "tensorboard", "clu", "wandb", "trackio")
"""Where metrics go, see `training.loggers`."""

ALLOWED: Mapping[str, rules.Rule] = {
  "task": rules.one_of("discovery", "set_prediction"),
  "seed": _SEED,
  "data.name": _NAME,
  "data.data_dir": _TEXT,
  "data.fallback": _BOOL,
  "data.resolution": rules.each(rules.integer(1, 8192), 2),
  "data.crop": rules.one_of("auto", "paper", "literal", "center", ""),
  "data.max_objects": rules.integer(0, 1000),
  "data.cache_dir": _TEXT,
  "data.on_device": rules.one_of("auto", "yes", "no"),
  "data.variant": _TEXT,
  "data.scenes.num_eval": rules.integer(1, 10**7),
  "data.scenes.num_train": rules.integer(0, 10**8),
  "data.scenes.num_objects": rules.in_order(
    rules.each(rules.integer(0, 100), 2)
  ),
  "data.scenes.held_out": rules.one_of("", "cogent_a", "cogent_b"),
  "data.scenes.frame": rules.each(rules.integer(1, 8192), 2),
  "data.scenes.tetrominoes_step": rules.integer(1, 5),
  "data.tfds.train_split": _NAME,
  "data.tfds.num_train_eval": rules.integer(1, 69_999),  # Of 70,000.
  "data.folder.train_split": rules.one_of("train", "all"),
  "model.preset": rules.one_of(*preset.PRESETS),
  "model.num_slots": rules.integer(1, 1000),
  "model.num_iterations": rules.integer(1, 1000),
  "model.slot_size": _WIDTH,
  "model.mlp_hidden_size": rules.integer(0, 2**16),
  "model.slot_init": rules.one_of(
    "shared", "background", "per_slot", "learned"
  ),
  "model.slot_update": rules.one_of("gru", "residual", "replace"),
  "model.normalization": rules.one_of("mean", "sum", "scaled_sum"),
  "model.gradient": rules.one_of("unrolled", "implicit", "implicit_start"),
  "model.epsilon": rules.number(0, 1),
  "model.encoder_channels": _WIDTHS,
  "model.encoder_kernel_sizes": _KERNELS,
  "model.encoder_strides": _STRIDES,
  "model.encoder_mlp_sizes": rules.each(_WIDTH, fewest=0),
  "model.broadcast_size": rules.each(rules.integer(1, 8192), 2),
  "model.decoder_channels": rules.each(_WIDTH, fewest=0),
  "model.decoder_kernel_sizes": _KERNELS,
  "model.decoder_strides": _STRIDES,
  "model.background_grid": rules.integer(0, 1024),
  "model.background_logit": rules.number(-100, 100),
  "model.background_weight": rules.number(0, 1e6),
  "model.foreground_weight": rules.number(0, 1e6),
  "model.foreground_ramp": rules.begin_and_end(),
  "model.foreground_fall": rules.begin_and_end(),
  "model.overlap_weight": rules.number(0, 1e6),
  "model.overlap_ramp": rules.begin_and_end(),
  "model.train_iterations": rules.in_order(
    rules.each(rules.integer(0, 1000), 2)
  ),
  "model.early_iterations": rules.in_order(
    rules.each(rules.integer(0, 1000), 2)
  ),
  "model.early_steps": rules.integer(0, 10**9),
  "model.remat_decoder": _BOOL,
  "model.head_hidden_size": _WIDTH,
  "model.attention_moments": _BOOL,
  "model.position_weight": rules.number(0, 1e6),
  "model.precision": rules.one_of("float32", "bfloat16"),
  "model.unroll": rules.integer(1, 1000),
  "optim.name": rules.one_of("adam", "muon"),
  "optim.schedule": rules.one_of("exponential", "cosine"),
  "optim.learning_rate": rules.number(0, 100, above=True),
  "optim.warmup_steps": rules.integer(0, 10**9),
  "optim.decay_rate": rules.number(0, 1, above=True),
  "optim.decay_steps": _STEPS,
  "optim.b1": rules.number(0, 1, below=True),
  "optim.b2": rules.number(0, 1, below=True),
  "optim.eps": rules.number(0, 1),
  "optim.clip_norm": rules.number(0, 1e9),
  "train.batch_size": _BATCH,
  "train.num_steps": _STEPS,
  "train.initial_weights": _TEXT,
  "train.steps_per_call": rules.integer(0, 10**6),
  "train.max_minutes": rules.number(0, math.inf),
  "train.quick_compilation": _BOOL,
  "eval.split": _NAME,
  "eval.batch_size": _BATCH,
  "eval.every_steps": _STEPS,
  "eval.num_slots": rules.integer(0, 1000),
  "eval.num_iterations": rules.integer(0, 1000),
  "eval.seed": _SEED,
  "eval.thresholds": rules.thresholds(),
  "eval.checkpoint": rules.one_of("last", "best"),
  "checkpoint.every_steps": _STEPS,
  "checkpoint.keep": rules.integer(1, 10**6),
  "checkpoint.keep_best": rules.integer(0, 10**6),
  "checkpoint.best_metric": _TEXT,
  "checkpoint.best_mode": rules.one_of("min", "max"),
  "logging.every_steps": _STEPS,
  "logging.num_images": rules.integer(0, 1000),
  "logging.writers": rules.different(rules.one_of(*WRITERS)),
  "logging.tensorboard": _BOOL,
}
"""What each key of `base.base_config` may be."""


def check_values(config: Any) -> None:
  """Checks all values of a config on their own and against each other.

  Args:
    config: a whole `ConfigDict`. Keys that `base.base_config` lacks are an
      error, except in `data` those that resemble none, which a dataset of
      one's own may read.

  Raises:
    ValueError: with a line for each key that is not what it may be.

  Example:
    >>> from slot_attention_jax.config import allowed, base
    >>> config = base.base_config()
    >>> config.model.epsilon = -1.0
    >>> allowed.check_values(config)
    Traceback (most recent call last):
      ...
    ValueError: Expected another value of 1 key of the config:
      model.epsilon: expected a number of at least 0 and up to 1, got -1.0
    Change it in the config file, or as in --config.model.epsilon=1e-08.
  """
  # The rules are read without ml_collections, too.
  from slot_attention_jax.config import arguments, base

  values = dict(arguments.flatten(config))
  problems = {}
  for key in [key for key in values if key not in ALLOWED]:
    # A dataset of one's own may read keys of its own, but no misspelled ones.
    slip = difflib.get_close_matches(key, ALLOWED, n=1, cutoff=0.85)
    if slip or not key.startswith("data."):
      near = arguments.suggest(key, [*ALLOWED])
      problems[key] = f"expected no such key.{near}"
  problems |= {
    key: "expected a value, got none" for key in ALLOWED if key not in values
  }
  problems |= {
    key: f"expected {ALLOWED[key].expected}, got {value!r}"
    for key, value in values.items()
    if key in ALLOWED and not ALLOWED[key].accepts(value)
  }
  if not problems:
    problems = _relations(values)
  if not problems:
    return
  lines = [f"{key}: {text}" for key, text in problems.items()]
  more = len(lines) - _MOST_LINES
  lines = lines[:_MOST_LINES] + ([f"and {more} more"] if more > 0 else [])
  first = next(iter(problems))
  default = dict(arguments.flatten(base.base_config())).get(first)
  # The value that was refused is no example of a better one.
  shown = default is not None and default != values.get(first)
  value = shlex.quote(str(default))
  example = f", or as in --config.{first}={value}" if shown else ""
  count = f"{len(problems)} key{'s' if len(problems) > 1 else ''}"
  raise ValueError(
    "\n  ".join([f"Expected another value of {count} of the config:", *lines])
    + f"\nChange it in the config file{example}."
  )


def _relations(values: Mapping[str, Any]) -> dict[str, str]:
  """Keys that do not fit others, each with what is wrong."""
  problems = {}
  discovery = values["task"] == "discovery"
  parts = [("encoder", 0), *([("decoder", 1)] if discovery else [])]
  for part, output in parts:
    layers = len(values[f"model.{part}_channels"]) + output
    also = " and one for the output layer" if output else ""
    for name in ("kernel_sizes", "strides"):
      got = len(values[key := f"model.{part}_{name}"])
      if got != layers:
        problems[key] = (
          f"expected {layers} entries, one for each of "
          f"model.{part}_channels{also}, got {got}"
        )
  _, most = values["model.train_iterations"]
  if most and values["model.gradient"] != "unrolled":
    problems["model.gradient"] = (
      "expected 'unrolled', which model.train_iterations="
      f"{values['model.train_iterations']} needs, got "
      f"{values['model.gradient']!r}"
    )
  problems |= _early_iterations(values)
  problems |= _changing_weights(values)
  problems |= _of_other_task(values)
  for key in ("model.background_weight", "model.background_logit"):
    if discovery and values[key] and not values["model.background_grid"]:
      problems[key] = (
        "expected 0, as no slot paints a background (model.background_grid=0; "
        f"1 is a single color), got {values[key]}"
      )
  if discovery and values["model.background_grid"]:
    for key in ("model.num_slots", "eval.num_slots"):
      if values[key] == 1:
        problems[key] = (
          "expected at least 2, as slot 0 is the background "
          f"(model.background_grid={values['model.background_grid']}), got 1"
        )
  return problems


def _of_other_task(values: Mapping[str, Any]) -> dict[str, str]:
  """Settings that this task would ignore."""
  if values["task"] == "discovery":
    other = "set_prediction"
    ignored = {"model.position_weight": 1, "model.attention_moments": False}
  else:
    names = ("background_grid", "background_logit", "background_weight")
    names = (*names, "foreground_weight", "overlap_weight")
    other, ignored = "discovery", {f"model.{name}": 0 for name in names}
  return {
    key: f"expected {off}, as only task={other!r} uses it, got {values[key]}"
    for key, off in ignored.items()
    if values[key] != off
  }


def _changing_weights(values: Mapping[str, Any]) -> dict[str, str]:
  """What is wrong with how the weights of the loss rise and fall."""
  ramp, fall = values["model.foreground_ramp"], values["model.foreground_fall"]
  problems = {}
  if (ramp[1] or fall[1]) and not values["model.foreground_weight"]:
    problems["model.foreground_weight"] = (
      "expected the weight that model.foreground_ramp and foreground_fall "
      "change, got 0; without a weight, these are (0, 0)"
    )
  if values["model.overlap_ramp"][1] and not values["model.overlap_weight"]:
    problems["model.overlap_weight"] = (
      "expected the weight that model.overlap_ramp changes, got 0; without a "
      "weight, it is (0, 0)"
    )
  if fall[1] and fall[0] < ramp[1]:
    problems["model.foreground_fall"] = (
      f"expected to begin after model.foreground_ramp={tuple(ramp)} has ended, "
      f"got {tuple(fall)}"
    )
  return problems


def _early_iterations(values: Mapping[str, Any]) -> dict[str, str]:
  """What is wrong with the iterations of the first steps."""
  steps, early = values["model.early_steps"], values["model.early_iterations"]
  if bool(steps) != bool(early[1]):
    key = "model.early_steps" if early[1] else "model.early_iterations"
    return {key: "expected both or none of early_steps and early_iterations"}
  if steps and not values["model.train_iterations"][1]:
    return {
      "model.train_iterations": "expected (fewest, most) of the steps after "
      f"the {steps} of model.early_steps, got (0, 0)"
    }
  return {}
