"""From the `model` group of a config to the model."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from slot_attention_jax import models

TASKS = ("discovery", "set_prediction")
PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}

# Settings that older files of weights do not have, with the only value that
# there was then.
_ADDED = {"slot_update": "gru", "normalization": "mean", "gradient": "unrolled"}

# Fields of a model that have the name of their setting.
_SHARED = (
  "num_slots",
  "num_iterations",
  "slot_size",
  "mlp_hidden_size",
  "epsilon",
  "encoder_channels",
  "encoder_kernel_sizes",
  "encoder_strides",
  "encoder_mlp_sizes",
  "unroll",
  "slot_start",
  *_ADDED,
)
_DISCOVERY = (
  "broadcast_size",
  "decoder_channels",
  "decoder_kernel_sizes",
  "decoder_strides",
  "remat_decoder",
)
_SET_PREDICTION = ("head_hidden_size",)


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
      tuples have become lists. Settings of the loss are ignored, and those that
      did not exist yet when a file was written need not be there.
    resolution: (H, W) of the images, in pixels; discovery alone needs it.
    num_properties: P; set prediction alone needs it.

  Returns:
    The model, without parameters.

  Raises:
    ValueError: on an unknown task or precision, a setting that is missing, or
      set prediction without `num_properties`.

  Example:
    >>> from slot_attention_jax import model_config
    >>> model = model_config.create_model(
    ...   "set_prediction",
    ...   {"num_slots": 10, "num_iterations": 3, "slot_size": 64,
    ...    "mlp_hidden_size": 128, "epsilon": 1e-8, "slot_start": "shared",
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
  names = _SHARED + (_DISCOVERY if task == "discovery" else _SET_PREDICTION)
  settings = {**_ADDED, **settings}
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
  fields = {name: _hashable(settings[name]) for name in names}
  fields["dtype"] = PRECISIONS[settings["precision"]]
  if task == "discovery":
    return models.SlotAttentionAutoEncoder(
      resolution=_hashable(resolution), **fields
    )
  if num_properties is None:
    raise ValueError(
      "Expected num_properties for set prediction, got None. It is the size of "
      "the dataset's PropertyLayout."
    )
  return models.SlotAttentionClassifier(num_properties=num_properties, **fields)


def _hashable(value: Any) -> Any:
  """Lists as tuples: a model is a static argument of compiled functions."""
  return tuple(value) if isinstance(value, list | tuple) else value
