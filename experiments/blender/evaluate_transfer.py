"""A model trained on synthetic CLEVR scenes, on Blender's images.

  python -m experiments.blender.evaluate_transfer \
    --config=configs/clevr_discovery.py --workdir=runs/clevr_discovery \
    --data=IMAGES.npz --scenes=SCENES.json \
    [--checkpoint=best] [--figure=transfer.png]

The files are described in `blender_pictures.py`. In place of a run, the model
may be `--pretrained=NAME`, of the package, or `--weights=FILE.safetensors`, of
`export_weights`; the config then is that of their recipe unless it is given.

The pictures are cropped, resized and rounded as the package does CLEVR's, and
scenes are left out whose number of objects the config does not have. Pictures
that are higher than the frame of the config (`data.scenes.frame`) are cut to
its aspect first; set prediction's is 320x480. The same model is evaluated on:

  * synthetic scenes of the split "test";
  * the scenes of the pictures, drawn by the own renderer (with `--scenes`);
  * the same, drawn at the size of the pictures, then cropped and resized as
    those, bilinearly without antialiasing: what resizing alone does;
  * Blender's pictures.

The gap is Blender's pictures minus the same scenes, in points (hundredths; the
unit of the MSE and of the loss is their own). `+-` is the standard error over
scenes of what is a mean over scenes, for a gap that of the differences, scene
by scene: the slots start from the same noise. Average precision pools all
scenes and has none.

Prints a Markdown table, then one line of JSON. `--figure` draws a few scenes,
Blender's picture above the own one: the picture, the reconstruction, the
segmentation by slots, and each slot; or where each slot of a set predictor
looks.
"""

import argparse
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.blender import blender_pictures
from experiments.common import trained_models
from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.evaluation import examples, visualize
from slot_attention_jax.runtime import files, mesh
from slot_attention_jax.training import checks

_NO_SHARES = ("mse", "loss")


class Transfer:
  """A model and the data that it is evaluated on.

  Args:
    config: of the model; `data` says how it sees scenes.
    data: IMAGES.npz.
    scenes: SCENES.json, or None.
    name: of the pictures' scenes, for the names of the data.
    load: as of `trained_models.find`.

  Attributes:
    task: the objective.
    step: steps done.

  Raises:
    FileNotFoundError: if the model or a file does not exist.
    ValueError: if the model is not one of CLEVR scenes, or the pictures do not
      fit it.
  """

  def __init__(self, config, data, scenes, name, load):
    if config.data.name != "clevr_scenes":
      raise ValueError(
        "Expected a model of CLEVR scenes, data.name 'clevr' or "
        f"'clevr_scenes', got {config.data.name!r}. Choose another model."
      )
    self._config = config
    self._mesh = mesh.create_mesh()
    size = config.eval.batch_size
    mesh.check_batch_size("--batch_size", size, self._mesh.size)
    family = data_lib.create_family(config)
    view = blender_pictures.View(
      tuple(config.data.resolution),
      family.frame,
      family.crop,
      family.num_objects,
    )
    pictures = blender_pictures.Pictures(data, view)
    split_over = mesh.batch_sharding(self._mesh)
    own = data_lib.create_dataset(
      config, "test", batch_size=size, sharding=split_over
    )
    self._datasets = {"own": own}
    split = "{}_to_{}_objects".format(*view.num_objects)

    def add(key, arrays, suffix, own_scenes):
      self._datasets[key] = blender_pictures.dataset(
        arrays, f"{name}_{suffix}", split, size, split_over, own_scenes
      )

    if scenes:
      direct, resized = pictures.drawn_again(scenes)
      add("same", direct, "own_renderer", True)
      add("resized", resized, "own_renderer_resized", True)
    add("blender", pictures.arrays(), "blender", False)
    self.task = tasks.create_task(config, own.info)
    abstract = examples.abstract_params(self.task, self._mesh)
    config = checks.with_best_metric(config, self.task)
    self.step, params = load(config, abstract)
    self._params = jax.device_put(params, mesh.replicated(self._mesh))

  def measure(self) -> list[dict[str, Any]]:
    """Evaluates on all data.

    Returns:
      For each data, `data` (name and split), `num_scenes`, and by short name
      `metrics` and `standard_errors`; then the same for each gap.
    """
    eval_step = examples.make_eval_step(self.task, self._mesh)
    results, rows = {}, {}
    for key, dataset in self._datasets.items():
      results[key] = examples.evaluate_examples(
        eval_step, self._params, dataset, self._config.eval.seed
      )
      rows[key] = {
        "data": f"{dataset.info.name}/{dataset.info.split}",
        "num_scenes": dataset.info.num_examples,
        "metrics": self._metrics(results[key]),
        "standard_errors": self._errors(results[key]),
      }
    gaps = []
    for key, text in (
      ("same", "gap: Blender - own renderer"),
      ("resized", "gap: Blender - own renderer, both resized"),
    ):
      if key in rows:
        there, here = rows["blender"]["metrics"], rows[key]["metrics"]
        differences = {
          k: results["blender"][k] - results[key][k]
          for k in rows[key]["standard_errors"]
        }
        gaps.append(
          {
            "data": text,
            "num_scenes": rows[key]["num_scenes"],
            "metrics": {k: there[k] - here[k] for k in there},
            "standard_errors": self._errors(differences),
          }
        )
    return [*rows.values(), *gaps]

  def _metrics(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """The metrics in the task's order."""
    metrics = self.task.summarize(results)
    return {name: metrics[name] for name in self.task.metric_names}

  def _errors(self, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Standard errors of the metrics that are means over scenes."""
    means = {k: v for k, v in results.items() if k in self.task.metric_names}
    return {
      k: float(v.std(ddof=1, dtype=np.float64) / math.sqrt(len(v)))
      for k, v in means.items()
      if len(v) > 1
    }

  def draw(self, count: int) -> np.ndarray:
    """A grid of the first `count` scenes, [H', W', 3] uint8.

    Each has a line of Blender's picture and, below, one of its own rendering.
    """
    params = jax.device_get(self._params)
    key = jax.random.key(self._config.eval.seed)
    apply = jax.jit(self.task.apply)
    pairs = []
    for name in ("blender", "same"):
      if name in self._datasets:
        dataset = self._datasets[name]
        count = min(count, dataset.info.num_examples, dataset.batch_size)
        images = np.asarray(dataset.batch(0)["image"])[:count]
        pairs.append(jax.device_get((images, apply(params, images, key))))

    def interleave(*arrays):
      return np.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])

    images, output = jax.tree.map(interleave, *pairs)
    return visualize.output_grid(images, output)


def table(rows: Sequence[dict[str, Any]]) -> str:
  """The rows of `Transfer.measure` in Markdown."""
  names = list(rows[0]["metrics"])
  titles = [name if name in _NO_SHARES else f"{name}, %" for name in names]
  lines = [f"| data | scenes | {' | '.join(titles)} |"]
  lines.append("|---" * (2 + len(names)) + "|")
  for row in rows:
    sign = "+" if row["data"].startswith("gap") else ""
    cells = [row["data"], str(row["num_scenes"])]
    for name in names:
      scale, digits = (1, 5) if name in _NO_SHARES else (100, 1)
      cell = f"{scale * row['metrics'][name]:{sign}.{digits}f}"
      if name in row["standard_errors"]:
        cell += f" +- {scale * row['standard_errors'][name]:.{digits}f}"
      cells.append(cell)
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Evaluates; prints the table, then JSON, and returns the latter."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  trained_models.add_arguments(parser)
  parser.add_argument("--data", type=pathlib.Path, required=True)
  parser.add_argument("--scenes", type=pathlib.Path)
  parser.add_argument("--name", default="clevr_calibration", help="of the data")
  parser.add_argument("--num_scenes", type=int, default=320)
  parser.add_argument("--batch_size", type=int, default=64)
  parser.add_argument("--figure", type=pathlib.Path)
  parser.add_argument("--figure_scenes", type=int, default=4)
  arguments = parser.parse_args(argv)
  config, load = trained_models.find(arguments)
  config.eval.batch_size = arguments.batch_size
  config.data.scenes.num_eval = arguments.num_scenes
  if config.data.name == "clevr":
    config.data.name, config.data.data_dir = "clevr_scenes", ""
  transfer = Transfer(
    config, arguments.data, arguments.scenes, arguments.name, load
  )
  rows = transfer.measure()
  print(table(rows))
  if arguments.figure:
    picture = transfer.draw(arguments.figure_scenes)
    files.save_png(arguments.figure, picture)
  result = {
    "config": arguments.config,
    "model": str(
      arguments.workdir or arguments.pretrained or arguments.weights
    ),
    "checkpoint": arguments.checkpoint if arguments.workdir else None,
    "step": transfer.step,
    "num_slots": transfer.task.num_slots,
    "num_iterations": transfer.task.num_iterations,
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "rows": rows,
  }
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  main()
