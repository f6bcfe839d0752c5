"""Finds trained models: of a run, of the package, or in a file of weights."""

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

import slot_attention_jax as sa
from experiments.common import configuration
from slot_attention_jax import pretrained
from slot_attention_jax.training import trained_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the arguments that `find` reads."""
  parser.add_argument("--config")
  model = parser.add_mutually_exclusive_group(required=True)
  model.add_argument("--workdir", type=pathlib.Path)
  model.add_argument("--pretrained", metavar="NAME")
  model.add_argument("--weights", type=pathlib.Path, metavar="FILE")
  parser.add_argument("--checkpoint", choices=("last", "best"), default="last")


def find(
  arguments: argparse.Namespace,
) -> tuple[Any, Callable[[Any, Any], tuple[int, Any]]]:
  """Finds the config of a model and a function that loads its parameters.

  Args:
    arguments: from a parser that `add_arguments` was called with. Without
      `config`, weights have the config they were trained with.

  Returns:
    A pair (config, load). The config is a copy. `load` maps (config, abstract
    parameters) to (number of training steps, parameters).

  Raises:
    FileNotFoundError: if there is no such file of weights; `load`: if there is
      no such checkpoint.
    ValueError: on a run without a config, or weights that cannot be read.
  """
  if arguments.workdir:
    if not arguments.config:
      raise ValueError(
        "Expected --config with --workdir, got none. Pass the run's config."
      )
    workdir = arguments.workdir.expanduser().absolute()
    config = sa.load_config(arguments.config)
    config = config.copy_and_resolve_references()
    config.eval.checkpoint = arguments.checkpoint
    return config, lambda c, abstract: trained_run.restore_params(
      workdir,
      c.eval.checkpoint,
      abstract,
      best_metric=c.checkpoint.best_metric or None,
      best_mode=c.checkpoint.best_mode,
    )
  if arguments.pretrained:
    metadata = pretrained.pretrained_metadata(arguments.pretrained)
    _, params = pretrained.load_pretrained(arguments.pretrained)
  else:
    metadata = pretrained.read_weights_metadata(arguments.weights)
    _, params = pretrained.load_weights(arguments.weights)
  if arguments.config:
    config = sa.load_config(arguments.config)
  else:
    config = configuration.load_command(metadata.command)
  # The config may have changed since; the metadata have the model's settings.
  config = pretrained.with_model_of(config, metadata)
  return config, lambda c, abstract: (metadata.steps, params)
