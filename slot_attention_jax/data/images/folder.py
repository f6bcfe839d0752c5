"""A folder of images, with or without masks, as a dataset.

Images are PNG or JPEG files, in `DIR` or `DIR/images`. Masks, where there are
any, are PNG files of the same names in `DIR/masks`: gray values or palette
indices that are 0 for the background and another number for each object, or
colors of which black is the background. `DIR` may also hold one folder of this
kind for each split, `train`, `validation` and `test`; otherwise the split of
an image follows from its name alone: about a tenth each is `validation` and
`test`.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np
from absl import logging

from slot_attention_jax.data import (
  cache,
  cached_dataset,
  prefetch,
  transforms,
  types,
)

SPLITS = ("train", "validation", "test")
_SUFFIXES = (".png", ".jpg", ".jpeg")
# Part of the fingerprint: raise it when `_decode` gives other values.
_PREPROCESSING = 1
_MOST_OBJECTS = 255


@dataclasses.dataclass(frozen=True)
class _Example:
  """An image and what is known of it before it is decoded."""

  name: str
  split: str
  image: pathlib.Path
  mask: pathlib.Path | None


def create_folder(
  directory: str | os.PathLike[str],
  split: str,
  *,
  resolution: tuple[int, int],
  crop: transforms.Crop,
  batch_size: int,
  sharding: jax.sharding.NamedSharding,
  seed: int,
  train: bool,
  max_objects: int | None = None,
  cache_dir: str | os.PathLike[str] | None = None,
  on_device: bool | Literal["auto"] = "auto",
) -> cached_dataset.CachedDataset:
  """Batches of the images of a folder.

  Args:
    directory: the folder, laid out as this module says. Its name is the name of
      the data.
    split: `"train"`, `"validation"`, `"test"`, or `"all"`.
    resolution: (h, w) of the images; the aspect ratio is not kept, but see
      `crop`.
    crop: see `transforms.preprocess_image`; `"center"` is the largest square.
    batch_size: B, over all devices.
    sharding: how batches lie on the devices.
    seed: decides the order in training.
    train: endless and shuffled, or one pass in the order of the names.
    max_objects: keep images of at most so many objects; None keeps all. Without
      masks nothing is known of objects: all are kept, with a warning.
    cache_dir: the directory of all caches; None for
      `cache.default_directory()`.
    on_device: whether to hold the split in device memory, see
      `cached_dataset.CachedDataset`.

  Returns:
    The dataset. Batches hold `"image"` and, if there are masks,
    `"segmentation"` with the objects of each image numbered from 1.

  Raises:
    FileNotFoundError: if there is no such folder or no image in it.
    ValueError: on an unknown split or one without images, an image without a
      mask where others have one, two images of one name, or a file that is not
      what it should be.
  """
  if split not in (*SPLITS, "all"):
    raise ValueError(
      f"Expected a split out of {[*SPLITS, 'all']}, got {split!r}."
    )
  root = pathlib.Path(directory).expanduser().absolute()
  examples = _find(root)
  has_masks = examples[0].mask is not None
  height, width = resolution
  arrays: dict[str, tuple[tuple[int, ...], Any]] = {
    "image": ((height, width, 3), np.uint8)
  }
  if has_masks:
    arrays["segmentation"] = ((height, width), np.uint8)
    arrays["num_objects"] = ((), np.int32)

  def decode(example: _Example) -> dict[str, Any]:
    return _decode(example, resolution, crop)

  # All splits in one, so that all know the most objects of any image.
  cached = cache.build_or_load(
    cache_dir,
    fingerprint={
      "files": [_facts(root, e) for e in examples],
      "resolution": [height, width],
      "crop": crop,
      "preprocessing": _PREPROCESSING,
    },
    num_examples=len(examples),
    arrays=arrays,
    examples=lambda: prefetch.parallel_map(decode, iter(examples)),
    label=f"folder-{root.name}-{height}x{width}-{crop or 'full'}",
  )
  rows = [i for i, e in enumerate(examples) if split in (e.split, "all")]
  if max_objects is not None and not has_masks:
    logging.warning(
      "data.max_objects=%d changes nothing: %s has no masks.", max_objects, root
    )
  elif max_objects is not None:
    counts = np.asarray(cached.arrays["num_objects"])
    rows = [i for i in rows if counts[i] <= max_objects]
  if not rows:
    raise ValueError(
      f"Expected images of the split {split!r} in {root}, found none among its "
      f"{len(examples)} images (data.max_objects is {max_objects or 0}). Add "
      f"more, make a folder {split!r} in it, or use the split 'all'."
    )
  info = types.DatasetInfo(
    name=f"folder:{root.name}",
    split=split,
    image_shape=(height, width, 3),
    num_examples=len(rows),
    max_objects=int(cached.arrays["num_objects"].max()) if has_masks else 0,
    has_segmentation=has_masks,
  )
  names = ("image", "segmentation")
  return cached_dataset.CachedDataset(
    {n: cached.arrays[n] for n in names if n in cached.arrays},
    np.array(rows),
    info,
    batch_size=batch_size,
    sharding=sharding,
    seed=seed,
    shuffle=train,
    on_device=on_device,
  )


def _find(root: pathlib.Path) -> list[_Example]:
  """All images with their splits and masks, in the order of the names."""
  if not root.is_dir():
    raise FileNotFoundError(
      f"Expected data.data_dir to be a folder of images, found no {root}."
    )
  folders = [root / split for split in SPLITS if (root / split).is_dir()]
  found = [e for folder in folders or [root] for e in _find_in(folder, root)]
  if not found:
    raise FileNotFoundError(
      f"Expected PNG or JPEG files in {root}, in {root / 'images'} or in "
      f"folders {list(SPLITS)} of it, found none."
    )
  lacking = [e.name for e in found if e.mask is None]
  if lacking and len(lacking) < len(found):
    raise ValueError(
      f"Expected a mask for every image of {root} or for none, but "
      f"{len(lacking)} of {len(found)} have none, the first is {lacking[0]}: "
      "masks are PNG files of the same name in a folder 'masks' beside "
      "'images'."
    )
  return found


def _find_in(folder: pathlib.Path, root: pathlib.Path) -> Iterator[_Example]:
  images = folder / "images" if (folder / "images").is_dir() else folder
  masks = folder / "masks"
  before = None
  for path in sorted(images.iterdir(), key=lambda p: (p.stem, p.name)):
    if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
      continue
    if path.stem == before:
      raise ValueError(
        f"Expected one image of the name {path.stem!r} in {images}, found two."
      )
    before = path.stem
    mask = masks / f"{path.stem}.png"
    split = folder.name if folder != root else _split_of(path.stem)
    name = path.relative_to(root).as_posix()
    yield _Example(name, split, path, mask if mask.is_file() else None)


def _split_of(stem: str) -> str:
  """The split of an image, which no other image can change."""
  digest = hashlib.sha256(stem.encode()).digest()
  part = int.from_bytes(digest[:8], "big") % 10
  return {0: "validation", 1: "test"}.get(part, "train")


def _facts(root: pathlib.Path, example: _Example) -> list[Any]:
  """What changes when a file does."""
  facts: list[Any] = [example.name]
  for path in (example.image, example.mask):
    if path is not None:
      stat = path.stat()
      facts += [path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime]
  return facts


def _decode(
  example: _Example, resolution: tuple[int, int], crop: transforms.Crop
) -> dict[str, Any]:
  """Decodes an image and its mask into the cache's arrays."""
  pixels = _read(example.image, "RGB")
  image = transforms.preprocess_image(pixels, resolution, crop)
  out: dict[str, Any] = {
    "image": np.round((image + 1.0) * 127.5).astype(np.uint8)
  }
  if example.mask is None:
    return out
  ids = _ids(example.mask)
  if ids.shape != pixels.shape[:2]:
    raise ValueError(
      f"Expected {example.mask} to have the size of its image, "
      f"{pixels.shape[:2]}, got {ids.shape}."
    )
  out["segmentation"] = transforms.preprocess_segmentation(
    ids, resolution, crop
  ).astype(np.uint8)
  out["num_objects"] = int(ids.max())
  return out


def _ids(path: pathlib.Path) -> np.ndarray:
  """Segments [H, W], 0 for the background, objects from 1 without gaps."""
  raw = _read(path, None)
  if raw.ndim == 3:
    # Alpha, the last of 2 or 4 channels, says nothing.
    channels = np.split(raw.astype(np.int64), raw.shape[2], axis=2)
    raw = channels[0][..., 0]
    for channel in channels[1:3] if len(channels) > 2 else ():
      raw = (raw << 8) | channel[..., 0]
  raw = raw.astype(np.int64)
  values, ids = np.unique(raw, return_inverse=True)
  ids = ids.reshape(raw.shape)
  if values[0] != 0:
    ids = ids + 1  # No background in this image.
  if ids.max() > _MOST_OBJECTS:
    raise ValueError(
      f"Expected at most {_MOST_OBJECTS} objects, got {ids.max()} values in "
      f"{path}. Is it a mask, with one value or color for each object?"
    )
  return ids


def _read(path: pathlib.Path, mode: str | None) -> np.ndarray:
  """The pixels of an image file; ValueError if it cannot be read."""
  from PIL import Image, ImageOps

  try:
    with Image.open(path) as image:
      if mode is None:
        return np.asarray(image)
      return np.asarray(ImageOps.exif_transpose(image).convert(mode))
  except (OSError, SyntaxError, Image.DecompressionBombError) as error:
    raise ValueError(
      f"Expected {path} to be an image, but it cannot be read: {error}."
    ) from error
