"""Metrics of the training steps: fetched late, checked, and thinned out."""

import collections
import math
from collections.abc import Iterator, Mapping

import jax
import numpy as np

Row = tuple[int, dict[str, float]]


class StepMetrics:
  """Fetches the metrics of each call one call late, and picks rows to write.

  The host asks for the metrics of a call when it has already started the next
  one, so that the devices never wait for it.

  Args:
    prefix: what the names of the metrics begin with, as `"data/train"`.
    every_steps: steps between two rows; the first step is a row, too.
  """

  def __init__(self, prefix: str, every_steps: int):
    self.loss = math.nan
    """The last loss that was fetched."""
    self._prefix = prefix
    self._every = every_steps
    self._pending: tuple[int, Mapping[str, jax.Array]] | None = None
    self._losses: collections.deque[tuple[int, float]] = collections.deque(
      maxlen=5
    )

  def add(
    self, step: int, metrics: Mapping[str, jax.Array], *, flush: bool
  ) -> Iterator[Row]:
    """Takes the metrics of a call and yields the rows that are due.

    Args:
      step: the last step of the call.
      metrics: scalars, or [n] of the last n steps.
      flush: whether to wait for these metrics, too; before a checkpoint, so
        that no row before it is lost if the run is killed.

    Yields:
      Pairs (step, scalars by their full names).

    Raises:
      FloatingPointError: if a metric is not finite.
    """
    yield from self._fetch()
    self._pending = (step, metrics)
    if flush:
      yield from self._fetch()

  def _fetch(self) -> Iterator[Row]:
    if self._pending is None:
      return
    last, metrics = self._pending
    self._pending = None
    columns = {k: np.atleast_1d(v) for k, v in jax.device_get(metrics).items()}
    count = len(columns["loss"])
    for i, step in enumerate(range(last - count + 1, last + 1)):
      scalars = {k: float(v[i]) for k, v in columns.items()}
      self._check(step, scalars)
      if step % self._every == 0 or step == 1:
        yield step, {f"{self._prefix}/{k}": v for k, v in scalars.items()}

  def _check(self, step: int, scalars: dict[str, float]) -> None:
    """Raises FloatingPointError if one of the scalars is not finite."""
    self.loss = scalars["loss"]
    self._losses.append((step, self.loss))
    # All of them: a finite loss may have an infinite gradient.
    bad = [k for k, v in scalars.items() if not math.isfinite(v)]
    if bad:
      recent = ", ".join(f"{s}: {x:.4g}" for s, x in self._losses)
      raise FloatingPointError(
        f"The {bad[0]} is {scalars[bad[0]]} at step {step}; last losses: "
        f"{recent}. The last checkpoint is intact. Try optim.clip_norm=1.0, a "
        "lower optim.learning_rate or model.precision=float32."
      )
