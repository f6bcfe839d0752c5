"""Finds the slots of images with trained weights; no config is needed.

  slot-attention predict --model=clevr6_small --images=DIR --output=predictions

For every image, a directory in --output has

  overlay.png        the image under the slots' colors: look at this first
  segments.png       the number of each pixel's slot (0: the model did not see
                     the pixel), as the index of a palette, lossless
  slot_1.png, ...    what each slot takes of the image, the rest transparent
  iterations.png     the attention of every slot at every iteration (and .svg)
  arrays.npz         masks, attention, slots, reconstruction or predictions
  objects.png        (set predictors) a mark for every object

and --output itself has overview.png and prediction.json and, of set predictors,
objects.json and objects.csv.
"""

import argparse
import datetime
import itertools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from slot_attention_jax import pretrained
from slot_attention_jax.data.images import pixels
from slot_attention_jax.evaluation import figures
from slot_attention_jax.predict import (
  pictures,
  predictions,
  tables,
  trained_model,
)
from slot_attention_jax.runtime import (
  compilation,
  files,
  progress,
  provenance,
  signals,
  storage,
  user_errors,
)

_SUFFIXES = (".png", ".jpg", ".jpeg")
# In the overview.
_MOST_ROWS = 8
# Names in the output directory that images' own directories must not have.
_OWN_NAMES = (
  *(".", "..", "overview.png", "overview.svg"),
  *("objects.csv", "objects.json", "prediction.json"),
)


def main(argv: Sequence[str] | None = None) -> None:
  """Predicts as the arguments say and prints where everything is."""
  arguments = _parser().parse_args(argv)
  with user_errors.exit_on_user_error(argv), signals.handled():
    _predict(arguments)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="slot-attention predict",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  names = ", ".join(pretrained.pretrained_names())
  parser.add_argument(
    "--model",
    required=True,
    metavar="NAME|FILE|RUN",
    help=f"weights of the package ({names}), a .safetensors file of "
    "export_weights, or the --workdir of a training, local or gs://: its best "
    "checkpoint, or else its last",
  )
  parser.add_argument(
    "--images",
    required=True,
    metavar="DIR|FILE",
    help="a PNG or JPEG file, or a folder of them",
  )
  parser.add_argument(
    "--output",
    required=True,
    metavar="DIR",
    help="a directory that is empty or does not exist",
  )
  parser.add_argument(
    "--num_slots",
    type=int,
    help="K; default: the model's, which some models fix",
  )
  parser.add_argument(
    "--num_iterations", type=int, help="T; default: the model's"
  )
  parser.add_argument(
    "--seed", type=int, default=0, help="of the slot noise; default: 0"
  )
  parser.add_argument(
    "--batch_size", type=int, default=4, help="images at once; default: 4"
  )
  parser.add_argument(
    "--min_confidence",
    type=float,
    default=0.5,
    help="of set predictors: of what counts as an object; default: 0.5",
  )
  parser.add_argument(
    user_errors.FLAG, action="store_true", help="show a user error's traceback"
  )
  return parser


def _predict(arguments: argparse.Namespace) -> None:
  began = time.monotonic()
  paths = find_images(storage.to_local_path(arguments.images, "--images"))
  output = storage.to_local_path(arguments.output, "--output")
  if output.is_dir() and any(output.iterdir()):
    raise ValueError(
      f"Expected an empty or no directory as --output, got {output}, which has "
      "files. Name another one."
    )
  if output.exists() and not output.is_dir():
    raise ValueError(
      f"Expected a directory as --output, got the file {output}."
    )
  predictions.check_seed(arguments.seed)
  trained = trained_model.load(arguments.model)
  options = predictions.check_options(
    trained,
    arguments.num_slots,
    arguments.num_iterations,
    min(arguments.batch_size, len(paths)),
  )
  print(_describe(trained, options))
  with progress.Progress(len(paths), "Reading", "images", leave=False) as bar:
    examples = []
    for i, path in enumerate(paths):
      example = predictions.prepare(pixels.read_rgb(path), trained, str(path))
      examples.append(example)
      bar.update(i + 1)
  with files.naming_errors(output):
    output.mkdir(parents=True, exist_ok=True)
  if not jax.config.jax_compilation_cache_dir:  # pyright: ignore
    compilation.keep_programs()
  print(f"{len(paths)} images. The first batch takes a while: compiling.")
  writer = _Writer(output, paths, arguments.model, arguments.min_confidence)
  with progress.Progress(len(paths), "Predicting", "images") as bar:
    for first in range(0, len(paths), options.batch_size):
      found = predictions.run(
        trained,
        examples[first : first + options.batch_size],
        options,
        seed=arguments.seed,
        first=first,
      )
      writer.write(first, found)
      bar.update(first + len(found))
  writer.finish(trained, options, arguments.seed)
  print(writer.summary(trained, time.monotonic() - began))


def find_images(path: pathlib.Path) -> list[pathlib.Path]:
  """The images of a folder, or of the folder `images` in it, by name.

  Args:
    path: the folder, or one image.

  Returns:
    Their paths.

  Raises:
    FileNotFoundError: if there is no such path, or no image in it.
  """
  if path.is_file():
    return [path]
  if not path.is_dir():
    raise FileNotFoundError(
      f"Expected a folder or an image as --images, found no {path}."
    )
  for folder in (path, path / "images"):
    found = sorted(
      p
      for p in (folder.iterdir() if folder.is_dir() else ())
      if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")
    )
    if found:
      return found
  others = sorted(p.name for p in path.iterdir())[:5]
  raise FileNotFoundError(
    f"Expected PNG or JPEG files in {path}, or in {path / 'images'}, found "
    f"none{f', but {others}' if others else ''}."
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
    >>> from slot_attention_jax.predict import command_line
    >>> command_line.directory_names(["a.jpg", "a.png", "b.png"])
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


def _describe(
  trained: trained_model.TrainedModel, options: predictions.Options
) -> str:
  h, w = trained.resolution
  return (
    f"{trained.name}: {options.num_slots} slots, {options.num_iterations} "
    f"iterations, on images of {h} x {w} pixels (crop: "
    f"{trained.crop or 'none'}).\nIt was trained on {trained.data}: expect "
    "less on other kinds of images."
  )


class _Writer:
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
          directory / "objects.png", pictures.marks(image, objects)
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
        "camera": "the mean camera of the data, so off by a few pixels",
        "attention": "the center of mass of each slot's attention",
      }[self._first.pixels_from if self._first else "attention"]
      lines += [
        f"  {count} objects: {self._output / 'objects.csv'}, "
        f"{self._output / 'objects.json'}, NAME/objects.png",
        f"  Their places in the image are from {how}.",
      ]
    lines.append(f"In Python: sa.predict(images, model={self._model!r}).")
    return "\n".join(lines)
