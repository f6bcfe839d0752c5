"""What is evaluated, and everything else that its numbers depend on."""

import dataclasses
import datetime
import pathlib
from typing import Any

import jax

from slot_attention_jax.data import types
from slot_attention_jax.data.multi_object import dataset as dataset_lib
from slot_attention_jax.runtime import provenance


@dataclasses.dataclass(frozen=True)
class Source:
  """What is evaluated: a run, unless one of these is named.

  Attributes:
    pretrained: name of weights of the package.
    weights: path of a file of weights.
    predictions: path of an `.npz` that another program wrote, see
      `predictions.load_predictions`.
  """

  pretrained: str = ""
  weights: str = ""
  predictions: str = ""

  def __post_init__(self):
    given = [k for k, v in dataclasses.asdict(self).items() if v]
    if len(given) > 1:
      raise ValueError(
        f"Expected one of --pretrained, --weights, --predictions, got {given}."
      )

  @property
  def kind(self) -> str:
    """`"checkpoint"`, or the attribute that is set."""
    named = (k for k, v in dataclasses.asdict(self).items() if v)
    return next(named, "checkpoint")

  @property
  def name(self) -> str:
    """The attribute that is set, of files without their directories; or ""."""
    if self.pretrained:
      return self.pretrained
    return pathlib.Path(self.weights or self.predictions).name

  def describe(self, checkpoint: str) -> str:
    """The source in words, without the directory that it is in.

    Args:
      checkpoint: what a run's checkpoint is called.

    Returns:
      The kind and the name.
    """
    return f"{self.kind} {self.name or checkpoint}"


def protocol(
  source: Source,
  info: types.DatasetInfo,
  *,
  checkpoint: str,
  command: str,
  task: str,
  data_name: str,
  max_objects: int | None,
  crop: str,
  seed: int,
) -> dict[str, Any]:
  """Everything that the numbers depend on, besides K, T and the parameters.

  Args:
    source: what is evaluated.
    info: of the data.
    checkpoint: what a run's checkpoint is called.
    command: the flags that make the config.
    task: `"discovery"` or `"set_prediction"`.
    data_name: the config's name of the data; that of `info` is another if
      synthetic scenes stand in for them.
    max_objects: the limit on the objects of the examples; None: none.
    crop: name of the crop; "": none.
    seed: of the slot noise.

  Returns:
    The `protocol` of `evaluation.json`.
  """
  background = "pixels without an object"
  if data_name in dataset_lib.NAMES and not info.own_scenes:
    background = dataset_lib.background_rule(data_name)
  discovery = task == "discovery"
  return {
    "model": source.describe(checkpoint),
    "config": command,
    "task": task,
    "data": info.name,
    "own_scenes": info.own_scenes,
    "split": info.split,
    "num_examples": info.num_examples,
    "max_objects": max_objects,
    "crop": crop or "none",
    "resolution": list(info.image_shape[:2]),
    "masks": _describe_masks(source) if discovery else None,
    "background": background if discovery else None,
    "images_without_foreground": "count with 1" if discovery else None,
    "slot_seed": None if source.predictions else seed,
    "standard_errors": "over images"
    + ("" if discovery else "; of average precision by 32 bootstrap samples"),
    "code": provenance.code_version(),
    "jax": jax.__version__,
    "hardware": provenance.hardware(),
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
  }


def _describe_masks(source: Source) -> str:
  if source.predictions:
    return "segments of the file, or the argmax of its masks over the slots"
  return (
    "argmax over the slots of the decoder's masks; _attention: of the "
    "attention of the last iteration, upsampled bilinearly"
  )
