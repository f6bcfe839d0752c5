"""Services that a run is sent to: Weights & Biases and trackio.

They are sent the rows of `metrics.jsonl`, each once in the life of the run,
however often it is resumed.
"""

import os
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from slot_attention_jax.runtime import files, storage
from slot_attention_jax.training import writers

TRACKERS_FILE = "trackers.json"
"""Ids of the run in the services that it is sent to."""
_PROJECT = "slot_attention_jax"
# Keys of a row that the writers add themselves.
_NO_SCALARS = ("step", "time", "seconds")


class Record:
  """What the directory of a run knows of the run in a service.

  Attributes:
    name: of the run, that of its directory.
    workdir: the directory, absolute.
    run_id: the same whenever the run is resumed.
    num_written: rows that were handed to the service before.
    num_stored: rows that it had when the run was last ended in good order.
  """

  def __init__(self, workdir: storage.Path, service: str, num_rows: int):
    self.workdir, self.name = workdir, workdir.name
    self._service = service
    record = self._read().get(service)
    # Without a record, the service knows nothing of the rows there are.
    self.num_written = num_rows if record else 0
    self.run_id = str(record["id"]) if record else secrets.token_hex(4)
    self.num_stored = int(record["rows"]) if record else 0
    self.save(self.num_stored)

  def save(self, num_stored: int) -> None:
    """Records how many rows the service has for certain."""
    records = self._read()
    records[self._service] = {"id": self.run_id, "rows": num_stored}
    files.write_json(self.workdir / TRACKERS_FILE, records)

  def _read(self) -> dict[str, Any]:
    path = self.workdir / TRACKERS_FILE
    if not path.exists():
      return {}
    remedy = "Without the file, a new run is begun in W&B and trackio."
    content = files.read_json(path, remedy)
    if self._service not in content:
      return content
    kinds = {self._service: {"id": str, "rows": int}}
    return files.read_json(path, remedy, kinds)


class Tracker(writers.MetricWriter):
  """Sends rows to a service that keeps what it was sent.

  Rows are counted as those of `metrics.jsonl` are. A resumed run writes some
  rows again; the service has them.

  Args:
    num_sent: how many rows the service has.
  """

  def __init__(self, num_sent: int):
    self._num_sent = num_sent
    self.num_rows = 0
    """Rows of the run so far, sent now or before."""

  def complete(self, rows: Iterable[Mapping[str, Any]]) -> None:
    """Sends the rows that the run has and the service lacks."""
    for row in rows:
      scalars = {k: v for k, v in row.items() if k not in _NO_SCALARS}
      self.write_scalars(row["step"], scalars)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Sends a row unless the service has it."""
    row = self.num_rows
    self.num_rows += 1
    if row >= self._num_sent:
      # Infinity and NaN are text in metrics.jsonl.
      self._send(row, step, {k: float(v) for k, v in scalars.items()})

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Sends images with the last row, unless the service has it."""
    row = max(self.num_rows - 1, 0)
    if row >= self._num_sent:
      self._send(row, step, {k: self._image(v) for k, v in images.items()})

  def _send(self, row: int, step: int, values: dict[str, Any]) -> None:
    raise NotImplementedError

  def _image(self, image: np.ndarray) -> Any:
    raise NotImplementedError


class WandbTracker(Tracker):
  """Weights & Biases; `$WANDB_MODE` and its other variables apply.

  Rows have their numbers there: what it is sent twice counts once. Offline, a
  process that is killed leaves nothing that can be relied on, and the next one
  sends the rows again.

  Args:
    record: of the run; the service's own files go to `wandb` beside it.
    config: of the run.

  Raises:
    ValueError: if the service refuses to start a run.
  """

  def __init__(self, record: Record, config: dict[str, Any]):
    import wandb

    self._wandb, self._record = wandb, record
    try:
      self._run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", _PROJECT),
        id=record.run_id,
        name=os.environ.get("WANDB_NAME", record.name),
        # Its own files, which it does not write to buckets.
        dir=None if storage.is_remote(record.workdir) else record.workdir,
        config=config,
        allow_val_change=True,
        resume="allow",
      )
    except wandb.Error as error:
      raise ValueError(
        f"Expected W&B to start a run, got {type(error).__name__}: {error}. "
        "Log in with the command wandb login, or set WANDB_MODE=offline."
      ) from error
    self._run.define_metric("step")
    self._run.define_metric("*", step_metric="step")
    offline = self._run.offline
    super().__init__(record.num_stored if offline else self._run.starting_step)

  def _send(self, row: int, step: int, values: dict[str, Any]) -> None:
    self._run.log({"step": int(step), **values}, step=row)

  def _image(self, image: np.ndarray) -> Any:
    return self._wandb.Image(image)

  def close(self) -> None:
    """Sends what is left and ends the run, as failed if an error ends it."""
    self._run.finish(exit_code=int(sys.exc_info()[0] is not None))
    self._record.save(max(self.num_rows, self._record.num_stored))


class TrackioTracker(Tracker):
  """Trackio; local, or in a Space if `$TRACKIO_SPACE_ID` names one.

  It keeps what it is sent for half a second before it stores it: `kill -9` may
  lose that much there.

  Args:
    record: of the run.
    config: of the run.
  """

  def __init__(self, record: Record, config: dict[str, Any]):
    import trackio

    super().__init__(record.num_written)
    self._trackio = trackio
    self._run = trackio.init(
      project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
      name=f"{record.name}-{record.run_id}",
      config=config,
      resume="allow",
      embed=False,
    )

  def _send(self, row: int, step: int, values: dict[str, Any]) -> None:
    del row
    self._run.log(values, step=int(step))

  def _image(self, image: np.ndarray) -> Any:
    return self._trackio.Image(image)

  def close(self) -> None:
    """Stores what is left and ends the run."""
    self._run.finish()


TRACKERS: Mapping[str, Callable[..., Tracker]] = {
  "wandb": WandbTracker,
  "trackio": TrackioTracker,
}
