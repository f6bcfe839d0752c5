"""Which slot has which pixel, evaluation by evaluation, of some runs.

  python -m experiments.draw_masks_over_training --figure=masks.png \
    --run="seed 0=runs/a" --run="seed 1=runs/b" [--images=2] [--columns=6]

Every evaluation of a training keeps the masks of its first images in
`figures/STEP.npz`. The figure has a row for each image of each run: the image,
its ground truth if there is one, and the slots' segmentation at some of the
evaluations, from the first to the last, under its ARI. Slots have the same
colors as in the figures of the run.

Prints one line of JSON: the steps and scores by run. Needs matplotlib.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common import figures
from slot_attention_jax.evaluation import palette

_SCORES = ("score_ARI", "score_FG-ARI")
_ADVICE = "Give the --workdir of a training of object discovery."


def choose(steps: Sequence[int], columns: int) -> list[int]:
  """Some of the steps, evenly over all, the first and the last among them.

  Args:
    steps: at least one, in order.
    columns: how many at most, 1 or more; 1: the last.

  Returns:
    Steps in order, none twice.

  Example:
    >>> from experiments import draw_masks_over_training
    >>> draw_masks_over_training.choose([1, 2, 3, 4, 5, 6, 7], 3)
    [1, 4, 7]
  """
  places = np.linspace(len(steps) - 1, 0, min(columns, len(steps)))
  return [steps[i] for i in sorted({round(place) for place in places})]


def read(run: pathlib.Path, columns: int) -> dict[int, dict[str, np.ndarray]]:
  """Reads what evaluations of a run kept.

  Args:
    run: its directory.
    columns: of how many evaluations at most.

  Returns:
    By step, the arrays `image` [N, H, W, 3] uint8, `masks` [N, K, H, W] and,
    with ground truth, `segmentation` [N, H, W] and scores [N].

  Raises:
    FileNotFoundError: if there are none.
    ValueError: if they have no masks.
  """
  names = (run / "figures").glob("*.npz")
  files = {int(p.stem): p for p in names if p.stem.isdigit()}
  if not files:
    raise FileNotFoundError(
      f"Expected {run / 'figures'} to have STEP.npz of evaluations, found "
      f"none. {_ADVICE}"
    )
  found = {}
  for step in choose(sorted(files), columns):
    with np.load(files[step], allow_pickle=False) as arrays:
      found[step] = {name: arrays[name] for name in arrays.files}
    if "masks" not in found[step]:
      raise ValueError(
        f"Expected masks in {files[step]}, got {sorted(found[step])}. {_ADVICE}"
      )
  return found


def draw(
  runs: dict[str, dict[int, dict[str, np.ndarray]]], num_images: int
) -> Any:
  """Draws the figure.

  Args:
    runs: by label, from `read`.
    num_images: images of each run, at most.

  Returns:
    The figure.
  """
  rows = [
    (label, evaluations, i)
    for label, evaluations in runs.items()
    for i in range(
      min(num_images, len(next(iter(evaluations.values()))["masks"]))
    )
  ]
  width = 2 + max(map(len, runs.values()))
  pyplot = figures.import_pyplot()
  figure, axes = pyplot.subplots(
    len(rows), width, figsize=(1.3 * width, 1.5 * len(rows)), squeeze=False
  )
  figure.suptitle("Slots after so many updates, and their ARI", fontsize=9)
  for panel in axes.flat:
    panel.axis("off")
  for row, (label, evaluations, i) in enumerate(rows):
    last = evaluations[max(evaluations)]
    _show(axes[row, 0], last["image"][i], "" if i else label)
    if "segmentation" in last:
      _show(axes[row, 1], _truth(last["segmentation"][i]), "ground truth")
    for column, (step, arrays) in enumerate(evaluations.items(), 2):
      colors = palette.slot_colors(arrays["masks"][i].argmax(axis=0))
      title = f"{step:,}"
      if "score_ARI" in arrays:
        title += f": {arrays['score_ARI'][i]:.2f}"
      _show(axes[row, column], colors, title)
  return figure


def _truth(segmentation: np.ndarray) -> np.ndarray:
  """Objects in the colors of slots, the background light gray."""
  colors = palette.slot_colors(np.maximum(segmentation.astype(int) - 1, 0))
  return np.where(segmentation[..., None] == 0, np.uint8(232), colors)


def _show(panel, image, title):
  panel.imshow(image, interpolation="nearest")
  panel.set_title(title, fontsize=7)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Draws as the arguments say; returns what it prints."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--figure", required=True, type=pathlib.Path)
  parser.add_argument(
    "--run", required=True, action="append", metavar="LABEL=DIR"
  )
  parser.add_argument("--images", type=int, default=2, help="of each run")
  parser.add_argument("--columns", type=int, default=6, help="evaluations")
  arguments = parser.parse_args(argv)
  for name in ("images", "columns"):
    if (value := getattr(arguments, name)) < 1:
      parser.error(f"Expected --{name} of at least 1, got {value}.")
  runs = {}
  for given in arguments.run:
    label, equals, path = given.partition("=")
    if not (label and equals and path) or label in runs:
      parser.error(f"Expected --run=LABEL=DIR, each label once, got {given!r}.")
    try:
      runs[label] = read(pathlib.Path(path), arguments.columns)
    except (OSError, ValueError) as error:
      parser.error(str(error))
  figures.save(draw(runs, arguments.images), arguments.figure)
  result = {
    label: {
      step: {
        k: np.round(v.astype(float), 4).tolist()
        for k, v in a.items()
        if k in _SCORES
      }
      for step, a in evaluations.items()
    }
    for label, evaluations in runs.items()
  }
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  main()
