"""Masks of a folder of images: where they are, and the segments in them.

They are in a folder `masks` next to `images` (or in the folder of the images
itself), a PNG file `STEM.png` or `STEM_mask.png` for each image `STEM.*`, in
upper or lower case. Their gray values or palette indices are 0 for the
background and another number for each object; or they are colors, of which
black is the background.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from slot_attention_jax.data.images import pixels

_FOLDERS = ("masks", "mask")
_ENDINGS = (".png", "_mask.png")
_MAX_OBJECTS = 255


def find_masks(
  folder: pathlib.Path, stems: Sequence[str]
) -> dict[str, pathlib.Path] | None:
  """Finds the mask of each image of a folder.

  Args:
    folder: in which the folder of masks is.
    stems: names of the images without their suffixes.

  Returns:
    A mask for each stem; None if there is no folder of masks.

  Raises:
    ValueError: if there is one, and an image has no mask in it or two.
  """
  places = [
    path
    for path in sorted(folder.iterdir())
    if path.is_dir() and path.name.lower() in _FOLDERS
  ]
  if not places or not stems:
    return None
  if len(places) > 1:
    raise ValueError(
      f"Expected one folder of masks in {folder}, found "
      f"{[path.name for path in places]}. Rename or remove one."
    )
  (place,) = places
  by_name: dict[str, list[pathlib.Path]] = {}
  for path in sorted(place.iterdir()):
    for ending in _ENDINGS:
      if path.name.lower().endswith(ending) and path.is_file():
        by_name.setdefault(path.name[: -len(ending)], []).append(path)
  found = {stem: by_name.get(stem, []) for stem in stems}
  lacking = [stem for stem, paths in found.items() if not paths]
  if lacking:
    some = [path.name for path in sorted(place.iterdir())[:3]]
    raise ValueError(
      f"Expected a mask in {place} for every image, but {len(lacking)} of "
      f"{len(stems)} have none: for the image {lacking[0]!r} it would be the "
      f"file {lacking[0]}.png or {lacking[0]}_mask.png; there are {some}. "
      "Rename or convert them, or rename the folder to go without masks."
    )
  for stem, paths in found.items():
    if len(paths) > 1:
      raise ValueError(
        f"Expected one mask for the image {stem!r}, found "
        f"{[path.name for path in paths]} in {place}. Remove one."
      )
  return {stem: paths[0] for stem, paths in found.items()}


def read_ids(path: pathlib.Path) -> np.ndarray:
  """Reads a mask as segment ids.

  Args:
    path: of the PNG file.

  Returns:
    [H, W] integers, 0 for the background, objects from 1 without gaps, in the
    order of their values.

  Raises:
    ValueError: if it cannot be read, or has more than 255 objects.
  """
  raw = pixels.read_values(path)
  if raw.ndim == 3:
    # Alpha, the last of 2 or 4 channels, says nothing.
    channels = raw[..., :3] if raw.shape[2] > 2 else raw[..., :1]
    raw = np.zeros(raw.shape[:2], np.int64)
    for channel in np.moveaxis(channels.astype(np.int64), -1, 0):
      raw = (raw << 8) | channel
  values, ids = np.unique(raw.astype(np.int64), return_inverse=True)
  ids = ids.reshape(raw.shape)
  if values[0] != 0:
    ids = ids + 1  # No background in this image.
  if ids.max() > _MAX_OBJECTS:
    raise ValueError(
      f"Expected at most {_MAX_OBJECTS} objects, got {ids.max()} values in "
      f"{path}. Is it a mask, with one value or color for each object?"
    )
  return ids
