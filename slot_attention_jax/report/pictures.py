"""What the page shows of evaluations: arrays as PNG in the page, or figures."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from slot_attention_jax.data import types
from slot_attention_jax.evaluation import (
  arrays,
  object_figure,
  palette,
  placement,
)
from slot_attention_jax.report import runs
from slot_attention_jax.runtime import storage

EVALUATION = "evaluation"
_MOST_IMAGES = 8
# Characters of all pictures, so that the page stays small.
_BUDGET = 7_000_000


class _Store:
  """Pictures of a page, each once, as data URIs."""

  def __init__(self):
    self.uris: list[str] = []
    self._numbers: dict[str, int] = {}

  def add(self, image: np.ndarray) -> int:
    """Adds an image [H, W] or [H, W, 3] uint8; returns its number."""
    uri = data_uri(_encoded(image))
    if uri not in self._numbers:
      self._numbers[uri] = len(self.uris)
      self.uris.append(uri)
    return self._numbers[uri]


def data_uri(png: bytes) -> str:
  """A PNG file as an address that needs no network."""
  return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def viewer(run: runs.Run, notes: list[str]) -> dict[str, Any] | None:
  """The evaluations of a run, for the page's viewer of slots.

  Args:
    run: the run.
    notes: sentences about what is damaged or left out are added.

  Returns:
    Plain values: `entries`, one for each evaluation, whose numbers of pictures
    index `pictures`; None if the run has no arrays.
  """
  layout = _layout(run)
  paths = _files(run.path, "npz")
  # Compressed, arrays take about as much as the pictures made of them.
  kept = thin([storage.size(path) * 4 // 3 for path in paths], _BUDGET)
  if len(kept) < len(paths):
    notes.append(
      f"The slots of {len(kept)} of {len(paths)} evaluations are shown, so "
      "that the page stays small."
    )
  store, entries = _Store(), []
  for i in kept:
    try:
      found = arrays.load(paths[i])
      entries.append(_entry(paths[i], found, store, layout, run.data))
    except (OSError, ValueError, KeyError) as error:
      notes.append(f"{paths[i].name} is left out: {error}")
  if not entries:
    return None
  colors = [[int(c) for c in color] for color in palette.COLORS]
  return {"entries": entries, "pictures": store.uris, "colors": colors}


def drawn_figures(run: runs.Run) -> list[dict[str, str]]:
  """The figures of a run without arrays: labels and pictures as data URIs."""
  paths = _files(run.path, "png") or _files(run.path, "png", "images")
  contents = [path.read_bytes() for path in paths]
  kept = thin([len(c) * 4 // 3 for c in contents], _BUDGET)
  return [
    {"label": _label(paths[i]), "picture": data_uri(contents[i])} for i in kept
  ]


def thin(sizes: Sequence[int], budget: int) -> list[int]:
  """Chooses entries at even distances, first and last among them.

  Args:
    sizes: of the entries.
    budget: what those chosen may have together; one entry is always chosen.

  Returns:
    Their indices.

  Example:
    >>> from slot_attention_jax.report import pictures
    >>> pictures.thin([10, 10, 10, 10, 10], 30)
    [0, 2, 4]
  """
  for count in range(len(sizes), 1, -1):
    chosen = np.linspace(0, len(sizes) - 1, count).round().astype(int).tolist()
    if sum(sizes[i] for i in chosen) <= budget:
      return chosen
  return [len(sizes) - 1] if sizes else []


def _files(
  path: storage.Path, suffix: str, folder: str = "figures"
) -> list[storage.Path]:
  """Files of evaluations in the order of their steps, the separate one last."""
  found = sorted((path / folder).glob(f"*.{suffix}"))
  steps = [p for p in found if p.stem.isdecimal()]
  steps.sort(key=lambda p: int(p.stem))
  return steps + [p for p in found if p.stem == EVALUATION]


def _label(path: storage.Path) -> str:
  stem = path.stem
  return f"step {int(stem)}" if stem.isdecimal() else "separate evaluation"


def _layout(run: runs.Run) -> types.PropertyLayout | None:
  try:
    return types.layout_from_dict(run.metadata["layout"])
  except (KeyError, TypeError, ValueError):
    return None


def _entry(path, found, store, layout, data) -> dict[str, Any]:
  """One evaluation."""
  attention = found["attention"]
  _, t, k, h, w = attention.shape
  _check(path, found)
  return {
    "label": _label(path),
    "slots": k,
    "iterations": t,
    "size": list(found["image"].shape[1:3]),
    "grid": [h, w],
    "images": [
      _image(found, b, store, layout, data)
      for b in range(min(len(attention), _MOST_IMAGES))
    ],
  }


def _check(path, found) -> None:
  """Raises ValueError unless the arrays belong together."""
  b, _, k, _, _ = found["attention"].shape
  size = found["image"].shape[1:3]
  expected = {
    "image": (b, *size, 3),
    "masks": (b, k, *size),
    "reconstruction": (b, *size, 3),
    "segmentation": (b, *size),
  }
  for name, shape in expected.items():
    if name in found and found[name].shape != shape:
      raise ValueError(
        f"Expected {name} of shape {shape} in {path}, got {found[name].shape}. "
        "Remove the file."
      )


def _image(found, b, store, layout, data) -> dict[str, Any]:
  """One image of an evaluation. Tiles of slots are below each other."""
  _, t, k, h, w = found["attention"].shape
  image: dict[str, Any] = {
    "image": store.add(found["image"][b]),
    "attention": store.add(found["attention"][b].reshape(t * k * h, w)),
    "scores": {
      name.removeprefix("score_"): runs.finite(float(values[b]), 3)
      for name, values in found.items()
      if name.startswith("score_")
    },
  }
  if "masks" in found:
    masks = found["masks"][b]
    image["masks"] = store.add(masks.reshape(-1, masks.shape[-1]))
  for name in ("reconstruction", "segmentation"):
    if name in found:
      image[name] = store.add(found[name][b])
  if "predictions" in found and layout is not None:
    image["objects"] = _objects(found, b, layout, data)
  return image


def _objects(found, b, layout, data) -> dict[str, Any]:
  """The objects of an image and where they are, as shares of its size."""
  predictions = found["predictions"][b]
  target = found["target"][b] if "target" in found else None
  pairs = object_figure.match(predictions, target, layout)
  places, true_places = _places(found, b, layout, data)
  rows = [
    {
      "slot": pair.slot,
      "confidence": runs.finite(pair.confidence, 3),
      "predicted": pair.predicted,
      "true": pair.true,
      "distance": runs.finite(pair.distance, 3),
      "place": None if pair.slot is None else places[pair.slot],
    }
    for pair in pairs
  ]
  names = [p.name for p in layout.of_kind("categorical")]
  return {
    "properties": names,
    "truth": target is not None,
    "rows": rows,
    "crosses": true_places,
  }


def _places(found, b, layout, data) -> tuple[list[Any], list[Any]]:
  """(x, y) in [0, 1] of every slot's object, and of the true objects."""
  if not placement.has_camera(data, layout):
    maps = found["attention"][b, -1].astype(np.float32)
    return _shares(placement.attention_centers(maps, (0, 1, 0, 1)), (1, 1)), []
  size = found["image"].shape[1:3]

  def project(values):
    return _shares(placement.project(values[layout.position], size), size)

  places = project(layout.decode(found["predictions"][b]))
  if "target" not in found:
    return places, []
  values = layout.decode(found["target"][b])
  real = np.asarray(values[layout.confidence.name]) > 0.5
  true = project(values)
  return places, [p for p, r in zip(true, real, strict=True) if r]


def _shares(points: np.ndarray, size: tuple[int, int]) -> list[list[float]]:
  """Points (column, row) as shares of a size (H, W)."""
  shares = np.clip(points / np.array([size[1], size[0]]), 0.0, 1.0)
  return [[round(float(x), 4), round(float(y), 4)] for x, y in shares]


def _encoded(image: np.ndarray) -> bytes:
  from PIL import Image

  buffer = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(image)).save(
    buffer, format="PNG", optimize=True
  )
  return buffer.getvalue()
