"""Scenes from the dictionaries of CLEVR's `scenes.json`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from slot_attention_jax.data import types
from slot_attention_jax.data.procedural.clevr import scene

_LAMPS = {
  "key_light": ("Lamp_Key", scene.KEY_LIGHT),
  "fill_light": ("Lamp_Fill", scene.FILL_LIGHT),
  "back_light": ("Lamp_Back", scene.BACK_LIGHT),
}


def parse_scene(
  annotation: Mapping[str, Any], max_objects: int = 10
) -> scene.Scene:
  """Builds a scene from its annotation.

  Args:
    annotation: one entry of the list `scenes` of a CLEVR JSON file. The
      published files do not have the jittered locations of camera and lamps.
      `camera_location` [3] and `lamp_locations` (`Lamp_Key`, `Lamp_Fill` and
      `Lamp_Back`, [3] each) are read if present; without them there is no
      jitter.
    max_objects: O, rows of the scene.

  Returns:
    A `Scene` of NumPy arrays.

  Raises:
    ValueError: if there are more than `max_objects` objects, or a property has
      a value that CLEVR does not have.
  """
  objects = annotation["objects"]
  if len(objects) > max_objects:
    raise ValueError(
      f"Expected at most {max_objects} objects, got {len(objects)}. Raise "
      "max_objects."
    )
  ids = {
    name: np.zeros(max_objects, np.int32)
    for name in ("size", "material", "shape", "color")
  }
  coords = np.zeros((max_objects, 3), np.float32)
  rotation = np.zeros(max_objects, np.float32)
  for i, item in enumerate(objects):
    coords[i], rotation[i] = item["3d_coords"], item["rotation"]
    for name, column in ids.items():
      labels = types.CLEVR_LAYOUT[name].labels
      if item[name] not in labels:
        raise ValueError(
          f"Expected a {name} of {labels}, got {item[name]!r} for object {i}."
        )
      column[i] = labels.index(item[name])
  lamps = annotation.get("lamp_locations", {})
  fields: dict[str, Any] = {
    field: np.array(lamps.get(name, default), np.float32)
    for field, (name, default) in _LAMPS.items()
  }
  fields |= ids
  fields["coords"], fields["rotation"] = coords, rotation
  fields["texture_seed"] = np.zeros(max_objects + 1, np.uint32)
  fields["present"] = np.arange(max_objects) < len(objects)
  camera = annotation.get("camera_location", scene.CAMERA)
  fields["camera"] = np.array(camera, np.float32)
  return scene.Scene(**fields)
