"""What a dataset gives: its batches, and what is known before the first."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax

from slot_attention_jax.data.properties import (
  CLEVR_LAYOUT,
  Array,
  Property,
  PropertyLayout,
  layout_from_dict,
)

__all__ = [
  "CLEVR_LAYOUT",
  "Array",
  "Batch",
  "Dataset",
  "DatasetInfo",
  "Property",
  "PropertyLayout",
  "layout_from_dict",
]

# Keys of a batch, each with a leading global batch axis B:
#   "image":        [B, H, W, 3] in [-1, 1].
#   "target":       [B, O, P] in [0, 1], rows of zeros where no object is.
#   "segmentation": [B, H, W] int32, 0 background, i = object i.
#   "valid":        [B] bool, False on rows that only fill up the last batch of
#                   an evaluation.
# Which of the last three are present is fixed for a dataset.
Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
  """What is known about a dataset before its first batch.

  Attributes:
    name: name of the data, as it appears in logs, metrics and metadata.
    split: name of the split.
    image_shape: (H, W, 3) of the batches.
    num_examples: examples in the split; None if it is endless.
    layout: layout of the targets; None if there are none.
    max_objects: O, rows of a target; 0 if there are none.
    has_segmentation: whether batches carry ground-truth segmentations.
    own_scenes: whether these are synthetic scenes, rendered by the package.
    scenes_version: version of their images, `SceneFamily.version`; None if they
      are no synthetic scenes.
  """

  name: str
  split: str
  image_shape: tuple[int, int, int]
  num_examples: int | None
  layout: PropertyLayout | None = None
  max_objects: int = 0
  has_segmentation: bool = False
  own_scenes: bool = False
  scenes_version: int | None = None


class Dataset(Protocol):
  """Batches as a pure function of their number, sharded over the devices."""

  info: DatasetInfo
  batch_size: int

  @property
  def num_batches(self) -> int | None:
    """Batches in one pass over the split; None if it is endless."""
    ...

  def batch(self, step: int) -> Batch:
    """Batch number `step` (>= 0), the same for the same (seed, step)."""
    ...

  @property
  def make_batch(self) -> Callable[[Any, Any], Batch] | None:
    """Makes a batch on the devices, inside a compiled program.

    A function of (`device_arrays`, one entry of `step_inputs`) that can be
    traced; None if batches come from the host.
    """
    ...

  @property
  def device_arrays(self) -> Any:
    """What `make_batch` reads: arrays that all devices hold."""
    ...

  def step_inputs(self, first: int, count: int) -> Any:
    """Arrays [count, ...] that `make_batch` needs for `count` batches."""
    ...
