"""Evaluation of parameters on a split."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from slot_attention_jax import tasks
from slot_attention_jax.data import types
from slot_attention_jax.evaluation import visualize
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.tasks import object_discovery


def metric_name(info: types.DatasetInfo, name: str) -> str:
  """Full name of a metric: it always says which data it is of.

  Args:
    info: the dataset's.
    name: short name, as `"fg_ari"`.

  Returns:
    `"data/split/name"`.
  """
  return f"{info.name}/{info.split}/{name}"


def abstract_params(task: tasks.Task, mesh: jax.sharding.Mesh) -> Any:
  """Shapes, dtypes and shardings of a task's parameters, to restore into."""
  params = jax.eval_shape(lambda: task.init(jax.random.key(0)))
  sharding = mesh_lib.replicated(mesh)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), params
  )


def make_eval_step(
  task: tasks.Task, mesh: jax.sharding.Mesh
) -> Callable[[Any, types.Batch, jax.Array, Any], dict[str, jax.Array]]:
  """Compiles the evaluation of one batch on a mesh.

  Every device evaluates its own examples, without any communication.

  Args:
    task: what is evaluated.
    mesh: the mesh.

  Returns:
    A function (params, batch, key, first) -> dict of per-example arrays
    [B, ...], with `first` the index of the batch's first example in its split.
  """
  whole, split = mesh_lib.replicated(mesh), mesh_lib.batch_sharding(mesh)

  def local(params, batch, key, first):
    rows = jax.tree.leaves(batch)[0].shape[0]
    first = first + rows * jax.lax.axis_index(mesh_lib.AXIS)
    return task.evaluate(params, batch, key, first)

  def evaluate(params, batch, key, first):
    first = jnp.asarray(first, jnp.uint32)
    if mesh.size == 1:
      return task.evaluate(params, batch, key, first)
    specs = (whole.spec, split.spec, whole.spec, whole.spec)
    return jax.shard_map(
      local,
      mesh=mesh,
      in_specs=specs,
      out_specs=split.spec,
      check_vma=False,
    )(params, batch, key, first)

  compiled = jax.jit(
    evaluate, in_shardings=(whole, split, None, None), out_shardings=split
  )
  return mesh_lib.under_mesh(compiled, mesh)


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
    eval_step: made by `make_eval_step`.
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
    eval_step: made by `make_eval_step`.
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
