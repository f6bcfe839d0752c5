"""TensorBoard's files of events, written without TensorFlow.

A file of events is a TFRecord file of protocol buffers `Event`, which the
package `tensorboard` defines.
"""

import importlib
import io
import itertools
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from slot_attention_jax.data import tfrecord
from slot_attention_jax.runtime import appended, storage
from slot_attention_jax.training import writers

_PREFIX = "events.out.tfevents."
_RGB = 3
# In a bucket a file is written anew with each flush; larger ones are ended.
_MOST_BYTES = 4 * 2**20


class TensorBoardWriter(writers.MetricWriter):
  """Writes numbers and images for TensorBoard.

  What was written is in the file even if the process is killed; in a bucket,
  once it is flushed. Each process begins a file of its own, whose first event
  makes TensorBoard drop what older files have of later steps: a resumed run is
  shown once.

  Args:
    directory: of the files, local or in a bucket; made if it does not exist.
    resume_step: of the checkpoint that the run resumes from; -1 for a new run.

  Raises:
    ImportError: if the package `tensorboard` is not installed.

  Example:
    >>> import pathlib, tempfile
    >>> from slot_attention_jax.training import tensorboard_events
    >>> directory = pathlib.Path(tempfile.mkdtemp())
    >>> writer = tensorboard_events.TensorBoardWriter(directory)
    >>> writer.write_scalars(1, {"loss": 0.5})
    >>> writer.close()
    >>> [path.name[:20] for path in directory.iterdir()]
    ['events.out.tfevents.']
  """

  def __init__(self, directory: str | os.PathLike[str], resume_step: int = -1):
    proto: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
    self._event = proto.Event
    self._directory = storage.to_path(directory)
    self._begin_file()
    self._write(resume_step + 1, session_log={"status": "START"})

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes numbers by name; infinity and NaN too."""
    values = [
      {"tag": n, "simple_value": _float32(v)} for n, v in scalars.items()
    ]
    self._write(step, summary={"value": values})

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes images [H, W, 3] uint8 by name."""
    for name, image in images.items():
      height, width, _ = image.shape
      content = {
        "height": height,
        "width": width,
        "colorspace": _RGB,
        "encoded_image_string": _png(image),
      }
      value = {"tag": name, "image": content}
      self._write(step, summary={"value": [value]})

  def flush(self) -> None:
    """Writes what a bucket does not have yet."""
    self._file.flush()
    if storage.is_remote(self._directory) and self._file.size > _MOST_BYTES:
      self._begin_file()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _begin_file(self) -> None:
    self._file = appended.open_file(_new_file(self._directory), new=True)
    self._write(0, file_version="brain.Event:2")

  def _write(self, step: int, **fields: Any) -> None:
    """Appends an `Event`; messages in its fields are given as dicts."""
    event = self._event(wall_time=time.time(), step=int(step), **fields)
    self._file.write(tfrecord.frame(event.SerializeToString()))


def _new_file(directory: storage.Path) -> storage.Path:
  """The path of a new file; TensorBoard reads them in the order of names."""
  directory.mkdir(parents=True, exist_ok=True)
  seconds = int(time.time())
  for path in directory.glob(f"{_PREFIX}*"):
    first = path.name.removeprefix(_PREFIX).partition(".")[0]
    seconds = max(seconds, int(first) + 1) if first.isdigit() else seconds
  host = socket.gethostname()
  names = (
    f"{_PREFIX}{seconds + n:010d}.{host}.{os.getpid()}"
    for n in itertools.count()
  )
  return next(p for p in map(directory.joinpath, names) if not p.exists())


def _png(image: np.ndarray) -> bytes:
  from PIL import Image

  file = io.BytesIO()
  Image.fromarray(image).save(file, format="PNG")
  return file.getvalue()


def _float32(value: float) -> float:
  """What the field holds: infinity beyond the range, which it refuses."""
  with np.errstate(over="ignore"):
    return float(np.float32(value))
