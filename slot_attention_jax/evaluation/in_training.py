"""Evaluations in the course of a training."""

from typing import Any

import jax

from slot_attention_jax import tasks
from slot_attention_jax.data import types
from slot_attention_jax.evaluation import draw, examples
from slot_attention_jax.runtime import processes, storage
from slot_attention_jax.training import stop_request, writers

Metrics = dict[str, float]
"""Metrics under their full names."""


class Evaluations:
  """Evaluates parameters and writes metrics and figures.

  Args:
    config: of the training.
    path: directory of the run.
    task: what is trained.
    mesh: the mesh.
    dataset: the evaluation split.
    writer: where metrics and images go.
    stop: a signal ends an evaluation between two batches.
  """

  def __init__(
    self,
    config: Any,
    path: storage.Path,
    task: tasks.Task,
    mesh: jax.sharding.Mesh,
    dataset: types.Dataset,
    writer: writers.MetricWriter,
    stop: stop_request.StopRequest,
  ):
    self._config, self._path, self._task = config, path, task
    self._dataset, self._writer, self._stop = dataset, writer, stop
    self._step = examples.make_eval_step(
      task, mesh, config.train.quick_compilation, config.logging.num_images
    )

  def evaluate(
    self, step: int, params: Any, write: bool = True
  ) -> tuple[Metrics, int]:
    """Evaluates; all processes must call it.

    Args:
      step: steps done.
      params: the parameters.
      write: whether to write what is found.

    Returns:
      The metrics and 0; or no metrics and the number of the signal that ended
      the evaluation, the same in all processes.
    """
    try:
      results, shown = examples.evaluate_and_show(
        self._step,
        params,
        self._dataset,
        self._config.eval.seed,
        self._stop.now,
        self._config.logging.num_images,
      )
    except examples.Interrupted:
      return {}, self._stop.now()
    metrics = examples.summarize(self._task, results, self._dataset.info)
    if write:
      self._writer.write_scalars(step, metrics)
      self._draw(step, shown, results)
    return metrics, 0

  def is_missing(self, step: int) -> bool:
    """Whether a signal ended the run in place of the evaluation of a step."""
    every = self._config.eval.every_steps
    if not step or (step != self._config.train.num_steps and step % every):
      return False
    prefix = examples.metric_name(self._dataset.info, "")
    path = self._path / writers.METRICS_FILE
    return processes.broadcast_from_process_0(
      not writers.has_metrics(path, step, prefix)
    )

  def _draw(self, step: int, shown: Any, results: Any) -> None:
    """Draws the first examples, if the config asks for some."""
    if shown is None or jax.process_index() != 0:
      return
    info = self._dataset.info
    image = draw.write(
      self._path,
      f"{step:08d}",
      self._task,
      shown,
      info,
      step=step,
      results=results,
    )
    self._writer.write_images(step, {info.split: image})
