"""Writes what a model makes of the first examples of a split."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from slot_attention_jax import models, tasks
from slot_attention_jax.data import types
from slot_attention_jax.evaluation import (
  arrays,
  decomposition,
  examples,
  figures,
  object_figure,
  visualize,
)
from slot_attention_jax.runtime import files, storage

# Scores of an image that stand beside its row.
_SCORES = {"FG-ARI": "fg_ari", "ARI": "ari"}


def write(
  path: storage.Path,
  name: str,
  task: tasks.Task,
  shown: examples.Shown,
  info: types.DatasetInfo,
  *,
  step: int | None,
  results: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
  """Writes `images/NAME.png` and `figures/NAME.png`, `.svg` and `.npz`.

  The last has the arrays of the figure, which `slot-attention report` shows.

  Args:
    path: directory of the run.
    name: of the files.
    task: the objective.
    shown: what is drawn.
    info: of the data.
    step: training steps done.
    results: of `examples.evaluate_examples`, for scores beside the rows.

  Returns:
    The pixels [H, W, 3] uint8 of the figure; without matplotlib, which is then
    logged, of the image.
  """
  grid = visualize.output_grid(shown.images, shown.output)
  files.save_png(path / "images" / f"{name}.png", grid)
  scores = _scores(results, len(shown.images))
  arrays.save(
    path / "figures" / f"{name}.npz", arrays.collect(task, shown, scores)
  )
  if not figures.available():
    logging.info("No figures: matplotlib is not installed.")
    return grid
  drawn = figure(task, shown, info, step=step, results=results)
  return figures.save(drawn, path / "figures" / name)


def figure(
  task: tasks.Task,
  shown: examples.Shown,
  info: types.DatasetInfo,
  *,
  step: int | None,
  results: Mapping[str, np.ndarray] | None = None,
) -> Any:
  """Draws the figure of a task; arguments as of `write`."""
  parts = [f"{info.name}/{info.split}"]
  parts += [] if step is None else [f"step {step}"]
  parts += [f"K = {task.num_slots}", f"T = {task.num_iterations}"]
  title = ", ".join(parts)
  output = shown.output
  grid = task.model.feature_grid(
    task.image_shape[:2], output.attention.shape[-1]
  )
  if isinstance(output, models.AutoEncoderOutput):
    return decomposition.figure(
      shown.images,
      output,
      grid,
      segmentation=shown.truth.get("segmentation"),
      scores=_scores(results, len(shown.images)),
      title=title,
    )
  assert info.layout is not None
  return object_figure.figure(
    shown.images,
    output,
    grid,
    info.layout,
    targets=shown.truth.get("target"),
    data=info.name,
    title=title,
  )


def _scores(results, count: int) -> dict[str, np.ndarray]:
  """Scores [B] of the first images, by their names."""
  return {
    label: np.asarray(results[key])[:count]
    for label, key in _SCORES.items()
    if results is not None and key in results
  }
