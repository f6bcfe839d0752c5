"""Builds a model from the `model` group of a config."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from slot_attention_jax import models
from slot_attention_jax.modules import background

TASKS = ("discovery", "set_prediction")
PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}

# Current names of settings in older weights and configs.
_RENAMED = {"slot_start": "slot_init"}
# Settings that older weights and configs lack, with the value that was built in
# at the time.
_ADDED = {
  "slot_update": "gru",
  "normalization": "mean",
  "gradient": "unrolled",
  "background_grid": 0,
  "background_logit": 0.0,
  "preset": "",
  "attention_moments": False,
}
# Options that no setting gives: `precision` decides the dtype, the dataset the
# sizes of images and property vectors; LayerNorm's epsilon is the reference's.
_NOT_SETTINGS = (
  "dtype",
  "param_dtype",
  "num_properties",
  "decoder_output_channels",
  "decoder_output_size",
  "layer_norm_epsilon",
  "encoder_layer_norm_epsilon",
)


def create_model(
  task: str,
  settings: Mapping[str, Any],
  *,
  resolution: tuple[int, int],
  num_properties: int | None = None,
) -> models.SlotAttentionAutoEncoder | models.SlotAttentionClassifier:
  """Builds the model of a task.

  Args:
    task: `"discovery"` or `"set_prediction"`.
    settings: the `model` group of a config, by the names in
      `config/base.py`; a `ConfigDict`, or a dict read from JSON, in which
      tuples have become lists. Settings of training are ignored. Older files
      may use old names and lack settings that were added later.
    resolution: (H, W) of the images, in pixels; used in discovery only.
    num_properties: P; needed in set prediction only.

  Returns:
    The model, without parameters.

  Raises:
    ValueError: on an unknown task or precision, a setting that is missing, a
      decoder whose grid does not cover the images, or covers more than their
      last cells, or set prediction without `num_properties`.

  Example:
    >>> from slot_attention_jax.models import from_config
    >>> model = from_config.create_model(
    ...   "set_prediction",
    ...   {"num_slots": 10, "num_iterations": 3, "slot_size": 64,
    ...    "mlp_hidden_size": 128, "epsilon": 1e-8, "slot_init": "shared",
    ...    "encoder_channels": [64, 64], "encoder_kernel_sizes": [5, 5],
    ...    "encoder_strides": [2, 2], "encoder_mlp_sizes": [64, 64],
    ...    "head_hidden_size": 64, "unroll": 1, "precision": "float32"},
    ...   resolution=(128, 128), num_properties=19)
    >>> model.num_slots, model.encoder_strides
    (10, (2, 2))
  """
  if task not in TASKS:
    raise ValueError(
      f"Expected task {TASKS[0]!r} or {TASKS[1]!r}, got {task!r}."
    )
  settings = current_settings(settings)
  names = _settings_of(task)
  missing = [n for n in (*names, "precision") if n not in settings]
  if missing:
    raise ValueError(
      f"Expected settings of a {task} model, got none of {missing}. Take them "
      "from config/base.py of the version that the model was made with."
    )
  if settings["precision"] not in PRECISIONS:
    raise ValueError(
      f"Expected model.precision out of {sorted(PRECISIONS)}, got "
      f"{settings['precision']!r}."
    )
  options = {name: _hashable(settings[name]) for name in names}
  options["dtype"] = PRECISIONS[settings["precision"]]
  if task == "discovery":
    if grid := settings["background_grid"]:
      options["background"] = background.SmoothBackground(
        grid=grid, logit=settings["background_logit"]
      )
    model = models.SlotAttentionAutoEncoder(
      resolution=_hashable(resolution), **options
    )
    return model.clone(decoder_output_size=_output_size(model))
  if num_properties is None:
    raise ValueError(
      "Expected num_properties for set prediction, got None. It is the size of "
      "the dataset's PropertyLayout."
    )
  return models.SlotAttentionClassifier(
    num_properties=num_properties, **options
  )


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Settings under their current names, with those that were added later.

  Args:
    settings: the `model` group of a config or of weights of any age.

  Returns:
    A copy.

  Example:
    >>> from slot_attention_jax.models import from_config
    >>> from_config.current_settings({"slot_start": "learned"})["slot_init"]
    'learned'
  """
  renamed = {_RENAMED.get(name, name): v for name, v in settings.items()}
  return {**_ADDED, **renamed}


def _output_size(model: Any) -> tuple[int, int] | None:
  """What the decoder crops its images to: None if they fit as they are."""
  decoded = model.decoder.resolution
  if decoded == model.resolution:
    return None
  scale = math.prod(model.decoder_strides)
  covering = tuple(-(-side // scale) for side in model.resolution)
  if covering != tuple(model.broadcast_size):
    raise ValueError(
      "Expected model.broadcast_size times the product of "
      "model.decoder_strides to be the resolution "
      f"{model.resolution}, rounded up to whole cells, got {decoded}. Use "
      f"model.broadcast_size={covering}, or model.preset=auto."
    )
  return model.resolution


def _settings_of(task: str) -> list[str]:
  """Names of the settings that a model is made of."""
  if task == "discovery":
    names = [*models.SlotAttentionAutoEncoder().options(), "remat_decoder"]
  else:
    names = [*models.SlotAttentionClassifier().options(), "attention_moments"]
  return [name for name in names if name not in _NOT_SETTINGS]


def _hashable(value: Any) -> Any:
  """Lists as tuples: a model is a static argument of compiled functions."""
  return tuple(value) if isinstance(value, list | tuple) else value
