"""Evaluates a model trained on synthetic CLEVR scenes on Blender's images.

  python -m experiments.blender.evaluate_transfer \
    --config=configs/clevr_discovery.py --workdir=runs/clevr_discovery \
    --data=IMAGES.npz --scenes=SCENES.json \
    [--checkpoint=best] [--figure=transfer.png]

The files are described in `blender_images.py`. Instead of a run, the model may
be `--pretrained=NAME`, a model of the package, or `--weights=FILE.safetensors`,
written by `export_weights`; their config is the default for `--config`.

Blender's images are cropped, resized and rounded as the package does with
CLEVR's. Scenes with a number of objects outside the config's range are left
out. Images that are taller than the config's frame (`data.scenes.frame`, which
is 320x480 for set prediction) are first cut to its aspect ratio. The model is
evaluated on:

  * synthetic scenes of the split "test";
  * the scenes of the images, rendered by the package (with `--scenes`);
  * the same, rendered at the size of Blender's images, then cropped and resized
    like them, bilinearly without antialiasing: this shows the effect of
    resizing alone;
  * Blender's images.

A gap is the result on Blender's images minus that on the same scenes rendered
here, in percentage points (MSE and loss: in their own unit). `+-` is the
standard error over scenes, for a gap that of the differences, scene by scene:
the initial slots have the same noise. Average precision pools all scenes and
has no standard error.

Prints a Markdown table, then one line of JSON. `--figure` draws a few scenes,
Blender's image above the package's rendering. Each row shows the image, the
reconstruction, the segmentation by slots, and each slot; for a set predictor,
the image and the attention of each slot.
"""

import argparse
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.blender import blender_images
from experiments.common import trained_models
from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.evaluation import examples, visualize
from slot_attention_jax.runtime import files, mesh
from slot_attention_jax.training import checks

# Metrics that are not shown in percent.
_NOT_PERCENT = ("mse", "loss")


class Transfer:
  """A model and the datasets it is evaluated on.

  Args:
    config: the model's config; `data` says how it sees scenes.
    data: IMAGES.npz.
    scenes: SCENES.json, or None.
    name: prefix of the datasets' names.
    load: from `trained_models.find`.

  Attributes:
    task: the task.
    step: number of training steps.

  Raises:
    FileNotFoundError: if the model or a file does not exist.
    ValueError: if the model was not trained on CLEVR scenes, or the images do
      not fit it.
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
    view = blender_images.View(
      tuple(config.data.resolution),
      family.frame,
      family.crop,
      family.num_objects,
    )
    images = blender_images.BlenderImages(data, view)
    sharding = mesh.batch_sharding(self._mesh)
    synthetic = data_lib.create_dataset(
      config, "test", batch_size=size, sharding=sharding
    )
    self._datasets = {"synthetic": synthetic}
    split = "{}_to_{}_objects".format(*view.num_objects)

    def add(key, arrays, suffix, own_scenes):
      self._datasets[key] = blender_images.dataset(
        arrays, f"{name}_{suffix}", split, size, sharding, own_scenes
      )

    if scenes:
      direct, resized = images.render_scenes(scenes)
      add("same", direct, "own_renderer", True)
      add("resized", resized, "own_renderer_resized", True)
    add("blender", images.arrays(), "blender", False)
    self.task = tasks.create_task(config, synthetic.info)
    abstract = examples.abstract_params(self.task, self._mesh)
    config = checks.with_best_metric(config, self.task)
    self.step, params = load(config, abstract)
    self._params = jax.device_put(params, mesh.replicated(self._mesh))

  def measure(self) -> list[dict[str, Any]]:
    """Evaluates on all datasets.

    Returns:
      For each dataset, and then for each gap: `data` (name and split),
      `num_scenes`, `metrics` and `standard_errors`, both by short name.
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
    """Draws a grid of the first `count` scenes, [H', W', 3] uint8.

    Each scene has a row for Blender's image and one for the package's, below.
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
  """Formats the rows of `Transfer.measure` as a Markdown table."""
  names = list(rows[0]["metrics"])
  titles = [name if name in _NOT_PERCENT else f"{name}, %" for name in names]
  lines = [f"| data | scenes | {' | '.join(titles)} |"]
  lines.append("|---" * (2 + len(names)) + "|")
  for row in rows:
    sign = "+" if row["data"].startswith("gap") else ""
    cells = [row["data"], str(row["num_scenes"])]
    for name in names:
      scale, digits = (1, 5) if name in _NOT_PERCENT else (100, 1)
      cell = f"{scale * row['metrics'][name]:{sign}.{digits}f}"
      if name in row["standard_errors"]:
        cell += f" +- {scale * row['standard_errors'][name]:.{digits}f}"
      cells.append(cell)
    lines.append("| " + " | ".join(cells) + " |")
  return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Evaluates the model; prints the table, then JSON, which it returns."""
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
    figure = transfer.draw(arguments.figure_scenes)
    files.save_png(arguments.figure, figure)
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
