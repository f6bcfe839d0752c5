"""Scenes as TFRecords, laid out like those of `multi_object_datasets`.

Its readers are `tf.io.parse_single_example` with one `FixedLenFeature` per
name. Entity 0 is the background; rows past the last object are zeros with
`visibility` 0. Images and masks are uint8 whose bytes are single-byte strings.

References:
  github.com/google-deepmind/multi_object_datasets: `tetrominoes.py`,
  `multi_dsprites.py`, `clevr_with_masks.py`.
"""

import dataclasses
import struct
from collections.abc import Mapping

import numpy as np

from slot_attention_jax.data import procedural, types


@dataclasses.dataclass(frozen=True)
class RecordLayout:
  """Names, types and shapes of the features of one record.

  Attributes:
    reader: the module of `multi_object_datasets` that reads the layout.
    resolution: (H, W) that the reader expects.
    num_entities: E, background and objects, with padding.
    floats: float features: name to the numbers per entity; 0 for [E].
    ids: features [E] of class ids in one byte: name to the labels of the ids 1,
      2, ...; 0 is the background and padding.
    first_id: id of a property's first class in the family's `describe`.
    channels: C of the image, 3, or 1 of three equal ones.
    entities_first: whether masks are [E, H, W, 1], not [H, W, E, 1].
  """

  reader: str
  resolution: tuple[int, int]
  num_entities: int
  floats: Mapping[str, int]
  ids: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  first_id: int = 0
  channels: int = 3
  entities_first: bool = True

  def shapes(self, resolution: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of all features for images of (H, W), in the reader's words."""
    h, w = resolution
    e = self.num_entities
    return {
      "image": (h, w, self.channels),
      "mask": (e, h, w, 1) if self.entities_first else (h, w, e, 1),
      "visibility": (e,),
      **{name: (e, n) if n else (e,) for name, n in self.floats.items()},
      **{name: (e,) for name in self.ids},
    }


def _multi_dsprites(num_entities: int, channels: int) -> RecordLayout:
  names = ("x", "y", "shape", "orientation", "scale")
  return RecordLayout(
    reader="multi_dsprites",
    resolution=(64, 64),
    num_entities=num_entities,
    floats={"color": channels} | dict.fromkeys(names, 0),
    first_id=1,  # As in dSprites, of which 0 is none.
    channels=channels,
    entities_first=False,
  )


def _labels(name: str) -> tuple[str, ...]:
  return types.CLEVR_LAYOUT[name].labels


# By the beginning of the family's name; Multi-dSprites' goes on by its variant.
_LAYOUTS = {
  "tetrominoes": RecordLayout(
    reader="tetrominoes",
    resolution=(35, 35),
    num_entities=4,
    floats={"x": 0, "y": 0, "shape": 0, "color": 3},
  ),
  "multi_dsprites": {
    "binarized": _multi_dsprites(4, 1),
    "colored_on_grayscale": _multi_dsprites(6, 3),
    "colored_on_colored": _multi_dsprites(5, 3),
  },
  "clevr": RecordLayout(
    reader="clevr_with_masks",
    resolution=(240, 320),
    num_entities=11,
    floats={"x": 0, "y": 0, "z": 0, "pixel_coords": 3, "rotation": 0},
    # Only that 0 is no object is certain: the ids have no published names. A
    # record quoted in the repository's issue 9 has depths that fit size 1 for
    # large alone; the other three are in the order of TFDS.
    ids={
      "size": ("large", "small"),
      "material": _labels("material"),
      "shape": _labels("shape"),
      "color": _labels("color"),
    },
  ),
}


def layout_of(family: procedural.SceneFamily) -> RecordLayout:
  """The layout that a family's scenes are stored in.

  Args:
    family: the family; its name begins with that of the original data.

  Returns:
    The layout, with more entities than the original's if the family has.

  Raises:
    ValueError: if there is none for the family.
  """
  for name, layout in _LAYOUTS.items():
    if not family.name.startswith(name):
      continue
    if isinstance(layout, dict):
      variant = getattr(family, "variant", None)
      if variant not in layout:
        raise ValueError(
          f"Expected a variant of {name} out of {sorted(layout)}, got "
          f"{variant!r}."
        )
      layout = layout[variant]
    entities = max(layout.num_entities, 1 + family.max_objects)
    return dataclasses.replace(layout, num_entities=entities)
  raise ValueError(
    f"Expected scenes of a family named {sorted(_LAYOUTS)}..., got "
    f"{family.name!r}. Add its layout to data/export_tfrecord.py."
  )


# Pixels are stored as one string each.
_BYTE = [bytes([i]) for i in range(256)]


def serialize(
  layout: RecordLayout,
  image: np.ndarray,
  segmentation: np.ndarray,
  objects: Mapping[str, np.ndarray],
  properties: types.PropertyLayout,
) -> bytes:
  """Encodes a scene as a serialised `tf.train.Example`.

  Args:
    layout: the layout.
    image: [H, W, 3] uint8.
    segmentation: [H, W] integers, 0 background, i = object i (from 1).
    objects: [O, ...] arrays of the scene's objects, padding left out.
    properties: what the class ids in `objects` mean.

  Returns:
    The message; the same bytes for the same scene.

  Raises:
    ValueError: if a feature is missing or of another shape, or if there are
      more objects than entities.
  """
  from tensorflow_datasets.proto import tf_example_pb2

  present = len(next(iter(objects.values())))
  entities = layout.num_entities
  if 1 + max(present, int(segmentation.max())) > entities:
    raise ValueError(
      f"Expected up to {entities - 1} objects, got {present} and the "
      f"segment {segmentation.max()}."
    )
  missing = {*layout.floats, *layout.ids} - set(objects)
  if missing:
    raise ValueError(
      f"Expected objects that are described by {sorted(missing)} too, got "
      f"{sorted(objects)}. Add them to the family's `describe`."
    )
  example = tf_example_pb2.Example()  # pyright: ignore
  feature = example.features.feature

  def add_bytes(name: str, values: np.ndarray) -> None:
    strings = [_BYTE[i] for i in values.ravel().tolist()]
    feature[name].bytes_list.value.extend(strings)

  def add_floats(name: str, values: np.ndarray) -> None:
    feature[name].float_list.value.extend(values.ravel().tolist())

  masks = segmentation == np.arange(entities)[:, None, None]  # [E, H, W]
  if not layout.entities_first:
    masks = masks.transpose(1, 2, 0)  # [H, W, E]
  add_bytes("image", image[..., : layout.channels])
  add_bytes("mask", np.where(masks, np.uint8(255), np.uint8(0)))
  add_floats("visibility", np.arange(entities) <= present)
  for name, numbers in layout.floats.items():
    values = objects[name]
    width = int(np.prod(values.shape[1:]))
    columns = max(numbers, 1)
    if width < columns:
      raise ValueError(f"Expected {name} [O, {columns}], got {values.shape}.")
    rows = np.zeros((entities, columns), np.float32)
    rows[1 : 1 + present] = values.reshape(present, width)[:, :columns]
    add_floats(name, rows)
  for name, labels in layout.ids.items():
    ids = np.zeros(entities, np.uint8)
    order = [labels.index(label) for label in properties[name].labels]
    ids[1 : 1 + present] = 1 + np.array(order)[objects[name] - layout.first_id]
    add_bytes(name, ids)
  return example.SerializeToString(deterministic=True)


def frame(record: bytes) -> bytes:
  """Frames a record as TFRecord files hold it, with its checksums.

  A record is its length (uint64), a checksum of the length (uint32), the data
  and a checksum of the data (uint32), all little-endian. A checksum is a
  CRC-32C, rotated by 15 bits with a constant added.

  Args:
    record: the data.

  Returns:
    The framed record, to be appended to a file.

  Example:
    >>> from slot_attention_jax.data import export_tfrecord
    >>> export_tfrecord.frame(b"")[-4:].hex()
    'd8ea82a2'
  """
  import google_crc32c

  def checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    rotated = (crc >> 15) | (crc << 17)
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)

  length = struct.pack("<Q", len(record))
  return length + checksum(length) + record + checksum(record)
