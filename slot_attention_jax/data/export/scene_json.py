"""Scenes as entries of a `scenes.json`, laid out like CLEVR's.

References:
  github.com/facebookresearch/clevr-dataset-gen,
  `image_generation/render_images.py`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from slot_attention_jax.data import types

_RIGHT = (0.6563112735748291, 0.7544902563095093, 0.0)
_BEHIND = (-0.754490315914154, 0.6563112735748291, 0.0)
_ABOVE = (0.0, 0.0, 1.0)


def _opposite(direction: tuple[float, ...]) -> tuple[float, ...]:
  return tuple(-x if x else 0.0 for x in direction)


DIRECTIONS = {
  "right": _RIGHT,
  "behind": _BEHIND,
  "above": _ABOVE,
  "below": _opposite(_ABOVE),
  "left": _opposite(_RIGHT),
  "front": _opposite(_BEHIND),
}
"""Unit vectors on CLEVR's ground, the same in all of its scenes."""
# Least distance, in CLEVR's units, for an object to be right of another.
_MARGIN = 0.2


def relationships(
  coords: np.ndarray, directions: Mapping[str, tuple[float, ...]]
) -> dict[str, list[list[int]]]:
  """Which objects lie in which direction of which.

  Args:
    coords: [O, 3] positions of the objects.
    directions: unit vectors by name; those of above and below are ignored.

  Returns:
    For each direction, for each object i, the sorted indices of the objects
    that lie there as seen from i.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.data.export import scene_json
    >>> scene_json.relationships(
    ...   np.array([[0.0, 0, 0], [1, 0, 0]]), {"right": (1, 0, 0)})
    {'right': [[1], []]}
  """
  coords = np.asarray(coords, np.float64).reshape(-1, 3)
  offsets = coords[None] - coords[:, None]  # [O, O, 3], from i to j
  return {
    name: [
      np.flatnonzero(row).tolist()
      for row in offsets @ np.asarray(direction) > _MARGIN
    ]
    for name, direction in directions.items()
    if name not in ("above", "below")
  }


def scene_entry(
  *,
  index: int,
  file_name: str,
  split: str,
  objects: Mapping[str, np.ndarray],
  extras: Mapping[str, Any],
  properties: types.PropertyLayout,
  first_id: int = 0,
) -> dict[str, Any]:
  """One scene of a `scenes.json`.

  Objects keep the names and units of the family's `describe`; class ids become
  names. Objects with `x`, `y` and `z` are written as CLEVR's are, and their
  scene has `directions` and `relationships`.

  Args:
    index: number of the scene in the file.
    file_name: name of the image's file.
    split: name of the split.
    objects: [O, ...] arrays of the scene's objects, padding left out; object i
      is segment i + 1.
    extras: more about the scene, as the places of camera and lamps; its
      `directions`, if any, replace `DIRECTIONS`.
    properties: what the class ids in `objects` mean.
    first_id: id of a property's first class.

  Returns:
    The entry, of plain Python values.
  """
  columns = {k: _names(k, v, properties, first_id) for k, v in objects.items()}
  entry: dict[str, Any] = {
    "image_index": index,
    "image_filename": file_name,
    "split": split,
  }
  spatial = {"x", "y", "z"} <= set(columns)
  if spatial:
    place = [columns.pop(axis) for axis in ("x", "y", "z")]
    columns["3d_coords"] = [list(p) for p in zip(*place, strict=True)]
    columns["pixel_coords"] = [
      # Whole pixels, then the distance from the camera.
      [round(x), round(y), distance]
      for x, y, distance in columns["pixel_coords"]
    ]
    entry["directions"] = {k: list(v) for k, v in DIRECTIONS.items()}
  entry |= {key: _plain(value) for key, value in extras.items()}
  entry["objects"] = [
    dict(zip(columns, row, strict=True))
    for row in zip(*columns.values(), strict=True)
  ]
  if spatial:
    entry["relationships"] = relationships(
      np.array(columns["3d_coords"]), entry["directions"]
    )
  return entry


def _names(
  name: str,
  values: np.ndarray,
  properties: types.PropertyLayout,
  first_id: int,
) -> list[Any]:
  """A column of objects, with names for the ids of classes."""
  known = {p.name: p.labels for p in properties.properties}
  if np.issubdtype(values.dtype, np.integer) and known.get(name):
    return [known[name][i - first_id] for i in values]
  return values.tolist()


def _plain(value: Any) -> Any:
  """Nested dicts of arrays as nested dicts of lists and numbers."""
  if isinstance(value, Mapping):
    return {k: _plain(v) for k, v in value.items()}
  return np.asarray(value).tolist()
