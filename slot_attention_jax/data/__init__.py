"""Datasets by the names a config uses."""

from typing import Any

import jax
from absl import logging

from slot_attention_jax.data import clevr, fixed_scenes, procedural, types

NAMES = ("clevr", "clevr_scenes", "multi_dsprites", "tetrominoes")
# Keys of own scenes, and the value that leaves a family as it is.
_SCENE_KEYS = {
  "num_objects": (0, 0),
  "variant": "",
  "held_out": "",
  "num_train_scenes": 0,
}
_ON_DEVICE = {"auto": "auto", "yes": True, "no": False}


def create_dataset(
  config: Any,
  split: str,
  *,
  batch_size: int,
  sharding: jax.sharding.NamedSharding,
  warn: bool = True,
) -> types.Dataset:
  """The batches that a config asks for.

  Data that were prepared are used; where none were, and no directory was
  named, the package's own scenes take their place and one warning says so.

  Args:
    config: a whole `ConfigDict`; its `data` group, `task` and `seed` are read.
    split: `"train"`, or an evaluation split: `"validation"` or `"test"` of any
      dataset, `"train_eval"` of CLEVR.
    batch_size: global batch size.
    sharding: sharding of the batch axis.
    warn: whether to say so if own scenes take the place of data; a run's second
      dataset need not.

  Returns:
    A dataset, endless if `split` is `"train"`.

  Raises:
    FileNotFoundError: if a data directory was named that does not hold the
      data.
    ValueError: on an unknown name or split, or a split without what the task
      needs.
  """
  data = config.data
  if data.name not in NAMES:
    raise ValueError(f"Expected data.name out of {NAMES}, got {data.name!r}.")
  if data.on_device not in _ON_DEVICE:
    raise ValueError(
      f"Expected data.on_device out of {list(_ON_DEVICE)}, got "
      f"{data.on_device!r}."
    )
  resolution = tuple(data.resolution)
  if data.name == "clevr":
    builder = clevr.find_clevr(data.data_dir or None)
    if builder is not None:
      changed = [k for k, v in _SCENE_KEYS.items() if data[k] != v]
      if changed:
        raise ValueError(
          f"Expected data.{changed[0]} to be left alone where CLEVR's own "
          f"images are read, got {data[changed[0]]!r}. Set "
          "data.name=clevr_scenes to use rendered scenes."
        )
      return clevr.create_clevr(
        builder,
        split,
        task=config.task,
        resolution=resolution,
        crop=data.crop or None,
        max_objects=data.max_objects or None,
        batch_size=batch_size,
        sharding=sharding,
        seed=config.seed,
        train=split == "train",
        cache_dir=data.cache_dir or None,
        on_device=_ON_DEVICE[data.on_device],
        num_train_eval=data.num_train_eval,
      )
  elif data.data_dir:
    raise ValueError(
      f"Expected data.data_dir to be empty for data.name={data.name!r}, which "
      f"is rendered, got {data.data_dir!r}. Remove the override."
    )
  family = create_family(config)
  original = {"clevr": "CLEVR", "multi_dsprites": "MULTI_DSPRITES"}
  if warn and data.name in original:
    logging.warning(
      "NO %s DATA FOUND: using the package's own scenes %r at %dx%d instead. "
      "Numbers of this run are not numbers on %s.",
      original[data.name],
      family.name,
      *resolution,
      data.name,
    )
  if data.num_train_scenes < 0:
    raise ValueError(
      "Expected data.num_train_scenes of at least 0, which is without end, got "
      f"{data.num_train_scenes}."
    )
  if split == "train" and data.num_train_scenes:
    return fixed_scenes.create_fixed_scenes(
      family,
      num_scenes=data.num_train_scenes,
      resolution=resolution,
      batch_size=batch_size,
      sharding=sharding,
      seed=config.seed,
      on_device=_ON_DEVICE[data.on_device],
    )
  return procedural.SceneDataset(
    family,
    split="validation" if split == "train_eval" else split,
    batch_size=batch_size,
    sharding=sharding,
    resolution=resolution,
    seed=config.seed,
    num_examples=None if split == "train" else data.num_scenes,
  )


def create_family(config: Any) -> procedural.SceneFamily:
  """The scenes that stand behind a config's data.

  Args:
    config: a whole `ConfigDict`; its `data` group is read.

  Returns:
    A family of scenes.

  Raises:
    ValueError: on an unknown name, or on a key that does not fit the family.
  """
  data = config.data
  ignored = {
    "clevr": ("tetrominoes_step",),
    "clevr_scenes": ("tetrominoes_step",),
    "multi_dsprites": ("held_out", "tetrominoes_step"),
    "tetrominoes": ("num_objects", "variant", "held_out"),
  }
  if data.name not in ignored:
    raise ValueError(f"Expected data.name out of {NAMES}, got {data.name!r}.")
  defaults = {"tetrominoes_step": 1, **_SCENE_KEYS}
  for key in ignored[data.name]:
    if data[key] != defaults[key]:
      raise ValueError(
        f"Expected data.{key} to be {defaults[key]!r} for the scenes of "
        f"data.name={data.name!r}, which do not read it, got {data[key]!r}."
      )
  given = tuple(data.num_objects)
  num_objects = None if given == (0, 0) else given
  if data.name == "tetrominoes":
    return procedural.Tetrominoes(step=data.tetrominoes_step)
  if data.name == "multi_dsprites":
    return procedural.MultiDSprites(
      variant=data.variant or "colored_on_grayscale", num_objects=num_objects
    )
  if data.variant not in ("", "textured"):
    raise ValueError(
      f"Expected data.variant '' or 'textured' for CLEVR scenes, got "
      f"{data.variant!r}."
    )
  low, high = num_objects or (3, 10)
  return procedural.Clevr(
    num_objects=(low, min(high, data.max_objects or high)),
    frame=tuple(data.frame),
    crop=data.crop or None,
    textured=data.variant == "textured",
    held_out=data.held_out,
  )
