"""Converts records to the examples of a TFDS builder, and counts them."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import Any

from slot_attention_jax.data import prefetch
from slot_attention_jax.runtime import user_errors

_BATCH = 64  # TFDS writes its description once for each.


@dataclasses.dataclass
class ConversionStats:
  """What was seen while scenes were converted.

  Attributes:
    num_records: scenes.
    num_objects: number of scenes, by their number of objects.
    unmasked: pixels in no mask.
    overlapping: pixels in several masks.
  """

  num_records: int = 0
  num_objects: dict[int, int] = dataclasses.field(default_factory=dict)
  unmasked: int = 0
  overlapping: int = 0

  def add(self, scene: dict[str, Any], num_objects: int) -> None:
    """Counts a scene of `records.parse_record`."""
    self.num_records += 1
    count = self.num_objects.get(num_objects, 0)
    self.num_objects[num_objects] = count + 1
    self.unmasked += scene["unmasked"]
    self.overlapping += scene["overlapping"]


def write(
  builder: Any, records: Iterator[bytes], source: str
) -> ConversionStats:
  """Writes records as the examples of a builder, as they come.

  TFDS's own `download_and_prepare` would hold a gigabyte of them in memory and
  then need TensorFlow.

  Args:
    builder: of `tfds_builders.create_builder`; its directory must not exist.
    records: the serialized scenes.
    source: name of the file that they are from, for messages.

  Returns:
    What was seen in them.

  Raises:
    ValueError: if they are not of the builder's dataset.
    OSError: if they cannot be written, as on a full disk.
  """
  # They need TFDS, which takes seconds to import.
  import tensorflow_datasets as tfds

  from slot_attention_jax.data.multi_object import tfds_builders

  os.makedirs(builder.data_dir)
  writer = tfds.core.SequentialWriter(
    builder.info,
    max_examples_per_shard=builder.SHARD,
    file_format=tfds_builders.FILE_FORMAT,
  )
  writer.initialize_splits([builder.SPLIT])
  stats = ConversionStats()
  batch: list[dict[str, Any]] = []

  def flush():
    with _raising_os_errors(builder.data_dir):
      writer.add_examples({builder.SPLIT: batch})
    batch.clear()

  convert = functools.partial(builder.convert, source=source)
  for scene, example in prefetch.parallel_map(convert, enumerate(records)):
    stats.add(scene, example["num_objects"])
    batch.append(example)
    if len(batch) == _BATCH:
      flush()
  flush()
  with _raising_os_errors(builder.data_dir):
    writer.close_all()
  return stats


@contextlib.contextmanager
def _raising_os_errors(path: Any) -> Iterator[None]:
  """Raises what array_record says in words only as an error of the system."""
  try:
    yield
  except RuntimeError as error:
    for number in user_errors.REMEDIES:
      if f"failed: {os.strerror(number)}" in str(error):
        raise OSError(number, os.strerror(number), os.fspath(path)) from error
    raise
