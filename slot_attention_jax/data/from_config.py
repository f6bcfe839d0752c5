"""Datasets by the names a config uses."""

from collections.abc import Callable
from typing import Any, Literal

import jax
from absl import logging

from slot_attention_jax.data import procedural, types
from slot_attention_jax.data.images import clevr, folder
from slot_attention_jax.data.multi_object import dataset as multi_object
from slot_attention_jax.data.procedural import fixed_scenes

SCENES = ("clevr_scenes", "multi_dsprites_scenes", "tetrominoes_scenes")
NAMES = ("clevr", *multi_object.NAMES, "folder", *SCENES)
_ON_DEVICE = {"auto": "auto", "yes": True, "no": False}
_REGISTERED: dict[str, Callable[..., types.Dataset]] = {}
# Data by name, with the family of scenes that takes their place.
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
  """Makes a dataset of one's own known to configs; see docs/own_data.md.

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
  named, the package's own scenes take their place and one warning says so,
  unless `data.fallback` is False or there are none of the kind.

  Args:
    config: a whole `ConfigDict`; its `data` group, `task` and `seed` are read.
    split: `"train"` for training, or an evaluation split: `"validation"` or
      `"test"` of any dataset, `"train_eval"` of TFDS's CLEVR, those that
      `multi_object_splits` has for the sets with masks, `"all"` of a folder.
    batch_size: global batch size.
    sharding: sharding of the batch axis.
    warn: whether to say so if own scenes take the place of data; a run's second
      dataset need not.

  Returns:
    A dataset, endless if `split` is `"train"`.

  Raises:
    FileNotFoundError: if there are no data where they should be.
    ValueError: on an unknown name or split, or a split without what the task
      needs.
  """
  data = config.data
  batches = {"batch_size": batch_size, "sharding": sharding}
  if data.name in _REGISTERED:
    return _REGISTERED[data.name](config, split, **batches)
  if data.name not in NAMES:
    raise ValueError(
      f"Expected data.name out of {[*NAMES, *_REGISTERED]}, got {data.name!r}."
    )
  if data.on_device not in _ON_DEVICE:
    raise ValueError(
      f"Expected data.on_device out of {list(_ON_DEVICE)}, got "
      f"{data.on_device!r}."
    )
  on_device = _ON_DEVICE[data.on_device]
  if data.name not in SCENES:
    dataset = _read(config, split, on_device=on_device, **batches)
    if dataset is not None:
      return dataset
  elif data.data_dir:
    raise ValueError(
      f"Expected data.data_dir to be empty for data.name={data.name!r}, which "
      f"is rendered, got {data.data_dir!r}. Remove the override."
    )
  return create_own_scenes(
    config, split, on_device=on_device, warn=warn, **batches
  )


def _read(config: Any, split: str, **arguments: Any) -> types.Dataset | None:
  """Batches of data on disk; None if own scenes shall take their place."""
  data = config.data
  name, data_dir = data.name, data.data_dir or None
  max_objects = data.max_objects or None
  train = split == "train"
  arguments |= {
    "resolution": tuple(data.resolution),
    "crop": crop_of(config),
    "seed": config.seed,
    "train": train,
    "cache_dir": data.cache_dir or None,
  }
  required = not (data.fallback and has_stand_in(name))
  if name == "folder":
    if data_dir is None:
      raise ValueError(
        "Expected data.data_dir to name the folder of images for "
        "data.name='folder', got ''."
      )
    _check_unread(data, name)
    split = data.folder.train_split if train else split
    return folder.create_folder(
      data_dir, split, max_objects=max_objects, **arguments
    )
  if name == "clevr":
    builder = clevr.find_clevr(data_dir, required=required)
    if builder is None:
      return None
    _check_unread(data, name)
    return clevr.create_clevr(
      builder,
      split,
      task=config.task,
      max_objects=max_objects,
      num_train_eval=data.tfds.num_train_eval,
      **arguments,
    )
  builder = multi_object.find_multi_object(
    name, data.variant, data_dir, required=required
  )
  if builder is None:
    return None
  _check_unread(data, name)
  return multi_object.create_multi_object(
    builder,
    data.tfds.train_split if train else split,
    name=name,
    variant=data.variant,
    max_objects=max_objects,
    **arguments,
  )


def _check_unread(data: Any, source: str) -> None:
  """Raises ValueError if a key is set that the source of data does not read."""
  for key, (default, readers) in _READERS.items():
    *group, name = key.split(".")
    value = data[group[0]][name] if group else data[name]
    if source not in readers and value != default:
      raise ValueError(
        f"Expected data.{key} to be {default!r} for data.name={data.name!r}, "
        f"of which {source} is read, got {value!r}. Remove the override; it is "
        f"for data.name out of {list(readers)}."
      )


def create_own_scenes(
  config: Any,
  split: str,
  *,
  batch_size: int,
  sharding: jax.sharding.NamedSharding,
  on_device: bool | Literal["auto"] = "auto",
  warn: bool = True,
) -> types.Dataset:
  """Batches of scenes that the package renders.

  Args:
    config: a whole `ConfigDict`; its `data` group and `seed` are read.
    split: `"train"`, `"validation"`, `"test"`, or `"train_eval"`, which is the
      same as `"validation"`.
    batch_size: global batch size.
    sharding: sharding of the batch axis.
    on_device: whether `data.scenes.num_train` are held in device memory.
    warn: whether to say so if they take the place of data.

  Returns:
    A dataset, endless if `split` is `"train"`.

  Raises:
    ValueError: on an unknown split, or a key that does not fit the scenes.
  """
  data = config.data
  family = create_family(config)
  resolution = tuple(data.resolution)
  if warn and data.name in _STAND_INS:
    logging.warning(
      "NO %s DATA FOUND: using the package's own scenes %r at %dx%d instead. "
      "Numbers of this run are not numbers on %s.",
      data.name.upper(),
      family.name,
      *resolution,
      data.name,
    )
  if data.scenes.num_train < 0:
    raise ValueError(
      "Expected data.scenes.num_train of at least 0, which is without end, got "
      f"{data.scenes.num_train}."
    )
  if split == "train" and data.scenes.num_train:
    return fixed_scenes.create_fixed_scenes(
      family,
      num_scenes=data.scenes.num_train,
      resolution=resolution,
      batch_size=batch_size,
      sharding=sharding,
      seed=config.seed,
      on_device=on_device,
    )
  return procedural.SceneDataset(
    family,
    split="validation" if split == "train_eval" else split,
    batch_size=batch_size,
    sharding=sharding,
    resolution=resolution,
    seed=config.seed,
    num_examples=None if split == "train" else data.scenes.num_eval,
  )


def create_family(config: Any) -> procedural.SceneFamily:
  """The scenes that a config names, or that stand in for its data.

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
      f"Expected data.name out of {sorted((*SCENES, *_STAND_INS))}, of which "
      f"there are rendered scenes, got {data.name!r}."
    )
  _check_unread(data, name)
  given = tuple(data.scenes.num_objects)
  num_objects = None if given == (0, 0) else given
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
    crop=crop_of(config),
    textured=data.variant == "textured",
    held_out=data.scenes.held_out,
  )


def has_stand_in(name: str) -> bool:
  """Whether own scenes can take the place of the data of a name."""
  return name in _STAND_INS


def crop_of(config: Any) -> Any:
  """The crop of `data.crop`, as `transforms.preprocess_image` takes it."""
  name, crop = config.data.name, config.data.crop
  if crop != "auto":
    return crop or None
  if name == "folder":
    return "center"
  return "paper" if name.startswith("clevr") else None
