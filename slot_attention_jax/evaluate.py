"""Evaluation on its own, with everything that determines its numbers.

What is evaluated is a checkpoint of a run, weights of the package or of a file,
or what another program predicted.
"""

import dataclasses
import datetime
import pathlib
from typing import Any

import jax
from absl import logging

from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.data import from_config, types
from slot_attention_jax.data.multi_object import dataset as dataset_lib
from slot_attention_jax.evaluation import (
  examples,
  predictions,
  table,
)
from slot_attention_jax.pretrained import (
  WeightsFacts,
  load_pretrained,
  load_weights,
  pretrained_facts,
  read_weights_facts,
)
from slot_attention_jax.runtime import files, provenance
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import checkpoints


@dataclasses.dataclass(frozen=True)
class Source:
  """What is evaluated: a run, unless one of these is named.

  Attributes:
    pretrained: name of weights of the package.
    weights: path of a file of weights.
    predictions: path of an `.npz` that another program wrote, see
      `predictions.load_predictions`.
  """

  pretrained: str = ""
  weights: str = ""
  predictions: str = ""

  def __post_init__(self):
    given = [k for k, v in dataclasses.asdict(self).items() if v]
    if len(given) > 1:
      raise ValueError(
        f"Expected one of --pretrained, --weights, --predictions, got {given}."
      )

  @property
  def kind(self) -> str:
    """`"checkpoint"`, or the attribute that is set."""
    named = (k for k, v in dataclasses.asdict(self).items() if v)
    return next(named, "checkpoint")


def evaluate_model(
  config: Any, workdir: str, source: Source | None = None, recipe: str = ""
) -> dict[str, float]:
  """Evaluates a model, or its predictions, on a split.

  K, T, the split, thresholds and the data may differ from training. Writes
  `evaluation.json` and, as a table, `evaluation.md` into `workdir`, and of
  models the picture `images/evaluation.png`.

  Args:
    config: a config of `configs/`; `eval.checkpoint` says which checkpoint. Of
      weights, `model`, `task` and `data.resolution` are what they were trained
      with, whatever the config says.
    workdir: directory of the run; of other sources, where the files go.
    source: what is evaluated; None: the run in `workdir`.
    recipe: how the config was made, in words.

  Returns:
    The metrics, under their full names.

  Raises:
    FileNotFoundError: if there is no such checkpoint, file or data.
    ValueError: on a config that cannot be run, or predictions that do not fit
      the data.
  """
  source = source or Source()
  path = pathlib.Path(workdir).expanduser().absolute()
  weights = _load_weights(source)
  if weights is not None:
    config = with_model_of(config, weights[0])
  mesh = mesh_lib.create_mesh()
  dataset = _dataset(config, mesh)
  task = tasks.create_task(config, dataset.info, full=True)
  step, picture = None, None
  if source.kind == "predictions":
    task, results = predictions.score(task, source.predictions, dataset)
  else:
    if weights is not None:
      step = weights[0].updates
      params = jax.device_put(weights[1], mesh_lib.replicated(mesh))
    else:
      step, params = checkpoints.restore_params(
        config, path, examples.abstract_params(task, mesh)
      )
    eval_step = examples.make_eval_step(task, mesh)
    results = examples.evaluate_examples(
      eval_step, params, dataset, config.eval.seed
    )
    picture = examples.draw(task, params, dataset, config)
  info = dataset.info
  count = len(next(iter(results.values())))
  logging.info("Evaluated %d examples of %s/%s.", count, info.name, info.split)
  metrics = _named(info, task.summarize(results))
  errors = _named(info, task.standard_errors(results))
  if jax.process_index() == 0:
    content = {
      "step": step,
      "num_slots": task.num_slots,
      "num_iterations": None
      if source.kind == "predictions"
      else task.num_iterations,
      "num_examples": info.num_examples,
      "metrics": metrics,
      "standard_errors": errors,
      "protocol": _protocol(config, info, source, path, recipe),
    }
    text = table.markdown(content)
    files.write_json(path / "evaluation.json", content)
    with files.atomic_write(path / "evaluation.md") as temporary:
      temporary.write_text(text, encoding="utf-8")
    if picture is not None:
      files.save_png(path / "images" / "evaluation.png", picture)
    logging.info("%s:\n%s", path / "evaluation.md", text)
  return metrics


def export_split(config: Any, workdir: str) -> dict[str, float]:
  """Writes the examples of a split to `examples.npz`, see `predictions`.

  Args:
    config: a config of `configs/`; `data` and `eval.split` say which examples.
    workdir: where the file goes.

  Returns:
    How many there are, under the full name of a metric.

  Raises:
    FileNotFoundError: if there are no such data.
    ValueError: on a config that cannot be run.
  """
  dataset = _dataset(config, mesh_lib.create_mesh())
  path = pathlib.Path(workdir).expanduser().absolute() / "examples.npz"
  count = predictions.export_examples(dataset, path)
  logging.info("Wrote %d examples to %s.", count, path)
  return _named(dataset.info, {"num_examples": count})


def _dataset(config: Any, mesh: jax.sharding.Mesh) -> types.Dataset:
  """The split to be evaluated."""
  mesh_lib.check_batch_size(
    "eval.batch_size", config.eval.batch_size, mesh.size
  )
  return data_lib.create_dataset(
    config,
    config.eval.split,
    batch_size=config.eval.batch_size,
    sharding=mesh_lib.batch_sharding(mesh),
  )


def _load_weights(source: Source) -> tuple[Any, Any] | None:
  """Facts and parameters of weights, None for other sources."""
  if source.pretrained:
    facts = pretrained_facts(source.pretrained)
    return facts, load_pretrained(source.pretrained)[1]
  if source.weights:
    return read_weights_facts(source.weights), load_weights(source.weights)[1]
  return None


def with_model_of(config: Any, facts: WeightsFacts) -> Any:
  """A copy of a config that has the task, model and image size of weights."""
  config = config.copy_and_resolve_references()
  config.task, config.data.resolution = facts.task, tuple(facts.resolution)
  for key, value in facts.model.items():
    config.model[key] = tuple(value) if isinstance(value, list) else value
  return config


def _named(info: types.DatasetInfo, values: dict[str, float]):
  return {examples.metric_name(info, k): v for k, v in values.items()}


def _protocol(
  config: Any,
  info: types.DatasetInfo,
  source: Source,
  path: pathlib.Path,
  recipe: str,
) -> dict[str, Any]:
  """Everything that the numbers depend on, beside K, T and the parameters."""
  names = {
    "checkpoint": f"{config.eval.checkpoint} of {path.name}",
    "pretrained": source.pretrained,
    "weights": pathlib.Path(source.weights).name,
    "predictions": pathlib.Path(source.predictions).name,
  }
  background = "pixels without an object"
  if config.data.name in dataset_lib.NAMES and not info.own_scenes:
    background = dataset_lib.background_rule(config.data.name)
  discovery = config.task == "discovery"
  return {
    "model": f"{source.kind} {names[source.kind]}",
    "config": recipe,
    "task": config.task,
    "data": info.name,
    "own_scenes": info.own_scenes,
    "split": info.split,
    "num_examples": info.num_examples,
    "max_objects": config.data.max_objects or None,
    "crop": from_config.crop_of(config) or "none",
    "resolution": list(info.image_shape[:2]),
    "masks": _masks_of(source) if discovery else None,
    "background": background if discovery else None,
    "images_without_foreground": "count with 1" if discovery else None,
    "slot_seed": None if source.predictions else config.eval.seed,
    "standard_errors": "over images"
    + ("" if discovery else "; of average precision by 32 bootstrap samples"),
    "code": provenance.code_version(),
    "jax": jax.__version__,
    "hardware": provenance.hardware(),
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
  }


def _masks_of(source: Source) -> str:
  if source.predictions:
    return "segments of the file, or the argmax of its masks over the slots"
  return (
    "argmax over the slots of the decoder's masks; _attention: of the "
    "attention of the last iteration, upsampled bilinearly"
  )
