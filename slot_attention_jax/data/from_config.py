"""Datasets by the names a config uses."""

import difflib
from collections.abc import Callable
from typing import Any

import jax
from absl import logging

from slot_attention_jax.data import (
  cached_dataset,
  procedural,
  transforms,
  types,
)
from slot_attention_jax.data.images import clevr, folder
from slot_attention_jax.data.multi_object import dataset as multi_object

SCENES = ("clevr_scenes", "multi_dsprites_scenes", "tetrominoes_scenes")
NAMES = ("clevr", *multi_object.NAMES, "folder", *SCENES)
_ON_DEVICE = {"auto": "auto", "yes": True, "no": False}
_REGISTERED: dict[str, Callable[..., types.Dataset]] = {}
# Data by name, with the synthetic scenes that can stand in for them.
_STAND_INS = {
  "clevr": "clevr_scenes",
  "clevr_with_masks": "clevr_scenes",
  "multi_dsprites": "multi_dsprites_scenes",
  "tetrominoes": "tetrominoes_scenes",
}
# Keys of `data` that some sources do not read: the default, and who reads it. A
# config file may set the other keys of a group whatever the source.
_READERS: dict[str, tuple[Any, tuple[str, ...]]] = {
  "variant": ("", (*multi_object.NAMES, *SCENES[:2])),
  "scenes.num_train": (0, SCENES),
  "scenes.num_objects": ((0, 0), SCENES[:2]),
  "scenes.held_out": ("", ("clevr_scenes",)),
  "scenes.tetrominoes_step": (1, ("tetrominoes_scenes",)),
  "tfds.train_split": ("train", multi_object.NAMES),
  "folder.train_split": ("train", ("folder",)),
}


def register(name: str, create: Callable[..., types.Dataset]) -> None:
  """Makes a dataset of your own known to configs; see docs/own_data.md.

  Args:
    name: what `data.name` is set to; one that was registered before is
      replaced.
    create: a function `(config, split, *, batch_size, sharding)` with the
      meaning of `create_dataset`, which returns a `types.Dataset`, endless if
      `split` is `"train"`.

  Raises:
    ValueError: if a dataset of the package has the name.
  """
  if name in NAMES:
    raise ValueError(
      f"Expected a name that the package does not use, got {name!r}; it uses "
      f"{list(NAMES)}."
    )
  _REGISTERED[name] = create


def is_registered(name: str) -> bool:
  """Whether `register` made a dataset of this name known."""
  return name in _REGISTERED


def create_dataset(
  config: Any,
  split: str,
  *,
  batch_size: int,
  sharding: jax.sharding.NamedSharding,
  warn: bool = True,
) -> types.Dataset:
  """The batches that a config asks for.

  Prepared data are used. Where there are none, and no directory was named,
  synthetic scenes stand in for them and one warning says so, unless
  `data.fallback` is False or there are none of the kind.

  Args:
    config: a whole `ConfigDict`; its `data` group, `task` and `seed` are read.
    split: `"train"` for training, or an evaluation split: `"validation"` or
      `"test"` of any dataset, `"train_eval"` of TFDS's CLEVR, those of
      `multi_object.splits` for multi-object datasets, `"all"` of a folder.
    batch_size: global batch size.
    sharding: sharding of the batch axis.
    warn: whether to warn if synthetic scenes stand in for data; a run's second
      dataset need not.

  Returns:
    A dataset, endless if `split` is `"train"`.

  Raises:
    FileNotFoundError: if there are no data where they should be.
    ValueError: on an unknown name or split, a split without what the task
      needs, or a key that the source of the data does not read.
  """
  data = config.data
  if data.name in _REGISTERED:
    return _REGISTERED[data.name](
      config, split, batch_size=batch_size, sharding=sharding
    )
  check_source(data)
  batching = cached_dataset.Batching(
    batch_size=batch_size,
    sharding=sharding,
    seed=config.seed,
    train=split == "train",
    on_device=_ON_DEVICE[data.on_device],
    quick=config.train.quick_compilation,
  )
  if data.name in SCENES:
    return _open_scenes(config, split, batching)
  if needs_stand_in(data):
    if warn:
      logging.warning(
        "NO %s DATA FOUND: training and evaluating on synthetic scenes (%s) at "
        "%dx%d instead. Numbers of this run are not numbers on %s. Set "
        "data.fallback=False to make this an error.",
        data.name.upper(),
        create_family(config).name,
        *data.resolution,
        data.name,
      )
    return _open_scenes(config, split, batching)
  check_unread(data, data.name)
  return _open_files(config, split, batching)


def check_source(data: Any) -> None:
  """Raises ValueError on a source that does not exist or cannot be."""
  known = [*NAMES, *_REGISTERED]
  if data.name not in known:
    near = difflib.get_close_matches(data.name, known, n=1)
    raise ValueError(
      f"Expected data.name out of {known}, got {data.name!r}."
      + (f" Did you mean {near[0]!r}?" if near else "")
    )
  if data.on_device not in _ON_DEVICE:
    raise ValueError(
      f"Expected data.on_device out of {list(_ON_DEVICE)}, got "
      f"{data.on_device!r}."
    )
  if data.name in SCENES and data.data_dir:
    raise ValueError(
      f"Expected data.data_dir to be empty for data.name={data.name!r}, which "
      f"is rendered, got {data.data_dir!r}. Remove the override."
    )
  if data.name == "folder" and not data.data_dir:
    raise ValueError(
      "Expected data.data_dir to name the folder of images for "
      "data.name='folder', got ''. Add --config.data.data_dir=DIR."
    )


def check_unread(data: Any, source: str) -> None:
  """Raises ValueError if a key is set that the source of data does not read."""
  for key, (default, readers) in _READERS.items():
    value = data
    for part in key.split("."):
      value = value[part]
    if source not in readers and value != default:
      raise ValueError(
        f"Expected data.{key} to be {default!r} for data.name={data.name!r}, "
        f"of which {source} is read, got {value!r}. Remove the override; it is "
        f"for data.name out of {list(readers)}."
      )


def needs_stand_in(data: Any) -> bool:
  """Whether synthetic scenes stand in for data that are not there."""
  if data.data_dir or not data.fallback or data.name not in _STAND_INS:
    return False
  if data.name == "clevr":
    return not clevr.is_prepared()
  return not multi_object.is_prepared(data.name, data.variant)


def _open_files(
  config: Any, split: str, batching: cached_dataset.Batching
) -> types.Dataset:
  """Batches of files on disk."""
  data = config.data
  data_dir = data.data_dir or None
  max_objects = data.max_objects or None
  images = transforms.ImageSpec(
    resolution=tuple(data.resolution),
    crop=resolve_crop(config),
    cache_dir=data.cache_dir or None,
  )
  if data.name == "folder":
    split = data.folder.train_split if batching.train else split
    return folder.open(
      data.data_dir, split, images, batching, max_objects=max_objects
    )
  if data.name == "clevr":
    return clevr.open(
      data_dir,
      split,
      images,
      batching,
      task=config.task,
      max_objects=max_objects,
      num_train_eval=data.tfds.num_train_eval,
    )
  return multi_object.open(
    data_dir,
    data.tfds.train_split if batching.train else split,
    images,
    batching,
    name=data.name,
    variant=data.variant,
    max_objects=max_objects,
  )


def _open_scenes(
  config: Any, split: str, batching: cached_dataset.Batching
) -> types.Dataset:
  """Batches of synthetic scenes."""
  return procedural.open(
    create_family(config),
    split,
    tuple(config.data.resolution),
    batching,
    num_eval=config.data.scenes.num_eval,
    num_train=config.data.scenes.num_train,
  )


def create_family(config: Any) -> procedural.SceneFamily:
  """The synthetic scenes that a config names, or that stand in for its data.

  Args:
    config: a whole `ConfigDict`; its `data` group is read.

  Returns:
    A family of scenes.

  Raises:
    ValueError: on a name without scenes, or on a key that does not fit the
      family.
  """
  data = config.data
  name = _STAND_INS.get(data.name, data.name)
  if name not in SCENES:
    raise ValueError(
      f"Expected data.name out of {sorted((*SCENES, *_STAND_INS))}, for which "
      f"there are synthetic scenes, got {data.name!r}."
    )
  check_unread(data, name)
  given = tuple(data.scenes.num_objects)
  num_objects = None if given == (0, 0) else given
  if name != "clevr_scenes" and resolve_crop(config) is not None:
    raise ValueError(
      f"Expected data.crop 'auto' or '' for {name}, which are never cropped, "
      f"got {data.crop!r}. Remove the override."
    )
  if name == "tetrominoes_scenes":
    return procedural.Tetrominoes(step=data.scenes.tetrominoes_step)
  if name == "multi_dsprites_scenes":
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
    frame=tuple(data.scenes.frame),
    crop=resolve_crop(config),
    textured=data.variant == "textured",
    held_out=data.scenes.held_out,
  )


def resolve_crop(config: Any) -> transforms.Crop:
  """The crop of `data.crop`, as `transforms.preprocess_image` takes it."""
  return crop_of(config.data.name, config.data.crop)


def crop_of(name: str, crop: str) -> transforms.Crop:
  """The crop that `data.name` and `data.crop` stand for."""
  if crop != "auto":
    return crop or None  # pyright: ignore
  if name == "folder":
    return "center"
  return "paper" if name.startswith("clevr") else None
