"""Random training batches for benchmarks."""

from typing import Any

import numpy as np


def random_batch(task: Any, batch_size: int, max_objects: int) -> dict:
  """Random NumPy arrays with the shapes of a training batch.

  Args:
    task: the task; gives the shape of the images and the layout of the targets.
    batch_size: B.
    max_objects: O, rows of a target.

  Returns:
    `image` and, for set prediction, `target`; the number of real objects and
    their properties are uniform.
  """
  rng = np.random.default_rng(0)
  shape = (batch_size, *task.image_shape)
  batch = {"image": rng.uniform(-1, 1, shape).astype(np.float32)}
  if "predictions" in task.prediction_shapes:
    rows, values = (batch_size, max_objects), {}
    for prop in task.layout.of_kind("continuous"):
      values[prop.name] = rng.uniform(prop.low, prop.high, (*rows, prop.size))
    for prop in task.layout.of_kind("categorical"):
      values[prop.name] = rng.integers(0, prop.size, rows)
    count = rng.integers(1, max_objects + 1, (batch_size, 1))
    real = np.arange(max_objects)[None] < count
    batch["target"] = np.asarray(task.layout.encode(values, real))
  return batch
