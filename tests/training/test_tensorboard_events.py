"""Tests of TensorBoard's files, which TensorBoard itself reads."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from slot_attention_jax.data import tfrecord
from slot_attention_jax.training import tensorboard_events

event_pb2 = pytest.importorskip("tensorboard.compat.proto.event_pb2")


def events(path):
  with path.open("rb") as file:
    records = [*tfrecord.read_records(file, str(path))]
  return [event_pb2.Event.FromString(record) for record in records]


def test_numbers_and_images(tmp_path):
  writer = tensorboard_events.TensorBoardWriter(tmp_path / "new")
  writer.write_scalars(300, {"loss": 0.5, "ä": np.float32(1e-3)})
  image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
  writer.write_images(2**33, {"slots": image})
  # Nothing is lost if the process is killed here.
  (path,) = (tmp_path / "new").iterdir()
  version, start, scalars, images = events(path)
  writer.close()
  assert version.file_version == "brain.Event:2"
  assert (start.session_log.status, start.step) == (1, 0)
  assert version.wall_time == pytest.approx(images.wall_time, abs=60) != 0
  assert scalars.step == 300
  found = {value.tag: value.simple_value for value in scalars.summary.value}
  assert found == {"loss": 0.5, "ä": pytest.approx(1e-3)}
  (value,) = images.summary.value
  assert (images.step, value.tag) == (2**33, "slots")
  shown = value.image
  assert (shown.height, shown.width, shown.colorspace) == (4, 5, 3)
  decoded = Image.open(io.BytesIO(shown.encoded_image_string))
  np.testing.assert_array_equal(np.asarray(decoded), image)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e39])
def test_numbers_that_are_not_finite(number, tmp_path):
  writer = tensorboard_events.TensorBoardWriter(tmp_path)
  writer.write_scalars(1, {"loss": number})
  writer.close()
  (path,) = tmp_path.iterdir()
  (value,) = events(path)[-1].summary.value
  expected = np.inf if number == 1e39 else number
  np.testing.assert_equal(value.simple_value, expected)


READ = """
import json, sys
sys.modules["tensorflow"] = None  # TensorBoard has its own stand-in.
from tensorboard.backend.event_processing import event_accumulator
# Of images it keeps four unless told otherwise; 0: all.
events = event_accumulator.EventAccumulator(sys.argv[1], {"images": 0})
events.Reload()
print(json.dumps([
  [(e.step, e.value) for e in events.Scalars("loss")],
  [(e.step, e.width) for e in events.Images("slots")],
  "tensorflow" in sys.modules and sys.modules["tensorflow"] is not None,
]))
"""


def test_tensorboard_shows_a_resumed_run_once(tmp_path):
  def run(resume_step, steps):
    writer = tensorboard_events.TensorBoardWriter(tmp_path, resume_step)
    for step in steps:
      writer.write_scalars(step, {"loss": step / 4})
      writer.write_images(step, {"slots": np.zeros((2, step + 1, 3), np.uint8)})
    writer.close()

  run(-1, range(3))
  run(-1, range(6))  # Killed before its first checkpoint, it starts anew.
  with max(tmp_path.iterdir()).open("ab") as file:
    file.write(b"\x18\0\0")  # Of an event that was being written.
  run(3, range(4, 8))
  assert len([*tmp_path.iterdir()]) == 3
  result = subprocess.run(
    [sys.executable, "-W", "ignore", "-c", READ, str(tmp_path)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  scalars, images, tensorflow = json.loads(result.stdout)
  assert scalars == [[step, step / 4] for step in range(8)]
  assert images == [[step, step + 1] for step in range(8)]
  assert not tensorflow
