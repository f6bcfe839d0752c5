"""Evaluation of a state on a split, also standalone on a checkpoint."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from slot_attention_jax import tasks
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


def evaluate(
  task: tasks.Task,
  eval_step: Callable[..., dict[str, jax.Array]],
  params: Any,
  dataset: types.Dataset,
  seed: int = 0,
) -> dict[str, float]:
  """Computes the metrics of a whole split, each example counted once.

  The slot noise of an example depends on `seed` and its index in the split
  alone: the numbers do not depend on the batch size or the devices.

  Args:
    task: the objective.
    eval_step: made by `steps.make_eval_step`.
    params: parameters, replicated over the mesh.
    dataset: an evaluation split.
    seed: of the slot noise.

  Returns:
    The metrics, under their full names.

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
    if jax.process_count() > 1:
      results = multihost_utils.process_allgather(results, tiled=True)
    results = jax.device_get(results)
    for name, values in results.items():
      if name != "valid":
        rows = np.asarray(values)[np.asarray(results["valid"])]
        collected.setdefault(name, []).append(rows)
  merged = {k: np.concatenate(v) for k, v in collected.items()}
  metrics = task.summarize(merged)
  logging.info(
    "Evaluated %d examples of %s/%s.",
    len(next(iter(merged.values()))),
    dataset.info.name,
    dataset.info.split,
  )
  return {metric_name(dataset.info, k): v for k, v in metrics.items()}
