"""Finds the slots of images with trained weights; no config is needed.

  slot-attention predict --model=clevr6 --images=DIR --output=predictions

For every image, a directory in --output has

  overlay.png        the image under the slots' colors: look at this first
  segments.png       the number of each pixel's slot (0: the model did not see
                     the pixel), as the index of a palette, lossless
  slot_1.png, ...    what each slot takes of the image, the rest transparent
  iterations.png     the attention of every slot at every iteration (and .svg)
  arrays.npz         masks, attention, slots, reconstruction or predictions
  objects.png        (set predictors) numbered marks, and what the objects are

and --output itself has overview.png and prediction.json and, of set predictors,
objects.json and objects.csv.
"""

import argparse
import pathlib
import time
from collections.abc import Sequence

import jax

from slot_attention_jax import pretrained
from slot_attention_jax.data.images import pixels
from slot_attention_jax.predict import predictions, trained_model
from slot_attention_jax.predict import writer as writer_lib
from slot_attention_jax.runtime import (
  compilation,
  files,
  progress,
  signals,
  storage,
  user_errors,
)

_SUFFIXES = (".png", ".jpg", ".jpeg")
_MIN_CONFIDENCE = 0.5


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
    help="of set predictors: of what counts as an object, from 0 to 1; "
    f"default: {_MIN_CONFIDENCE}",
  )
  parser.add_argument(
    user_errors.FLAG, action="store_true", help="show a user error's traceback"
  )
  return parser


def _min_confidence(
  given: float | None, trained: trained_model.TrainedModel
) -> float:
  """What counts as an object; only set predictors can be told."""
  if given is None:
    return _MIN_CONFIDENCE
  if trained.layout is None:
    raise ValueError(
      "Expected no --min_confidence, as the model finds slots and predicts no "
      f"properties, got {given}. Leave it out."
    )
  return given


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
  if not 0 <= (arguments.min_confidence or 0) <= 1:
    raise ValueError(
      "Expected a number from 0 to 1 as --min_confidence, got "
      f"{arguments.min_confidence}."
    )
  predictions.check_seed(arguments.seed)
  trained = trained_model.load(arguments.model)
  min_confidence = _min_confidence(arguments.min_confidence, trained)
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
  writer = writer_lib.Writer(output, paths, arguments.model, min_confidence)
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
