"""A folder of images, with or without masks, as a dataset.

Images are PNG or JPEG files, in `DIR` or `DIR/images`. Masks, where there are
any, are PNG files of the same names in `DIR/masks`, which `masks` reads. `DIR`
may also hold one folder of this kind for each split, `train`, `validation` and
`test`; otherwise the split of an image follows from its name alone: about a
tenth each is `validation` and `test`.
"""

import dataclasses
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from slot_attention_jax.data import (
  cache,
  cached_dataset,
  prefetch,
  transforms,
  types,
)
from slot_attention_jax.data.images import masks as masks_lib
from slot_attention_jax.data.images import pixels

SPLITS = ("train", "validation", "test")
_SUFFIXES = (".png", ".jpg", ".jpeg")
# Part of the fingerprint: raise it when `_decode` gives other values.
_PREPROCESSING = 2


@dataclasses.dataclass(frozen=True)
class _Example:
  """An image and what is known of it before it is decoded."""

  name: str
  split: str
  image: pathlib.Path
  mask: pathlib.Path | None


def open(
  data_dir: str | os.PathLike[str],
  split: str,
  images: transforms.ImageSpec,
  batching: cached_dataset.Batching,
  *,
  max_objects: int | None = None,
) -> cached_dataset.CachedDataset:
  """Opens a folder of images: finds them, decodes them once, makes batches.

  Args:
    data_dir: the folder, laid out as this module says. Its name is the name of
      the data.
    split: `"train"`, `"validation"`, `"test"`, or `"all"`.
    images: how images and masks are cropped, resized and cached. The aspect
      ratio is not kept, but `"center"` crops to the largest square.
    batching: how examples become batches.
    max_objects: keep images of up to this many objects; None keeps all. Without
      masks the number of objects is unknown: all are kept, with a warning.

  Returns:
    The dataset. Batches hold `"image"` and, if there are masks,
    `"segmentation"` with the objects of each image numbered from 1.

  Raises:
    FileNotFoundError: if there is no such folder or no image in it.
    ValueError: on an unknown split or one without images, an image without a
      mask where there is a folder of masks, two images of one name, or a file
      that is invalid.
  """
  check_split(split)
  root = pathlib.Path(data_dir).expanduser().absolute()
  examples = _find(root)
  cached = _load(root, examples, images)
  has_masks = examples[0].mask is not None
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
  info = dataclasses.replace(
    _info(root, split, images.resolution, has_masks), num_examples=len(rows)
  )
  if has_masks:
    most = int(cached.arrays["num_objects"].max())
    info = dataclasses.replace(info, max_objects=most)
  return cached_dataset.from_cache(cached, np.array(rows), info, batching)


def describe(
  data_dir: str | os.PathLike[str], split: str, resolution: tuple[int, int]
) -> types.DatasetInfo:
  """Says what a split will be, without decoding anything.

  Args:
    data_dir: as for `open`, like `split`; the errors are the same.
    split: name of the split.
    resolution: (H, W).

  Returns:
    What `open` will say, but for `num_examples` and, if there are masks, the
    number of objects, which is that of one here.
  """
  check_split(split)
  root = pathlib.Path(data_dir).expanduser().absolute()
  return _info(root, split, resolution, _find(root)[0].mask is not None)


def _info(
  root: pathlib.Path, split: str, resolution: tuple[int, int], has_masks: bool
) -> types.DatasetInfo:
  return types.DatasetInfo(
    name=f"folder:{root.name}",
    split=split,
    image_shape=(*resolution, 3),
    num_examples=None,
    max_objects=int(has_masks),
    has_segmentation=has_masks,
  )


def check_split(split: str) -> None:
  """Raises ValueError unless folders have such a split."""
  if split not in (*SPLITS, "all"):
    raise ValueError(
      f"Expected a split out of {[*SPLITS, 'all']}, got {split!r}."
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
  # A folder of masks has one for every image, but a split may lack the folder.
  lacking = [e.name for e in found if e.mask is None]
  if lacking and len(lacking) < len(found):
    raise ValueError(
      f"Expected a mask for every image of {root} or for none, but "
      f"{len(lacking)} of {len(found)} have none, the first is {lacking[0]}."
    )
  return found


def _find_in(folder: pathlib.Path, root: pathlib.Path) -> Iterator[_Example]:
  """The images of a folder, or of the folder `images` in it."""
  images = folder / "images" if (folder / "images").is_dir() else folder
  paths = sorted(
    (
      path
      for path in images.iterdir()
      if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    ),
    key=lambda path: (path.stem, path.name),
  )
  for before, path in itertools.pairwise(paths):
    if path.stem == before.stem:
      raise ValueError(
        f"Expected one image of the name {path.stem!r} in {images}, found two."
      )
  masks = masks_lib.find_masks(folder, [path.stem for path in paths])
  for path in paths:
    split = folder.name if folder != root else _split_by_name(path.stem)
    name = path.relative_to(root).as_posix()
    mask = None if masks is None else masks[path.stem]
    yield _Example(name, split, path, mask)


def _split_by_name(stem: str) -> str:
  """The split of an image, which no other image can change."""
  digest = hashlib.sha256(stem.encode()).digest()
  part = int.from_bytes(digest[:8], "big") % 10
  return {0: "validation", 1: "test"}.get(part, "train")


def _load(
  root: pathlib.Path, examples: list[_Example], images: transforms.ImageSpec
) -> cache.Cache:
  """The cache of all splits, so that all know the most objects of any image."""
  height, width = images.resolution
  arrays: dict[str, tuple[tuple[int, ...], Any]] = {
    "image": ((height, width, 3), np.uint8)
  }
  if examples[0].mask is not None:
    arrays["segmentation"] = ((height, width), np.uint8)
    arrays["num_objects"] = ((), np.int32)

  def decode(example: _Example) -> dict[str, Any]:
    return _decode(example, images)

  return cache.build_or_load(
    images.cache_dir,
    fingerprint={
      # Names, sizes and times can be those of another folder.
      "directory": str(root),
      "files": [_describe_files(root, e) for e in examples],
      "resolution": [height, width],
      "crop": images.crop,
      "preprocessing": _PREPROCESSING,
    },
    num_examples=len(examples),
    arrays=arrays,
    examples=lambda: prefetch.parallel_map(decode, examples),
    label=f"folder-{root.name}-{height}x{width}-{images.crop or 'full'}",
  )


def _describe_files(root: pathlib.Path, example: _Example) -> list[Any]:
  """What changes when a file does."""
  described: list[Any] = [example.name]
  for path in (example.image, example.mask):
    if path is not None:
      stat = path.stat()
      name = path.relative_to(root).as_posix()
      described += [name, stat.st_size, stat.st_mtime]
  return described


def _decode(example: _Example, images: transforms.ImageSpec) -> dict[str, Any]:
  """Decodes an image and its mask into the cache's arrays."""
  raw = pixels.read_rgb(example.image)
  image = transforms.preprocess_image(raw, images.resolution, images.crop)
  out: dict[str, Any] = {"image": transforms.to_uint8(image)}
  if example.mask is None:
    return out
  ids = masks_lib.read_ids(example.mask)
  if ids.shape != raw.shape[:2]:
    raise ValueError(
      f"Expected {example.mask} to have the size of its image, "
      f"{raw.shape[:2]}, got {ids.shape}."
    )
  segmentation = transforms.preprocess_segmentation(
    ids, images.resolution, images.crop
  )
  out["segmentation"] = segmentation.astype(np.uint8)
  out["num_objects"] = int(ids.max())
  return out
