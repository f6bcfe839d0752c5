"""Evaluation of parameters on a split."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from slot_attention_jax import checkpoints, object_discovery, tasks, visualize
from slot_attention_jax.data import types


def metric_name(info: types.DatasetInfo, name: str) -> str:
  """Full name of a metric: it always says which data it is of.

  Args:
    info: the dataset's.
    name: short name, as `"fg_ari"`.

  Returns:
    `"data/split/name"`.
  """
  return f"{info.name}/{info.split}/{name}"


def evaluate_examples(
  eval_step: Callable[..., dict[str, jax.Array]],
  params: Any,
  dataset: types.Dataset,
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Computes the results of each example of a whole split, in their order.

  The slot noise of an example depends on `seed` and its index in the split
  alone: the numbers do not depend on the batch size or the devices.

  Args:
    eval_step: made by `steps.make_eval_step`.
    params: parameters, replicated over the mesh.
    dataset: an evaluation split.
    seed: of the slot noise.

  Returns:
    What `task.evaluate` gives, of all examples [N, ...]; `task.summarize` makes
    metrics of it.

  Raises:
    ValueError: if the dataset is endless.
  """
  if dataset.num_batches is None:
    raise ValueError(
      f"Expected an evaluation split, got {dataset.info.split!r} of "
      f"{dataset.info.name!r}, which is endless."
    )
  key = jax.random.key(seed)
  collected: dict[str, list[np.ndarray]] = {}
  for i in range(dataset.num_batches):
    batch = dataset.batch(i)
    first = np.uint32(i * dataset.batch_size)
    valid = batch.pop("valid")
    results = eval_step(params, batch, key, first) | {"valid": valid}
    results = jax.device_get(_whole(results))
    for name, values in results.items():
      if name != "valid":
        rows = np.asarray(values)[np.asarray(results["valid"])]
        collected.setdefault(name, []).append(rows)
  return {k: np.concatenate(v) for k, v in collected.items()}


def evaluate(
  task: tasks.Task,
  eval_step: Callable[..., dict[str, jax.Array]],
  params: Any,
  dataset: types.Dataset,
  seed: int = 0,
) -> dict[str, float]:
  """Computes the metrics of a whole split, each example counted once.

  Args:
    task: the objective.
    eval_step: made by `steps.make_eval_step`.
    params: parameters, replicated over the mesh.
    dataset: an evaluation split.
    seed: of the slot noise; see `evaluate_examples`.

  Returns:
    The metrics, under their full names.

  Raises:
    ValueError: if the dataset is endless.
  """
  results = evaluate_examples(eval_step, params, dataset, seed)
  metrics = task.summarize(results)
  logging.info(
    "Evaluated %d examples of %s/%s.",
    len(next(iter(results.values()))),
    dataset.info.name,
    dataset.info.split,
  )
  return {metric_name(dataset.info, k): v for k, v in metrics.items()}


def draw(
  task: tasks.Task,
  params: Any,
  dataset: types.Dataset,
  config: Any,
) -> np.ndarray | None:
  """A sheet of the first examples of a split, as evaluation sees them.

  Args:
    task: the objective.
    params: parameters.
    dataset: an evaluation split.
    config: a whole `ConfigDict`; `logging.num_images` and `eval.seed` are read.

  Returns:
    A picture [H', W', 3] uint8, the same in all processes, or None if
    `logging.num_images` is 0.
  """
  count = min(config.logging.num_images, dataset.batch_size)
  if not count:
    return None
  # On the host: a few rows need not divide over the devices.
  images = np.asarray(_whole(dataset.batch(0)["image"]))[:count]
  host_params = jax.device_get(params)
  key = jax.random.key(config.eval.seed)
  output = jax.device_get(_apply(task, host_params, images, key))
  if isinstance(task, object_discovery.ObjectDiscovery):
    return visualize.decomposition_sheet(images, output)
  return visualize.attention_sheet(images, output.attention)


def _whole(arrays: Any) -> Any:
  """Arrays of which this process holds all rows, not its own alone."""
  if jax.process_count() == 1:
    return arrays
  return multihost_utils.process_allgather(arrays, tiled=True)


@functools.partial(jax.jit, static_argnums=0)
def _apply(task, params, images, key):
  # Tasks are equal if their fields are: compiled once for all pictures.
  return task.apply(params, images, key)


def restore_params(
  config: Any, workdir: pathlib.Path, abstract_params: Any
) -> tuple[int, Any]:
  """Restores the parameters that a config asks for.

  Args:
    config: a whole `ConfigDict`; `eval.checkpoint` says which checkpoint,
      `checkpoint` which is the best.
    workdir: directory of the run, absolute.
    abstract_params: as for `Checkpointer.restore_params`.

  Returns:
    A pair (step, params).

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    ValueError: on another `eval.checkpoint` than "last" or "best".
  """
  path, which = workdir / "checkpoints", config.eval.checkpoint
  if not path.is_dir():
    raise FileNotFoundError(
      f"Expected a trained run in {workdir}, found no 'checkpoints' in it. "
      "Train first, with --mode=train and the same --workdir."
    )
  if which not in ("last", "best"):
    raise ValueError(
      f"Expected eval.checkpoint 'last' or 'best', got {which!r}."
    )
  with checkpoints.Checkpointer(
    path,
    best_metric=config.checkpoint.best_metric or None,
    best_mode=config.checkpoint.best_mode,
  ) as checkpointer:
    best = which == "best"
    step = checkpointer.best_step() if best else checkpointer.latest_step()
    if step is None:
      raise FileNotFoundError(
        f"Expected a {which} checkpoint in {path}, found none "
        f"(checkpoint.best_metric is {config.checkpoint.best_metric!r})."
      )
    return step, checkpointer.restore_params(abstract_params, step)
