"""Orbax's checkpoint manager, set up for the items of a training run."""

import json
import logging as python_logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from slot_attention_jax.runtime import files
from slot_attention_jax.training import checkpoint_digests

ARRAY_ITEMS = ("params", "train")
JSON_ITEMS = ("config", checkpoint_digests.ITEM)
# Where checkpoints of version 0.1 have their metrics.
_OLD_METRICS = os.path.join("scores", "metadata")
# The item and the file in it.
_METRICS = "metrics"
# The file in the item of the checksums.
_DIGESTS = "metadata"
_ORBAX = os.path.join("", "orbax", "checkpoint", "")


def _drop_orbax_info(record: python_logging.LogRecord) -> bool:
  """False for the 60 lines that Orbax logs with each save.

  One of them is a warning, of checkpoints that were not evaluated: most of a
  run's, on purpose. Errors in its threads are raised as well; it logs each
  three times, with a traceback.
  """
  if _ORBAX not in record.pathname:
    return True
  if "did not provide metrics" in str(record.msg):
    return False
  return record.levelno >= python_logging.WARNING and not record.exc_info


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, for which unreadable metrics are no metrics."""

  def metrics(self, step: int) -> Any:
    """The metrics of a checkpoint, also of version 0.1; None: it has none."""
    try:
      found = super().metrics(step)
      old = self.directory / str(step) / _OLD_METRICS
      if found is None and old.exists():
        found = json.loads(old.read_text())
      digests = read_digests(self.directory / str(step))
      if found and digests is not None:
        checkpoint_digests.check(_METRICS, found, digests)
      return found or None
    except (ValueError, OSError) as error:
      # It cannot be the best then, which is no reason to stop.
      logging.warning(
        "Cannot read the metrics of checkpoint %d in %s: %s",
        step,
        self.directory,
        error,
      )
      return None


def write_metrics(checkpoint: epath.Path, metrics: Mapping[str, float]) -> None:
  """Writes the metrics of a checkpoint where the manager would have.

  Args:
    checkpoint: its directory.
    metrics: finite scalars by name.
  """
  directory = checkpoint / _METRICS
  files.write_json(directory / _METRICS, dict(metrics))
  if (checkpoint / checkpoint_digests.ITEM).exists():
    digests = read_digests(checkpoint) or {}
    digests[_METRICS] = checkpoint_digests.digest_json(dict(metrics))
    path = checkpoint / checkpoint_digests.ITEM / _DIGESTS
    files.write_json(path, digests)


def read_digests(checkpoint: epath.Path) -> dict[str, Any] | None:
  """Reads the checksums of a checkpoint.

  Args:
    checkpoint: its directory.

  Returns:
    What `checkpoint_digests.digests_of` computed; None for checkpoints of
    versions that saved none.

  Raises:
    ValueError: if they cannot be read.
  """
  path = checkpoint / checkpoint_digests.ITEM
  if not path.exists():
    return None
  try:
    digests = json.loads((path / _DIGESTS).read_text())
  except (OSError, ValueError) as error:
    raise ValueError(f"its checksums cannot be read: {error}") from error
  if not isinstance(digests, dict):
    raise ValueError("its checksums are not an object of JSON")
  return digests


def create_manager(
  directory: epath.Path,
  *,
  keep: int,
  keep_best: int,
  rank: Callable[[Mapping[str, Any]], float],
  writes: bool,
) -> ocp.CheckpointManager:
  """Makes the manager of a directory of checkpoints.

  Args:
    directory: the directory, absolute.
    keep: how many of the latest checkpoints to keep.
    keep_best: how many of the best to keep besides; one without metrics is
      never among them, unless there are no more than `keep_best` in all.
    rank: a number for the metrics of a checkpoint, larger is better; of equals
      the later one is the best.
    writes: whether checkpoints will be saved.

  Returns:
    The manager.
  """
  # Added once however often: filters are compared by identity.
  logging.get_absl_logger().addFilter(_drop_orbax_info)
  policies = ocp.checkpoint_managers
  best = policies.BestN(
    get_metric_fn=rank, n=keep_best, keep_checkpoints_without_metrics=False
  )
  options = ocp.CheckpointManagerOptions(
    preservation_policy=policies.AnyPreservationPolicy(
      [policies.LatestN(n=keep), best]
    ),
    best_fn=rank,
    create=writes,
    # What an earlier run left when it was killed. A reader must not do this:
    # it would delete what a running training is about to complete.
    cleanup_tmp_directories=writes,
  )
  # Orbax tells the shapes in an item only if it knows the item's handler.
  registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
  for name in ARRAY_ITEMS:
    handler = ocp.StandardCheckpointHandler()
    registry.add(name, ocp.args.StandardSave, handler)
    registry.add(name, ocp.args.StandardRestore, handler)
  for name in JSON_ITEMS:
    handler = ocp.JsonCheckpointHandler()
    registry.add(name, ocp.args.JsonSave, handler)
    registry.add(name, ocp.args.JsonRestore, handler)
  return _Manager(directory, options=options, handler_registry=registry)
