"""From a config and a dataset to the objective."""

from typing import Any

import numpy as np

from slot_attention_jax.config import allowed, preset
from slot_attention_jax.data import types
from slot_attention_jax.models import from_config
from slot_attention_jax.modules import slot_init
from slot_attention_jax.tasks import object_discovery, set_prediction
from slot_attention_jax.tasks import task as task_lib

_PAIRS = (
  "train_iterations",
  "early_iterations",
  "foreground_ramp",
  "foreground_fall",
  "overlap_ramp",
)


def create_task(
  config: Any, info: types.DatasetInfo, *, extended: bool = False
) -> task_lib.Task:
  """Builds the objective of a config for a dataset.

  Args:
    config: a whole `ConfigDict`.
    info: the dataset's; gives image size and property layout.
    extended: whether evaluation computes all metrics, see `Task`.

  Returns:
    The task.

  Raises:
    ValueError: on an unknown task or precision, numbers of slots or iterations
      that cannot be, or a dataset without what the task needs.
  """
  config = preset.resolve(config)
  model, evaluation = config.model, config.eval
  for key in _PAIRS:
    # Whoever trains by the command has had all keys checked.
    rule = allowed.ALLOWED[f"model.{key}"]
    if not rule.accepts(model[key]):
      raise ValueError(
        f"Expected model.{key} to be {rule.expected}, got {model[key]}."
      )
  kwargs = {
    "extended": extended,
    "train_iterations": tuple(model.train_iterations),
    "early_iterations": tuple(model.early_iterations),
    "early_steps": model.early_steps,
    "num_slots": evaluation.num_slots or model.num_slots,
    "num_iterations": evaluation.num_iterations or model.num_iterations,
  }
  num_slots = kwargs["num_slots"]
  fixed = model.slot_init not in slot_init.ANY_NUM_SLOTS
  if fixed and num_slots != model.num_slots:
    raise ValueError(
      f"Expected eval.num_slots 0 or {model.num_slots} "
      f"(model.slot_init={model.slot_init!r} fixes the number of slots), got "
      f"{num_slots}. Train with model.slot_init='shared' or 'background' to "
      "evaluate with another number."
    )
  if config.task == "set_prediction":
    return _create_set_prediction(config, info, kwargs)
  return object_discovery.ObjectDiscovery(
    model=from_config.create_model(
      config.task, model, resolution=info.image_shape[:2]
    ),
    image_shape=info.image_shape,
    max_objects=info.max_objects if info.has_segmentation else 0,
    background_weight=model.background_weight,
    foreground_weight=model.foreground_weight,
    foreground_ramp=tuple(model.foreground_ramp),
    foreground_fall=tuple(model.foreground_fall),
    overlap_weight=model.overlap_weight,
    overlap_ramp=tuple(model.overlap_ramp),
    **kwargs,
  )


def _create_set_prediction(config, info, kwargs):
  layout = info.layout
  if layout is None:
    raise ValueError(
      f"Set prediction needs annotated objects, which split {info.split!r} of "
      f"{info.name!r} does not have. Use another split or task='discovery'."
    )
  fewest = min(config.model.num_slots, kwargs["num_slots"])
  if fewest < info.max_objects:
    raise ValueError(
      f"Expected at least as many slots as the {info.max_objects} objects of "
      f"{info.name!r}, got {fewest}: raise model.num_slots or eval.num_slots."
    )
  weights = None
  if config.model.position_weight != 1.0:
    weights = np.ones((layout.size,))
    weights[layout.slice(layout.position)] = config.model.position_weight
    weights = tuple(weights.tolist())
  return set_prediction.SetPrediction(
    model=from_config.create_model(
      config.task,
      config.model,
      resolution=info.image_shape[:2],
      num_properties=layout.size,
    ),
    image_shape=info.image_shape,
    layout=layout,
    weights=weights,
    thresholds=tuple(config.eval.thresholds),
    **kwargs,
  )
