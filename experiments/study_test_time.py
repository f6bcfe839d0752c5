"""Evaluates a model with other T, K and numbers of objects than in training.

  python -m experiments.study_test_time --config=configs/clevr_discovery.py \
    --workdir=runs/clevr_discovery --iterations=1,2,3,4,5,6,7 \
    --slots=7,11 --objects=6,7,8,9,10 --figure=study.png

Instead of a run, the model may be `--pretrained=NAME`, a model of the package,
or `--weights=FILE.safetensors`; their config is the default for `--config`.

This repeats studies of the paper's sections 3.1 (iterations, more objects and
slots in object discovery) and 3.2 (average precision by iterations and number
of objects). Each combination is evaluated on `--num_scenes` scenes of the split
"test", the same for each number of objects. Synthetic scenes only: the numbers
of objects in other data cannot be chosen.

Prints a Markdown table, then one line of JSON. `--figure` needs matplotlib
(`pip install matplotlib`). It has a panel for each metric, with a line for each
T and K over the number of objects or, for one number of objects, a line for
each K over T.
"""

import argparse
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from experiments.common import figures, trained_models
from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.evaluation import examples
from slot_attention_jax.runtime import mesh
from slot_attention_jax.training import checks


class Study:
  """Evaluates one checkpoint under other settings.

  Args:
    config: the model's config.
    load: from `trained_models.find`.
    num_scenes: number of scenes of each evaluation.
    batch_size: batch size of the evaluations.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    ValueError: if the model was not trained on synthetic scenes.
  """

  def __init__(
    self,
    config: Any,
    load: Callable[[Any, Any], tuple[int, Any]],
    num_scenes: int,
    batch_size: int,
  ):
    self._config = config.copy_and_resolve_references()
    self._config.eval.split = "test"
    self._config.data.scenes.num_eval = num_scenes
    self._config.eval.batch_size = batch_size
    if config.data.name == "clevr":
      self._config.data.name = "clevr_scenes"
    self._mesh = mesh.create_mesh()
    # Compiled once for each number of objects, and for each T and K.
    self._dataset = functools.cache(self._create_dataset)
    self._eval_step = functools.cache(
      lambda task: examples.make_eval_step(task, self._mesh)
    )
    task, _ = self._task_and_data(0, 0, 0)
    abstract = examples.abstract_params(task, self._mesh)
    self._config = checks.with_best_metric(self._config, task)
    self.step, self._params = load(self._config, abstract)

  def _create_dataset(self, num_objects):
    config = self._config.copy_and_resolve_references()
    if num_objects:
      config.data.scenes.num_objects = (num_objects, num_objects)
      config.data.max_objects = 0
    return data_lib.create_dataset(
      config,
      config.eval.split,
      batch_size=config.eval.batch_size,
      sharding=mesh.batch_sharding(self._mesh),
      warn=False,
    )

  def _task_and_data(self, num_iterations, num_slots, num_objects):
    config = self._config.copy_and_resolve_references()
    config.eval.num_iterations = num_iterations
    config.eval.num_slots = num_slots
    dataset = self._dataset(num_objects)
    return tasks.create_task(config, dataset.info), dataset

  def measure(
    self, num_iterations: int, num_slots: int, num_objects: int
  ) -> dict[str, Any]:
    """Evaluates with given T, K and number of objects; 0: the config's.

    Returns:
      T, K, `num_objects`, `data` (name and split) and `metrics` by short name.

    Raises:
      ValueError: if the model or the data do not allow these numbers.
    """
    task, dataset = self._task_and_data(num_iterations, num_slots, num_objects)
    metrics = examples.evaluate(
      task,
      self._eval_step(task),
      self._params,
      dataset,
      self._config.eval.seed,
    )
    return {
      "num_iterations": task.num_iterations,
      "num_slots": task.num_slots,
      "num_objects": num_objects or None,
      "data": f"{dataset.info.name}/{dataset.info.split}",
      "metrics": {k.rsplit("/", 1)[1]: v for k, v in metrics.items()},
    }


def draw(rows: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
  """Draws the rows of `Study.measure` and saves the figure."""
  pyplot = figures.import_pyplot()
  over = (
    "num_objects"
    if len({r["num_objects"] for r in rows}) > 1
    else ("num_iterations")
  )
  labels = {"num_iterations": "T", "num_slots": "K", "num_objects": "objects"}
  others = [k for k in ("num_iterations", "num_slots") if k != over]
  names = list(rows[0]["metrics"])
  figure, axes = pyplot.subplots(
    1, len(names), figsize=(3.2 * len(names), 3), squeeze=False
  )
  groups: dict[tuple, list] = {}
  for row in rows:
    groups.setdefault(tuple(row[k] for k in others), []).append(row)
  for axis, name in zip(axes[0], names, strict=True):
    for key, group in groups.items():
      text = ", ".join(
        f"{labels[k]} = {v}" for k, v in zip(others, key, strict=True)
      )
      x = [row[over] for row in group]
      axis.plot(x, [r["metrics"][name] for r in group], "o-", label=text)
    axis.set(title=name, xlabel=labels[over], xticks=x)
    axis.grid(alpha=0.3)
  figures.legend_below(figure, axes[0][0].get_lines(), 2 * len(names))
  figure.suptitle(", ".join(sorted({row["data"] for row in rows})))
  figures.save(figure, path)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Evaluates all combinations; prints a table, then JSON, which it returns."""

  def numbers(text):
    return [int(x) for x in text.split(",")]

  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  trained_models.add_arguments(parser)
  parser.add_argument("--iterations", type=numbers, default=[0], help="T")
  parser.add_argument("--slots", type=numbers, default=[0], help="K")
  parser.add_argument("--objects", type=numbers, default=[0])
  parser.add_argument("--num_scenes", type=int, default=320)
  parser.add_argument("--batch_size", type=int, default=64)
  parser.add_argument("--figure", type=pathlib.Path)
  arguments = parser.parse_args(argv)
  study = Study(
    *trained_models.find(arguments), arguments.num_scenes, arguments.batch_size
  )
  rows = []
  for objects, slots, iterations in itertools.product(
    arguments.objects, arguments.slots, arguments.iterations
  ):
    rows.append(row := study.measure(iterations, slots, objects))
    names = list(row["metrics"])
    if len(rows) == 1:
      print("| data | objects | K | T | " + " | ".join(names) + " |")
      print("|---" * (4 + len(names)) + "|")
    cells = [row["data"], str(objects or "as trained")]
    cells += [str(row["num_slots"]), str(row["num_iterations"])]
    cells += [f"{value:.4f}" for value in row["metrics"].values()]
    print("| " + " | ".join(cells) + " |", flush=True)
  if arguments.figure:
    draw(rows, arguments.figure)
  result = {
    "config": arguments.config,
    "weights": arguments.pretrained or str(arguments.weights or ""),
    "step": study.step,
    "num_scenes": arguments.num_scenes,
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "rows": rows,
  }
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  main()
