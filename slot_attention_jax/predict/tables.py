"""Predicted objects as rows: of JSON, of CSV, of a picture."""

import csv
import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from slot_attention_jax.data import types
from slot_attention_jax.predict import predictions as predictions_lib


def rows(
  found: predictions_lib.Predictions, i: int, least: float = 0.5
) -> list[dict[str, Any]]:
  """The objects that a set predictor finds in an image.

  Args:
    found: predictions of a set predictor.
    i: index of the image.
    least: confidence from which on a slot's prediction is an object.

  Returns:
    A dict for each object, the most confident first: `slot` from 1,
    `confidence`, `pixel_x` and `pixel_y` in the image, names of classes, and
    numbers `NAME` or `NAME_0`, `NAME_1`, ... (`x`, `y`, `z` of coordinates).
  """
  layout = found.trained.layout
  values = found.objects(i)
  assert layout is not None
  confidence = values[layout.confidence.name]
  out = []
  for k in np.argsort(-confidence, kind="stable"):
    if confidence[k] < least:
      continue
    row: dict[str, Any] = {
      "slot": int(k) + 1,
      "confidence": _short(confidence[k]),
      "pixel_x": _short(values["pixel"][k, 0]),
      "pixel_y": _short(values["pixel"][k, 1]),
    }
    for prop in layout.properties:
      value = values[prop.name][k]
      if prop.kind == "categorical":
        row[prop.name] = prop.labels[value] if prop.labels else int(value)
      elif prop.kind == "continuous":
        names = _columns(prop, layout)
        row |= {n: _short(v) for n, v in zip(names, value, strict=True)}
    out.append(row)
  return out


def to_csv(
  images: Iterable[tuple[str, list[dict[str, Any]]]],
  layout: types.PropertyLayout,
) -> str:
  """Formats rows as CSV.

  Args:
    images: pairs (name of an image, its rows).
    layout: of the predictions.

  Returns:
    The text; its first column is the name of the image.
  """
  names = ["image", "slot", "confidence", "pixel_x", "pixel_y"]
  for prop in layout.properties:
    names += _columns(prop, layout)
  text = io.StringIO()
  writer = csv.DictWriter(text, names, lineterminator="\n")
  writer.writeheader()
  for name, found in images:
    writer.writerows({"image": name, **row} for row in found)
  return text.getvalue()


def _columns(prop: types.Property, layout: types.PropertyLayout) -> list[str]:
  """Names of the columns of a property."""
  if prop.kind == "confidence":
    return []
  if prop.kind == "categorical" or prop.size == 1:
    return [prop.name]
  if prop.name == layout.position and prop.size <= 3:
    return list("xyz")[: prop.size]
  return [f"{prop.name}_{i}" for i in range(prop.size)]


def _short(value: Any) -> float:
  return round(float(value), 4)
