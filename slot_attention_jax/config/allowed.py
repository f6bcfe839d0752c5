"""Which values each key of a config may have, once per key.

Ranges end where no run can be meant: a batch of a trillion images is a slip.
What only the data or the model can tell is checked where they are made.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from slot_attention_jax.config import preset

_MOST_LINES = 10


@dataclasses.dataclass(frozen=True)
class Rule:
  """What a key may be.

  Attributes:
    expected: in words, after "expected".
    accepts: whether a value is.
  """

  expected: str
  accepts: Callable[[Any], bool]


def _integer(low: int, high: int) -> Rule:
  def accepts(value):
    integer = isinstance(value, int) and not isinstance(value, bool)
    return integer and low <= value <= high

  return Rule(f"an integer from {low:,} to {high:,}", accepts)


def _number(
  low: float, high: float, *, above: bool = False, below: bool = False
) -> Rule:
  """A number from `low` to `high`; `above` and `below` exclude these."""

  def accepts(value):
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not low <= value <= high:  # NaN is not in any range.
      return False
    return not (above and value == low) and not (below and value == high)

  first = f"above {low:g}" if above else f"of at least {low:g}"
  last = "" if high == math.inf else f"{'below' if below else 'up to'} {high:g}"
  return Rule(" and ".join(filter(None, [f"a number {first}", last])), accepts)


def _one_of(*names: str) -> Rule:
  return Rule(
    f"one of {names}", lambda value: isinstance(value, str) and value in names
  )


def _each(rule: Rule, length: int | None = None, fewest: int = 1) -> Rule:
  """A tuple of values that a rule accepts."""

  def accepts(value):
    return (
      isinstance(value, tuple | list)
      and len(value) >= fewest
      and length in (None, len(value))
      and all(map(rule.accepts, value))
    )

  count = "a pair" if length == 2 else "a tuple"
  if length is None and fewest:
    count = f"a tuple of at least {fewest}"
  return Rule(f"{count}, each {rule.expected}", accepts)


def _in_order(rule: Rule) -> Rule:
  """A pair that the rule accepts, (0, 0) or from at least 1 to at most."""
  return Rule(
    f"(0, 0) or (fewest, most) with 1 <= fewest <= most, {rule.expected}",
    lambda value: (
      rule.accepts(value)
      and (tuple(value) == (0, 0) or 1 <= value[0] <= value[1])
    ),
  )


def _begin_and_end() -> Rule:
  """The steps between which something rises or falls."""
  steps = _each(_integer(0, 10**9), 2)
  return Rule(
    f"(0, 0) or (begin, end) with begin < end, {steps.expected}",
    lambda value: (
      steps.accepts(value) and (tuple(value) == (0, 0) or value[0] < value[1])
    ),
  )


def _different(rule: Rule) -> Rule:
  """A tuple, which may be empty, of different values that a rule accepts."""
  each = _each(rule, fewest=0)
  return Rule(
    f"{each.expected}, none twice",
    lambda value: each.accepts(value) and len(set(value)) == len(value),
  )


def _thresholds() -> Rule:
  def accepts(value):
    numbers_alone = isinstance(value, tuple | list) and all(
      isinstance(t, int | float) and (t >= 0 or t == -1) for t in value
    )
    # They are told apart in names of metrics, as ap_0.5.
    return numbers_alone and 0 < len({f"{t:g}" for t in value}) == len(value)

  return Rule(
    "at least one distance, each different and at least 0, as (inf, 1.0), or "
    "-1 for none",
    accepts,
  )


_TEXT = Rule("text", lambda value: isinstance(value, str))
_NAME = Rule("a name", lambda value: isinstance(value, str) and value != "")
_BOOL = Rule("True or False", lambda value: isinstance(value, bool))
_SEED = _integer(0, 2**32 - 1)
_STEPS = _integer(1, 10**9)
_BATCH = _integer(1, 2**20)
_WIDTH = _integer(1, 2**16)
_WIDTHS = _each(_WIDTH)
_KERNELS = _each(_integer(1, 255))
_STRIDES = _each(_integer(1, 64))

WRITERS = ("jsonl", "tensorboard", "clu", "wandb", "trackio")
"""Where metrics go, see `training.loggers`."""

ALLOWED: Mapping[str, Rule] = {
  "task": _one_of("discovery", "set_prediction"),
  "seed": _SEED,
  "data.name": _NAME,
  "data.data_dir": _TEXT,
  "data.fallback": _BOOL,
  "data.resolution": _each(_integer(1, 8192), 2),
  "data.crop": _one_of("auto", "paper", "literal", "center", ""),
  "data.max_objects": _integer(0, 1000),
  "data.cache_dir": _TEXT,
  "data.on_device": _one_of("auto", "yes", "no"),
  "data.variant": _TEXT,
  "data.scenes.num_eval": _integer(1, 10**7),
  "data.scenes.num_train": _integer(0, 10**8),
  "data.scenes.num_objects": _in_order(_each(_integer(0, 100), 2)),
  "data.scenes.held_out": _one_of("", "cogent_a", "cogent_b"),
  "data.scenes.frame": _each(_integer(1, 8192), 2),
  "data.scenes.tetrominoes_step": _integer(1, 5),
  "data.tfds.train_split": _NAME,
  "data.tfds.num_train_eval": _integer(1, 69_999),  # Of 70,000.
  "data.folder.train_split": _one_of("train", "all"),
  "model.preset": _one_of(*preset.PRESETS),
  "model.num_slots": _integer(1, 1000),
  "model.num_iterations": _integer(1, 1000),
  "model.slot_size": _WIDTH,
  "model.mlp_hidden_size": _integer(0, 2**16),
  "model.slot_init": _one_of("shared", "background", "per_slot", "learned"),
  "model.slot_update": _one_of("gru", "residual", "replace"),
  "model.normalization": _one_of("mean", "sum"),
  "model.gradient": _one_of("unrolled", "implicit", "implicit_start"),
  "model.epsilon": _number(0, 1),
  "model.encoder_channels": _WIDTHS,
  "model.encoder_kernel_sizes": _KERNELS,
  "model.encoder_strides": _STRIDES,
  "model.encoder_mlp_sizes": _each(_WIDTH, fewest=0),
  "model.broadcast_size": _each(_integer(1, 8192), 2),
  "model.decoder_channels": _each(_WIDTH, fewest=0),
  "model.decoder_kernel_sizes": _KERNELS,
  "model.decoder_strides": _STRIDES,
  "model.background_grid": _integer(0, 1024),
  "model.foreground_weight": _number(0, 1e6),
  "model.foreground_ramp": _begin_and_end(),
  "model.foreground_fall": _begin_and_end(),
  "model.overlap_weight": _number(0, 1e6),
  "model.overlap_ramp": _begin_and_end(),
  "model.train_iterations": _in_order(_each(_integer(0, 1000), 2)),
  "model.early_iterations": _in_order(_each(_integer(0, 1000), 2)),
  "model.early_steps": _integer(0, 10**9),
  "model.remat_decoder": _BOOL,
  "model.head_hidden_size": _WIDTH,
  "model.position_weight": _number(0, 1e6),
  "model.precision": _one_of("float32", "bfloat16"),
  "model.unroll": _integer(1, 1000),
  "optim.name": _one_of("adam", "muon"),
  "optim.schedule": _one_of("exponential", "cosine"),
  "optim.learning_rate": _number(0, 100, above=True),
  "optim.warmup_steps": _integer(0, 10**9),
  "optim.decay_rate": _number(0, 1, above=True),
  "optim.decay_steps": _STEPS,
  "optim.b1": _number(0, 1, below=True),
  "optim.b2": _number(0, 1, below=True),
  "optim.eps": _number(0, 1),
  "optim.clip_norm": _number(0, 1e9),
  "train.batch_size": _BATCH,
  "train.num_steps": _STEPS,
  "train.initial_weights": _TEXT,
  "train.steps_per_call": _integer(0, 10**6),
  "train.max_minutes": _number(0, math.inf),
  "train.quick_compilation": _BOOL,
  "eval.split": _NAME,
  "eval.batch_size": _BATCH,
  "eval.every_steps": _STEPS,
  "eval.num_slots": _integer(0, 1000),
  "eval.num_iterations": _integer(0, 1000),
  "eval.seed": _SEED,
  "eval.thresholds": _thresholds(),
  "eval.checkpoint": _one_of("last", "best"),
  "checkpoint.every_steps": _STEPS,
  "checkpoint.keep": _integer(1, 10**6),
  "checkpoint.keep_best": _integer(0, 10**6),
  "checkpoint.best_metric": _TEXT,
  "checkpoint.best_mode": _one_of("min", "max"),
  "logging.every_steps": _STEPS,
  "logging.num_images": _integer(0, 1000),
  "logging.writers": _different(_one_of(*WRITERS)),
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
  example = f", or as in --config.{first}={default}" if shown else ""
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
  if discovery and values["model.background_grid"]:
    for key in ("model.num_slots", "eval.num_slots"):
      if values[key] == 1:
        problems[key] = (
          "expected at least 2, as slot 0 is the background "
          f"(model.background_grid={values['model.background_grid']}), got 1"
        )
  return problems


def _changing_weights(values: Mapping[str, Any]) -> dict[str, str]:
  """What is wrong with how the weights of the loss rise and fall."""
  ramp, fall = values["model.foreground_ramp"], values["model.foreground_fall"]
  problems = {}
  if (ramp[1] or fall[1]) and not values["model.foreground_weight"]:
    problems["model.foreground_weight"] = (
      "expected the weight that model.foreground_ramp and foreground_fall "
      "change, got 0"
    )
  if values["model.overlap_ramp"][1] and not values["model.overlap_weight"]:
    problems["model.overlap_weight"] = (
      "expected the weight that model.overlap_ramp changes, got 0"
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
