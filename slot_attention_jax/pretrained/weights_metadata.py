"""What a file of weights says about its model, and how much it may claim."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from slot_attention_jax import models
from slot_attention_jax.config import allowed
from slot_attention_jax.data import transforms, types
from slot_attention_jax.models import from_config

FIELDS = {
  "recipe": "command",
  "own_scenes": "synthetic_scenes",
  "updates": "steps",
  "planned_updates": "planned_steps",
}
"""Fields whose names in files are older; files keep them."""
FILE_KEYS = {field: key for key, field in FIELDS.items()}
"""The same the other way round."""
# Settings whose sizes are those of axes of arrays.
_SIZES = (
  "slot_size",
  "mlp_hidden_size",
  "head_hidden_size",
  "encoder_channels",
  "encoder_kernel_sizes",
  "encoder_mlp_sizes",
  "decoder_channels",
  "decoder_kernel_sizes",
)
# Of a model of the other task; files keep the whole group of the config.
_OF_OTHER_TASK = {
  "discovery": ("head_",),
  "set_prediction": ("decoder_", "broadcast_"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsMetadata:
  """What builds a model, and how it was trained.

  Attributes:
    task: `"discovery"` or `"set_prediction"`.
    model: the `model` group of the config.
    resolution: (H, W) of the images in training, in pixels.
    layout: meaning of the predictions of a set predictor; None in discovery.
    command: flags that make the config of the training.
    data: name of the training data.
    synthetic_scenes: whether these are scenes that the package renders.
    seed: of the training.
    steps: training steps done.
    planned_steps: training steps that the config asks for.
    hardware: what it was trained on.
    minutes: wall time of startup, compilation, training and evaluations,
      without pauses of a run that was resumed; None if it is not known.
    evaluation: `num_slots`, `num_iterations`, `num_examples` of the metrics.
    metrics: by full name, data/split/metric.
    date: of the last step, ISO 8601.
    license: SPDX name of the license of the weights.
    versions: of the packages that trained it, by name.
    notes: what else a user should know, such as how it was chosen; may be
      empty.
    crop: of the images, before they are resized; as of `sa.preprocess`.
  """

  task: str
  model: Mapping[str, Any]
  resolution: tuple[int, int]
  layout: types.PropertyLayout | None
  command: str
  data: str
  synthetic_scenes: bool
  seed: int
  steps: int
  planned_steps: int
  hardware: str
  minutes: float | None
  evaluation: Mapping[str, int]
  metrics: Mapping[str, Any]
  date: str
  license: str
  versions: Mapping[str, str]
  notes: str
  crop: transforms.Crop = None

  def __getattr__(self, name: str) -> Any:
    """Reads fields by the names that they have in files and once had here."""
    if name in FIELDS:
      return getattr(self, FIELDS[name])
    raise AttributeError(
      f"{type(self).__name__!r} object has no attribute {name!r}"
    )

  def create_model(
    self,
  ) -> models.SlotAttentionAutoEncoder | models.SlotAttentionClassifier:
    """Builds the model; errors as in `from_config.create_model`."""
    return from_config.create_model(
      self.task,
      self.model,
      resolution=self.resolution,
      num_properties=self.layout.size if self.layout else None,
    )


def check_settings(
  metadata: WeightsMetadata, shapes: Mapping[str, tuple[int, ...]]
) -> None:
  """Checks that a model cannot be larger than the arrays that a file has.

  Files come from strangers: a model with a million layers, or of a billion
  slots, is refused before it is built. They also come from later versions: a
  setting that is unknown here may be one without which the arrays are another
  model, unless it is off.

  Args:
    metadata: as it was read.
    shapes: shape of each array of the file, by name.

  Raises:
    ValueError: naming the setting.
  """
  largest = max((n for shape in shapes.values() for n in shape), default=0)
  settings = from_config.current_settings(metadata.model)
  settings["resolution"] = tuple(metadata.resolution)
  for name, value in settings.items():
    if name.startswith(_OF_OTHER_TASK.get(metadata.task, ())):
      continue
    group = "data" if name == "resolution" else "model"
    rule = allowed.ALLOWED.get(f"{group}.{name}")
    if rule is None and value:
      raise ValueError(
        f"Expected settings that this version knows, got {_short(name)}: "
        f"{_short(value)}. If a later version wrote the file, upgrade."
      )
    if rule is not None and not rule.accepts(value):
      raise _too_much(name, value, rule.expected)
    values = value if isinstance(value, list | tuple) else (value,)
    if len(values) > max(2, len(shapes)):
      raise _too_much(name, value, f"at most {len(shapes)} entries")
    if name in _SIZES and max(values, default=0) > largest:
      raise _too_much(name, value, f"at most {largest}")
  if metadata.layout and metadata.layout.size > largest:
    size = metadata.layout.size
    raise _too_much("properties", size, f"at most {largest}")


def _too_much(name: str, value: Any, expected: str) -> ValueError:
  return ValueError(
    f"Expected {name} to be {expected}, as the arrays of the file allow, got "
    f"{_short(value)}."
  )


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else f"{text[:57]}..."
