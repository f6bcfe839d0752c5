"""Datasets by the names a config uses."""

from collections.abc import Callable
from typing import Any

import jax

from slot_attention_jax.data import (
  clevr,
  folder,
  multi_object,
  own_scenes,
  types,
)
from slot_attention_jax.data.own_scenes import create_family

NAMES = ("clevr", *multi_object.NAMES, "folder", *own_scenes.NAMES)
_ON_DEVICE = {"auto": "auto", "yes": True, "no": False}
_REGISTERED: dict[str, Callable[..., types.Dataset]] = {}


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
  if data.name not in own_scenes.NAMES:
    dataset = _read(config, split, on_device=on_device, **batches)
    if dataset is not None:
      return dataset
  elif data.data_dir:
    raise ValueError(
      f"Expected data.data_dir to be empty for data.name={data.name!r}, which "
      f"is rendered, got {data.data_dir!r}. Remove the override."
    )
  return own_scenes.create_own_scenes(
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
    "crop": own_scenes.crop_of(config),
    "seed": config.seed,
    "train": train,
    "cache_dir": data.cache_dir or None,
  }
  required = not (data.fallback and own_scenes.has_stand_in(name))
  if name == "folder":
    if data_dir is None:
      raise ValueError(
        "Expected data.data_dir to name the folder of images for "
        "data.name='folder', got ''."
      )
    own_scenes.check_unused(config, ("train_split",))
    split = data.train_split if train else split
    return folder.create_folder(
      data_dir, split, max_objects=max_objects, **arguments
    )
  if name == "clevr":
    builder = clevr.find_clevr(data_dir, required=required)
    if builder is None:
      return None
    own_scenes.check_unused(config)
    return clevr.create_clevr(
      builder,
      split,
      task=config.task,
      max_objects=max_objects,
      num_train_eval=data.num_train_eval,
      **arguments,
    )
  builder = multi_object.find_multi_object(
    name, data.variant, data_dir, required=required
  )
  if builder is None:
    return None
  own_scenes.check_unused(config, ("train_split", "variant"))
  return multi_object.create_multi_object(
    builder,
    data.train_split if train else split,
    name=name,
    variant=data.variant,
    max_objects=max_objects,
    **arguments,
  )
