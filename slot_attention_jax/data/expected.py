"""What a config's data will be, before anything is decoded or rendered."""

from typing import Any

from slot_attention_jax.data import from_config, types
from slot_attention_jax.data.images import clevr, clevr_records, folder
from slot_attention_jax.data.multi_object import dataset as multi_object
from slot_attention_jax.data.procedural import scenes


def expected_info(config: Any, split: str) -> types.DatasetInfo | None:
  """Says what a split will be, without opening it.

  Args:
    config: a whole `ConfigDict`.
    split: as for `create_dataset`.

  Returns:
    What `create_dataset` will say, but for its name, `num_examples` and, of
    folders, `max_objects`; None for datasets of one's own.

  Raises:
    FileNotFoundError: if there are no data where they should be.
    ValueError: on an unknown name or split, or a key that does not fit them.
  """
  data = config.data
  if from_config.is_registered(data.name):
    return None
  from_config.check_source(data)
  resolution = tuple(data.resolution)
  max_objects = data.max_objects or None
  if data.name in from_config.SCENES or from_config.needs_stand_in(data):
    return _of_scenes(config, split)
  from_config.check_unread(data, data.name)
  train = split == "train"
  if data.name == "folder":
    split = data.folder.train_split if train else split
    return folder.describe(data.data_dir, split, resolution)
  if data.name == "clevr":
    annotated = clevr.check_split(split, config.task, max_objects)
    clevr.find_builder(data.data_dir or None)
    return types.DatasetInfo(
      name=data.name,
      split=split,
      image_shape=(*resolution, 3),
      num_examples=None,
      layout=types.CLEVR_LAYOUT if annotated else None,
      max_objects=clevr_records.MAX_OBJECTS if annotated else 0,
    )
  _, cut, _ = multi_object.find_records(
    data.data_dir or None,
    data.tfds.train_split if train else split,
    name=data.name,
    variant=data.variant,
    max_objects=max_objects,
  )
  return multi_object.describe(data.name, data.variant, cut.name, resolution)


def _of_scenes(config: Any, split: str) -> types.DatasetInfo:
  family = from_config.create_family(config)
  known = ("train", "train_eval", *scenes.EVALUATION_SPLITS)
  if split not in known:
    raise ValueError(
      f"Expected a split of {family.name} out of {known[1:]}, got {split!r}. "
      "Set eval.split."
    )
  return scenes.dataset_info(family, split, tuple(config.data.resolution))
