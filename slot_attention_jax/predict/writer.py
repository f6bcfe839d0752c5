"""What `slot-attention predict` writes: a directory for each image."""

import datetime
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from slot_attention_jax.data.images import pixels
from slot_attention_jax.evaluation import figures
from slot_attention_jax.predict import (
  object_marks,
  pictures,
  predictions,
  tables,
)
from slot_attention_jax.runtime import (
  files,
  provenance,
)

# In the overview.
_MOST_ROWS = 8
# Names in the output directory that images' own directories must not have.
_OWN_NAMES = (
  *(".", "..", "overview.png", "overview.svg"),
  *("objects.csv", "objects.json", "prediction.json"),
)


def directory_names(names: Sequence[str]) -> list[str]:
  """Names of the directories that the results of images are written to.

  Args:
    names: of the files of images.

  Returns:
    For each the name without its suffix or, where that is taken, ambiguous or
    written by the command itself, with it. All differ, also on file systems
    that ignore case.

  Example:
    >>> from slot_attention_jax.predict import writer
    >>> writer.directory_names(["a.jpg", "a.png", "b.png"])
    ['a.jpg', 'a.png', 'b']
  """
  stems = [pathlib.Path(name).stem for name in names]
  taken = {*_OWN_NAMES}
  chosen = []
  for name, stem in zip(names, stems, strict=True):
    numbered = (f"{name}_{n}" for n in itertools.count(2))
    wanted = (stem, name) if stems.count(stem) == 1 else (name,)
    candidates = itertools.chain(wanted, numbered)
    chosen.append(next(c for c in candidates if c.casefold() not in taken))
    taken.add(chosen[-1].casefold())
  return chosen


class Writer:
  """Writes predictions of images, a directory each."""

  def __init__(
    self,
    output: pathlib.Path,
    paths: Sequence[pathlib.Path],
    model: str,
    min_confidence: float,
  ):
    self._output, self._paths, self._model = output, paths, model
    self._least = min_confidence
    self.names = directory_names([path.name for path in paths])
    self._objects: list[tuple[str, list[dict[str, Any]]]] = []
    self._first: predictions.Predictions | None = None

  def write(self, first: int, found: predictions.Predictions) -> None:
    """Writes a batch whose first image has this number."""
    if self._first is None:
      self._first = found
    for i in range(len(found)):
      path = self._paths[first + i]
      directory = self._output / self.names[first + i]
      image = pixels.read_rgb(path)
      masks = found.masks_in_image(i)
      numbers = found.segments_in_image(i)
      pictures.save_segments(directory / "segments.png", numbers)
      files.save_png(
        directory / "overlay.png", pictures.overlay(image, numbers)
      )
      for k, mask in enumerate(masks, 1):
        pictures.save_slot(directory / f"slot_{k}.png", image, mask)
      if figures.available():
        drawn = pictures.iterations(found, i, path.name)
        figures.save(drawn, directory / "iterations")
      self._save_arrays(directory / "arrays.npz", found, i, numbers)
      if found.predictions is not None:
        objects = tables.rows(found, i, self._least)
        self._objects.append((path.name, objects))
        files.save_png(
          directory / "objects.png", object_marks.draw(image, objects)
        )

  def _save_arrays(self, path, found, i, numbers) -> None:
    arrays = {
      "image": found.images[i],
      "masks": found.masks[i],
      "segments": found.segments[i],
      "segments_in_image": numbers,
      "attention": found.attention[i],
      "slots": found.slots[i],
      "window": np.array(found.windows[i]),
    }
    for name in ("reconstruction", "slot_images", "predictions"):
      if (values := getattr(found, name)) is not None:
        arrays[name] = values[i]
    with files.atomic_write(path) as temporary, temporary.open("wb") as file:
      np.savez_compressed(file, **arrays)

  def finish(self, trained, options, seed) -> None:
    """Writes what is about all images."""
    if trained.layout is not None:
      text = tables.to_csv(self._objects, trained.layout)
      with files.atomic_write(self._output / "objects.csv") as temporary:
        temporary.write_text(text, encoding="utf-8")
      files.write_json(
        self._output / "objects.json",
        {
          "pixels_from": self._first.pixels_from if self._first else "",
          "min_confidence": self._least,
          "images": dict(self._objects),
        },
      )
    if self._first is not None and figures.available():
      drawn = pictures.overview(self._first, _MOST_ROWS)
      figures.save(drawn, self._output / "overview")
    files.write_json(
      self._output / "prediction.json",
      {
        "model": trained.name,
        "trained_on": trained.data,
        "steps": trained.steps,
        "resolution": list(trained.resolution),
        "crop": trained.crop,
        "num_slots": options.num_slots,
        "num_iterations": options.num_iterations,
        "seed": seed,
        "images": {
          name: str(path)
          for name, path in zip(self.names, self._paths, strict=True)
        },
        "code": provenance.code_version(),
        "hardware": provenance.hardware(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(),
      },
    )

  def summary(self, trained, seconds: float) -> str:
    """What was written, and what to look at."""
    one = self._output / self.names[0]
    lines = [
      f"Done in {seconds:.1f} s. Look at {self._output / 'overview.png'} and "
      f"{one / 'overlay.png'}.",
      f"  {self._output}/NAME/: overlay.png, segments.png, slot_1.png, ..., "
      "iterations.png, arrays.npz",
    ]
    if trained.layout is not None:
      count = sum(len(rows) for _, rows in self._objects)
      how = {
        "camera": "predicted coordinates, as the mean camera sees them",
        "attention": "the center of each slot's attention",
      }[self._first.pixels_from if self._first else "attention"]
      lines += [
        f"  {count} objects: {self._output / 'objects.csv'}, "
        f"{self._output / 'objects.json'}, NAME/objects.png",
        f"  Marks are at {how}.",
      ]
    lines.append(f"In Python: sa.predict(images, model={self._model!r}).")
    return "\n".join(lines)
