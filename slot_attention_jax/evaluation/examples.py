"""Evaluation of parameters on a split."""

import dataclasses
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
from slot_attention_jax.runtime import (
  compilation,
  kept_programs,
  progress,
  shapes,
)
from slot_attention_jax.runtime import mesh as mesh_lib


class Interrupted(Exception):
  """An evaluation ended early, as was asked for."""


def metric_name(info: types.DatasetInfo, name: str) -> str:
  """Full name of a metric, which includes the data and the split.

  Args:
    info: the dataset's.
    name: short name, as `"fg_ari"`.

  Returns:
    `"data/split/name"`.
  """
  return f"{info.name}/{info.split}/{name}"


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
  """The first examples of a split, and what a model makes of them.

  Attributes:
    images: [B, H, W, 3] in [-1, 1].
    output: of the model, on the host.
    truth: `segmentation` [B, H, W] and `target` [B, O, P], where there are any.
  """

  images: np.ndarray
  output: Any
  truth: dict[str, np.ndarray]


def abstract_params(task: tasks.Task, mesh: jax.sharding.Mesh) -> Any:
  """Shapes, dtypes and shardings of a task's parameters, to restore into."""
  params = shapes.of(lambda: task.init(jax.random.key(0)))
  sharding = mesh_lib.replicated(mesh)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), params
  )


def make_eval_step(
  task: tasks.Task,
  mesh: jax.sharding.Mesh,
  quick: bool = False,
  num_images: int = 0,
) -> Callable[[Any, types.Batch, jax.Array, Any], dict[str, Any]]:
  """Compiles the evaluation of one batch on a mesh.

  Every device evaluates its own examples, without any communication.

  Args:
    task: what is evaluated.
    mesh: the mesh.
    quick: compiled for a few batches, see `compilation.quick_options`.
    num_images: for how many of the first examples of each device the output of
      the model is wanted, too.

  Returns:
    A function (params, batch, key, first_index) -> dict of per-example arrays
    [B, ...], with the index of the batch's first example in its split; and the
    model's output as `tasks.SHOWN`, if any is wanted.
  """
  replicated = mesh_lib.replicated(mesh)
  batch_sharding = mesh_lib.batch_sharding(mesh)

  run = functools.partial(task.evaluate, num_images=num_images)

  def local(params, batch, key, first_index):
    rows = jax.tree.leaves(batch)[0].shape[0]
    first_index = first_index + rows * jax.lax.axis_index(mesh_lib.AXIS)
    return run(params, batch, key, first_index)

  def evaluate(params, batch, key, first_index):
    first_index = jnp.asarray(first_index, jnp.uint32)
    if mesh.size == 1:
      return run(params, batch, key, first_index)
    everywhere, split = replicated.spec, batch_sharding.spec
    return jax.shard_map(
      local,  # On the mesh in the context.
      in_specs=(everywhere, split, everywhere, everywhere),
      out_specs=split,
      check_vma=False,
    )(params, batch, key, first_index)

  compiled = kept_programs.jit(
    evaluate,
    in_shardings=(replicated, batch_sharding, None, None),
    out_shardings=batch_sharding,
    compiler_options=compilation.quick_options(quick, task.pixels),
  )
  return mesh_lib.under_mesh(compiled, mesh)


def evaluate_examples(
  eval_step: Callable[..., dict[str, Any]],
  params: Any,
  dataset: types.Dataset,
  seed: int = 0,
  interrupt: Callable[[], Any] = lambda: False,
) -> dict[str, np.ndarray]:
  """Computes the results of each example of a whole split, in their order.

  Arguments, results and errors are those of `evaluate_and_show` for no images.
  """
  return evaluate_and_show(eval_step, params, dataset, seed, interrupt)[0]


def evaluate_and_show(
  eval_step: Callable[..., dict[str, Any]],
  params: Any,
  dataset: types.Dataset,
  seed: int = 0,
  interrupt: Callable[[], Any] = lambda: False,
  num_images: int = 0,
) -> tuple[dict[str, np.ndarray], Shown | None]:
  """Computes the results of each example of a whole split, in their order.

  The slot noise of an example depends on `seed` and its index in the split
  alone: the numbers do not depend on the batch size or the devices.

  Args:
    eval_step: made by `make_eval_step`.
    params: parameters, replicated over the mesh.
    dataset: an evaluation split.
    seed: of the slot noise.
    interrupt: asked after each batch, in all processes, whether to end early.
    num_images: how many of the first examples are shown; at most those of one
      batch, and `make_eval_step` needs the same number.

  Returns:
    A pair: the results of `task.evaluate` for all examples [N, ...], which
    `task.summarize` turns into metrics; and what is shown, the same in all
    processes, or None if `num_images` is 0.

  Raises:
    ValueError: if the dataset is endless.
    Interrupted: as asked for by `interrupt`.
  """
  if dataset.num_batches is None:
    raise ValueError(
      f"Expected an evaluation split, got {dataset.info.split!r} of "
      f"{dataset.info.name!r}, which is endless."
    )
  key = jax.random.key(seed)
  collected: dict[str, list[np.ndarray]] = {}
  shown = None
  bar = progress.Progress(
    dataset.num_batches,
    f"Evaluating {dataset.info.split}",
    "batches",
    leave=False,
  )
  with bar:
    for i in range(dataset.num_batches):
      batch = dataset.batch(i)
      first_index = np.uint32(i * dataset.batch_size)
      valid = batch.pop("valid")
      results = eval_step(params, batch, key, first_index) | {"valid": valid}
      output = results.pop(tasks.SHOWN, None)
      if num_images and not i:
        shown = _show(output, batch | {"valid": valid}, num_images)
      results = jax.device_get(_allgather(results))
      for name, values in results.items():
        if name != "valid":
          rows = np.asarray(values)[np.asarray(results["valid"])]
          collected.setdefault(name, []).append(rows)
      bar.update(i + 1)
      if i + 1 < dataset.num_batches and interrupt():
        raise Interrupted
  return {k: np.concatenate(v) for k, v in collected.items()}, shown


def evaluate(
  task: tasks.Task,
  eval_step: Callable[..., dict[str, jax.Array]],
  params: Any,
  dataset: types.Dataset,
  seed: int = 0,
  interrupt: Callable[[], Any] = lambda: False,
) -> dict[str, float]:
  """Computes the metrics of a whole split, each example counted once.

  Args:
    task: the objective.
    eval_step: made by `make_eval_step`.
    params: parameters, replicated over the mesh.
    dataset: an evaluation split.
    seed: of the slot noise; see `evaluate_examples`.
    interrupt: as of `evaluate_examples`.

  Returns:
    The metrics, under their full names.

  Raises:
    ValueError: if the dataset is endless.
    Interrupted: as asked for by `interrupt`.
  """
  results = evaluate_examples(eval_step, params, dataset, seed, interrupt)
  return summarize(task, results, dataset.info)


def summarize(
  task: tasks.Task, results: dict[str, np.ndarray], info: types.DatasetInfo
) -> dict[str, float]:
  """Metrics, under their full names, of what `evaluate_examples` gave."""
  metrics = task.summarize(results)
  logging.info(
    "Evaluated %d examples of %s/%s.",
    len(next(iter(results.values()))),
    info.name,
    info.split,
  )
  return {metric_name(info, k): v for k, v in metrics.items()}


def _show(output: Any, batch: types.Batch, num_images: int) -> Shown:
  """The first examples of a batch, and the output for those of each device."""
  names = ("image", "valid", "segmentation", "target")
  rows = _allgather({k: batch[k] for k in names if k in batch})
  # Rows that only fill up the batch are no examples.
  valid = np.asarray(rows.pop("valid"))
  rows = {k: np.asarray(v)[valid][:num_images] for k, v in rows.items()}
  images = rows.pop("image")
  # These are of the first device, or all that there are.
  output = jax.device_get(_allgather(output))
  output = jax.tree.map(lambda x: x[: len(images)], output)
  return Shown(images, output, rows)


def _allgather(arrays: Any) -> Any:
  """Arrays with the rows of all processes, not those of this one alone."""
  if jax.process_count() == 1:
    return arrays
  return multihost_utils.process_allgather(arrays, tiled=True)
