"""Evaluation on its own, `--mode=evaluate`, and `--mode=export`.

What is evaluated is a checkpoint of a run, weights of the package or of a file,
or what another program predicted.
"""

import copy
import math
from typing import Any

import jax
from absl import logging

from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.config import preset
from slot_attention_jax.data import from_config, types
from slot_attention_jax.evaluation import (
  draw,
  examples,
  predictions,
  protocol,
  table,
)
from slot_attention_jax.evaluation.protocol import Source
from slot_attention_jax.pretrained import (
  load_pretrained,
  load_weights,
  pretrained_metadata,
  read_weights_metadata,
  weights_file,
  with_model_of,
)
from slot_attention_jax.runtime import files, storage
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import checks

# Pixels of a split. Quick programs, which save 4 to 9 seconds, take as much
# longer to run on 2 to 5 million pixels.
_SHORT = 2_000_000


def evaluate_model(
  config: Any, workdir: str, source: Source | None = None, command: str = ""
) -> dict[str, float]:
  """Evaluates a model, or its predictions, on a split.

  K, T, the split, thresholds and the data may differ from training. Writes
  `evaluation.json` and, as a table, `evaluation.md` into `workdir`, and of
  models `images/evaluation.png` and, as PNG and SVG, `figures/evaluation`.

  Args:
    config: a config of `configs/`; `eval.checkpoint` says which checkpoint. Of
      weights, `model`, `task` and `data.resolution` are what they were trained
      with, whatever the config says.
    workdir: directory of the run; of other sources, where the files go.
    source: what is evaluated; None: the run in `workdir`.
    command: the flags that make the config.

  Returns:
    The metrics, under their full names.

  Raises:
    FileNotFoundError: if there is no such checkpoint, file or data.
    ValueError: on a config that cannot be run or is of another model than the
      run, predictions that do not fit the data, or the directory of a run for
      something else than its checkpoints.
  """
  source = source or Source()
  path = storage.open_path(workdir)
  if source.kind != "checkpoint":
    _check_no_run(path, source)
  weights = _load_weights(source)
  if weights is not None:
    config = with_model_of(config, weights[0])
  config = preset.resolve(config)
  mesh = mesh_lib.create_mesh()
  config, dataset = _quick_if_short(config, _dataset(config, mesh), mesh)
  info = dataset.info
  task = tasks.create_task(config, info, extended=True)
  step, num_iterations, checksum, shown = None, None, None, None
  if source.predictions:
    task, results = predictions.score(task, source.predictions, dataset)
  else:
    step, params = _load_params(config, path, task, mesh, weights)
    num_iterations = task.num_iterations
    checksum = weights_file.parameters_checksum(params)
    count = config.logging.num_images
    results, shown = examples.evaluate_and_show(
      examples.make_eval_step(
        task, mesh, config.train.quick_compilation, count
      ),
      params,
      dataset,
      config.eval.seed,
      num_images=count,
    )
  count = len(next(iter(results.values())))
  logging.info("Evaluated %d examples of %s/%s.", count, info.name, info.split)
  content = {
    "step": step,
    "parameters_sha256": checksum,
    "num_slots": task.num_slots,
    "num_iterations": num_iterations,
    "num_examples": info.num_examples,
    "metrics": _with_prefix(info, task.summarize(results)),
    "standard_errors": _with_prefix(info, task.standard_errors(results)),
    "protocol": protocol.protocol(
      source,
      info,
      checkpoint=f"{config.eval.checkpoint} of {path.name}",
      command=command,
      task=config.task,
      data_name=config.data.name,
      max_objects=config.data.max_objects or None,
      crop=from_config.resolve_crop(config) or "",
      seed=config.eval.seed,
    ),
  }
  if jax.process_index() == 0:
    _write(path, content)
    if shown is not None:
      draw.write(
        path, "evaluation", task, shown, info, step=step, results=results
      )
  return content["metrics"]


def _load_params(config, path, task, mesh, weights):
  """The step and the parameters of weights, or of the run's checkpoint."""
  if weights is not None:
    metadata, params = weights
    return metadata.steps, jax.device_put(params, mesh_lib.replicated(mesh))
  # It imports orbax.
  from slot_attention_jax.training import trained_run

  config = checks.with_best_metric(config, task)
  return trained_run.restore_params(
    path,
    config.eval.checkpoint,
    examples.abstract_params(task, mesh),
    best_metric=config.checkpoint.best_metric or None,
    best_mode=config.checkpoint.best_mode,
    config=config,
  )


def _check_no_run(path: storage.Path, source: Source) -> None:
  """Raises ValueError if a directory is that of a training."""
  if (path / "checkpoints").exists():
    raise ValueError(
      f"Expected a directory for the evaluation of {source.describe('')}, got "
      f"that of a run, {path}, whose evaluation.json is of its checkpoints. "
      "Give another one with --workdir."
    )


def _write(path, content):
  """Writes `evaluation.json` and `evaluation.md`."""
  text = table.markdown(content)
  # First, so that a disk that cannot be written to costs no numbers.
  logging.info("%s:\n%s", path / "evaluation.md", text)
  files.write_json(path / "evaluation.json", content)
  with files.atomic_write(path / "evaluation.md") as temporary:
    temporary.write_text(text, encoding="utf-8")


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
  path = storage.open_path(workdir) / "examples.npz"
  count = predictions.export_examples(dataset, path)
  logging.info("Wrote %d examples to %s.", count, path)
  return _with_prefix(dataset.info, {"num_examples": count})


def _quick_if_short(config, dataset, mesh):
  """Compiles in less time what then runs for less time, on CPU.

  Args:
    config: the resolved config; it stays as it is.
    dataset: of this config.
    mesh: the mesh.

  Returns:
    A pair (config, dataset) for the rest of the evaluation.
  """
  info = dataset.info
  pixels = (info.num_examples or 0) * math.prod(info.image_shape[:2])
  if config.train.quick_compilation or pixels > _SHORT:
    return config, dataset
  config = copy.deepcopy(config)
  config.train.quick_compilation = True
  if info.own_scenes:
    dataset = _dataset(config, mesh, warn=False)
  return config, dataset


def _dataset(
  config: Any, mesh: jax.sharding.Mesh, warn: bool = True
) -> types.Dataset:
  """The split to be evaluated."""
  checks.check_evaluation(config, mesh.size)
  return data_lib.create_dataset(
    config,
    config.eval.split,
    batch_size=config.eval.batch_size,
    sharding=mesh_lib.batch_sharding(mesh),
    warn=warn,
  )


def _load_weights(source: Source) -> tuple[Any, Any] | None:
  """Metadata and parameters of weights, None for other sources."""
  if source.pretrained:
    metadata = pretrained_metadata(source.pretrained)
    return metadata, load_pretrained(source.pretrained)[1]
  if source.weights:
    metadata = read_weights_metadata(source.weights)
    return metadata, load_weights(source.weights)[1]
  return None


def _with_prefix(info: types.DatasetInfo, values: dict[str, float]):
  return {examples.metric_name(info, k): v for k, v in values.items()}
