"""Scenes as TFRecords, laid out like those of `multi_object_datasets`.

Its readers are `tf.io.parse_single_example` with one `FixedLenFeature` per
name. Entity 0 is the background; rows past the last object are zeros with
`visibility` 0. Images and masks are uint8 whose bytes are single-byte strings.

References:
  github.com/google-deepmind/multi_object_datasets: `tetrominoes.py`,
  `multi_dsprites.py`, `clevr_with_masks.py`.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from slot_attention_jax.data import procedural, types
from slot_attention_jax.data.multi_object import layouts

# Datasets of which there are synthetic scenes.
_DATASETS = ("tetrominoes", "multi_dsprites", "clevr_with_masks")


def get_layout(family: procedural.SceneFamily) -> layouts.RecordLayout:
  """The layout that a family's scenes are stored in.

  Args:
    family: the family; its name begins with that of the original data.

  Returns:
    The layout, with more entities than the original's if the family has.

  Raises:
    ValueError: if there is none for the family.
  """
  for name in _DATASETS:
    if not family.name.startswith(name.removesuffix("_with_masks")):
      continue
    variants = layouts.LAYOUTS[name]
    variant = getattr(family, "variant", "") if len(variants) > 1 else ""
    if variant not in variants:
      raise ValueError(
        f"Expected a variant of {name} out of {sorted(variants)}, got "
        f"{variant!r}."
      )
    layout = variants[variant]
    entities = max(layout.num_entities, 1 + family.max_objects)
    return dataclasses.replace(layout, num_entities=entities)
  raise ValueError(
    f"Expected scenes of a family named after one of {_DATASETS}, got "
    f"{family.name!r}. Add its layout to data/multi_object/layouts.py."
  )


# Pixels are stored as one string each.
_BYTE = [bytes([i]) for i in range(256)]


def serialize(
  layout: layouts.RecordLayout,
  image: np.ndarray,
  segmentation: np.ndarray,
  objects: Mapping[str, np.ndarray],
  properties: types.PropertyLayout,
) -> bytes:
  """Encodes a scene as a serialized `tf.train.Example`.

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
