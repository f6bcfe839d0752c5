"""TensorBoard's files of events, written without TensorFlow.

A file of events is a TFRecord file of protocol buffers `Event`, of which
numbers and images need a handful of fields.

References:
  github.com/tensorflow/tensorboard, `compat/proto/event.proto` and
  `compat/proto/summary.proto`.
"""

import io
import itertools
import os
import pathlib
import socket
import struct
import time
from collections.abc import Mapping

import numpy as np

from slot_attention_jax.data import tfrecord
from slot_attention_jax.runtime import files
from slot_attention_jax.training import writers

_PREFIX = "events.out.tfevents."
# Fields of Event: wall_time, step, file_version, summary, session_log.
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY, _SESSION_LOG = 1, 2, 3, 5, 7
# Of Summary.Value: tag, simple_value, image.
_TAG, _SIMPLE_VALUE, _IMAGE = 1, 2, 4
# Of Summary.Image: height, width, colorspace, encoded_image_string.
_HEIGHT, _WIDTH, _COLORSPACE, _ENCODED = 1, 2, 3, 4
_RGB = 3
# Types of fields on the wire.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class TensorBoardWriter(writers.MetricWriter):
  """Writes numbers and images for TensorBoard.

  What was written is in the file even if the process is killed. Each process
  writes a file of its own, whose first event makes TensorBoard drop what older
  files have of later steps: a resumed run is shown once.

  Args:
    directory: of the files; made if it does not exist.
    resume_step: of the checkpoint that the run resumes from; -1 for a new run.

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
    path = _new_file(pathlib.Path(directory))
    # Not buffered: an event is one write to the file.
    self._file = path.open("xb", buffering=0)
    self._write(0, _bytes(_FILE_VERSION, b"brain.Event:2"))
    start = _varint_field(1, 1)  # SessionLog(status=START).
    self._write(resume_step + 1, _bytes(_SESSION_LOG, start))

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes numbers by name; infinity and NaN too."""
    values = b""
    for name, scalar in scalars.items():
      number = _tag(_SIMPLE_VALUE, _FIXED32) + _float(scalar)
      values += _bytes(1, _bytes(_TAG, name.encode()) + number)
    self._write(step, _bytes(_SUMMARY, values))

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes images [H, W, 3] uint8 by name."""
    for name, image in images.items():
      height, width, _ = image.shape
      content = _varint_field(_HEIGHT, height) + _varint_field(_WIDTH, width)
      content += _varint_field(_COLORSPACE, _RGB)
      content += _bytes(_ENCODED, _png(image))
      value = _bytes(_TAG, name.encode()) + _bytes(_IMAGE, content)
      self._write(step, _bytes(_SUMMARY, _bytes(1, value)))

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _write(self, step: int, content: bytes) -> None:
    now = _tag(_WALL_TIME, _FIXED64) + struct.pack("<d", time.time())
    event = now + _varint_field(_STEP, int(step)) + content
    with files.naming_errors(self._file.name):
      self._file.write(tfrecord.frame(event))


def _new_file(directory: pathlib.Path) -> pathlib.Path:
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


def _float(value: float) -> bytes:
  with np.errstate(over="ignore"):
    return struct.pack("<f", np.float32(value))


def _varint(value: int) -> bytes:
  """An integer of at least 0, seven bits a byte, the lowest first."""
  encoded = bytearray()
  while value > 0x7F:
    encoded.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*encoded, value])


def _tag(field: int, wire_type: int) -> bytes:
  return _varint(field << 3 | wire_type)


def _varint_field(field: int, value: int) -> bytes:
  return _tag(field, _VARINT) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
  return _tag(field, _BYTES) + _varint(len(content)) + content
