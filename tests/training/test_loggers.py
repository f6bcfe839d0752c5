"""Tests of what `logging.writers` asks for."""

import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.config import allowed
from slot_attention_jax.runtime import user_errors
from slot_attention_jax.training import (
  checks,
  loggers,
  resume,
  trackers,
  writers,
)

ROOT = pathlib.Path(__file__).parents[2]
IMAGE = np.zeros((2, 3, 3), np.uint8)


class Service:
  """Stands in for wandb and trackio, and keeps what it is sent."""

  Error = RuntimeError

  def __init__(self, offline=False, refuses=False):
    self.offline, self.refuses = offline, refuses
    self.runs, self.options, self.exit_codes = {}, [], []

  def init(self, **options):
    if self.refuses:
      raise self.Error("no API key")
    self.options.append(options)
    run = self.runs.setdefault(options.get("id") or options["name"], [])
    return types.SimpleNamespace(
      offline=self.offline,
      starting_step=0 if self.offline else len({row for row, _ in run}),
      define_metric=lambda name, step_metric=None: None,
      log=lambda values, step: run.append((step, values)),
      finish=lambda exit_code=0: self.exit_codes.append(exit_code),
    )

  def Image(self, image):
    return f"image {image.shape}"


@pytest.fixture(params=["wandb", "wandb offline", "trackio"])
def service(request, monkeypatch):
  name = request.param.split()[0]
  service = Service(offline="offline" in request.param)
  service.name = name
  monkeypatch.setitem(sys.modules, name, service)
  monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: name)
  for variable in ("WANDB_PROJECT", "WANDB_NAME", "TRACKIO_PROJECT"):
    monkeypatch.delenv(variable, raising=False)
  return service


def run(directory, service, steps, **options):
  """Writes a row a step, a second one at even steps, and then an image."""
  writer = loggers.create_writer(
    directory,
    total_steps=9,
    names=("jsonl", service.name),
    config={"seed": 3},
    **options,
  )
  for step in steps:
    writer.write_scalars(step, {"loss": step / 4 if step else np.inf})
    if step % 2 == 0:
      writer.write_scalars(step, {"ari": 1 - step / 8})
      writer.write_images(step, {"slots": IMAGE})
  writer.close()


def sent(service):
  """(step, name, value) of all that the only run has."""
  (logged,) = service.runs.values()
  return [
    (values.get("step", step), key, value)
    for step, values in logged
    for key, value in values.items()
    if key != "step"
  ]


def test_a_resumed_run_sends_each_row_and_image_once(service, tmp_path):
  whole = Service()
  whole.name = service.name
  sys.modules[service.name] = whole
  run(tmp_path / "whole", whole, range(9))
  sys.modules[service.name] = service
  run(tmp_path / "run", service, range(3))  # Killed at the start.
  run(tmp_path / "run", service, range(6))
  run(tmp_path / "run", service, range(3, 7), resume_step=2)
  run(tmp_path / "run", service, range(7, 9), resume_step=6)
  assert sent(service) == sent(whole)
  assert len(sent(service)) == 9 + 5 + 5
  assert {*service.exit_codes} == {0}
  names = {o["project"] for o in service.options}
  assert names == {"slot_attention_jax"}
  assert service.options[0]["config"] == {"seed": 3}
  assert {o["resume"] for o in service.options} == {"allow"}


def test_a_service_that_is_added_later_gets_all_rows(service, tmp_path):
  writer = loggers.create_writer(tmp_path, total_steps=9)
  for step in range(4):
    writer.write_scalars(step, {"loss": np.inf if step == 0 else step})
  writer.close()
  run(tmp_path, service, range(3, 5), resume_step=2)
  assert [x for x in sent(service) if x[1] == "loss"] == [
    (0, "loss", np.inf),
    (1, "loss", 1.0),
    (2, "loss", 2.0),
    (3, "loss", 0.75),
    (4, "loss", 1.0),
  ]


def test_rows_that_w_and_b_lost_are_sent_again(monkeypatch, tmp_path):
  service = Service()
  service.name = "wandb"
  monkeypatch.setitem(sys.modules, "wandb", service)
  monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: name)
  run(tmp_path, service, range(5))
  (logged,) = service.runs.values()
  before = sent(service)
  del logged[3:]
  run(tmp_path, service, [], resume_step=4)
  scalars = [x for x in before if x[1] != "slots"]
  assert [x for x in sent(service) if x[1] != "slots"] == scalars


def test_rows_of_a_process_that_was_killed_offline_are_sent_again(
  monkeypatch, tmp_path
):
  service = Service(offline=True)
  service.name = "wandb"
  monkeypatch.setitem(sys.modules, "wandb", service)
  monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: name)
  run(tmp_path, service, range(3))
  monkeypatch.setattr(trackers.Record, "save", lambda self, rows: None)
  run(tmp_path, service, range(3, 6), resume_step=2)
  (logged,) = service.runs.values()
  del logged[-5:]  # Killed, so that neither the rows nor their count are there.
  monkeypatch.undo()
  monkeypatch.setitem(sys.modules, "wandb", service)
  monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: name)
  run(tmp_path, service, range(5, 7), resume_step=4)
  rows = [values["step"] for _, values in logged if "slots" not in values]
  assert rows == [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6]


def test_another_run_in_the_directory_has_another_id(service, tmp_path):
  run(tmp_path, service, range(2))
  config = sa.load_config("quickstart").to_dict()
  (tmp_path / "config.json").write_text(json.dumps(config))
  resume.set_aside(tmp_path, {**config, "seed": 8})
  run(tmp_path, service, range(2))
  assert len(service.runs) == 2
  first, second = service.runs.values()
  assert first == second


def test_an_error_ends_a_run_of_w_and_b_as_failed(monkeypatch, tmp_path):
  service = Service()
  monkeypatch.setitem(sys.modules, "wandb", service)
  monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: name)
  writer = loggers.create_writer(tmp_path, total_steps=1, names=["wandb"])
  try:
    raise FloatingPointError
  except FloatingPointError:
    writer.close()
  assert service.exit_codes == [1]


def test_w_and_b_that_refuses_is_the_user_s_to_mend(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "wandb", Service(refuses=True))
  monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: name)
  with pytest.raises(ValueError, match=r"no API key\..*WANDB_MODE") as caught:
    loggers.create_writer(tmp_path, total_steps=1, names=["wandb"])
  assert user_errors.is_users(caught.value)


@pytest.mark.parametrize(
  ("name", "package"),
  [("wandb", "wandb"), ("trackio", "trackio"), ("clu", "tensorflow")],
)
def test_a_missing_package_is_an_error_before_anything_expensive(
  name, package, monkeypatch
):
  find_spec = loggers.importlib.util.find_spec
  monkeypatch.setattr(
    loggers.importlib.util,
    "find_spec",
    lambda name: None if name == package else find_spec(name),
  )
  config = sa.load_config("quickstart")
  config.logging.writers = ("jsonl", name)
  extra = "tf" if name == "clu" else name
  with pytest.raises(ValueError, match=rf"slot_attention_jax\[{extra}\]"):
    checks.check(config, 1)


def test_the_default_needs_nothing_else():
  config = sa.load_config("quickstart")
  assert loggers.enabled(config.logging) == ("jsonl", "tensorboard")
  assert not {"jsonl", "tensorboard"} & set(loggers._NEEDED)
  assert {*loggers._NEEDED, "jsonl", "tensorboard"} == {*allowed.WRITERS}


def test_the_older_key_still_switches_tensorboard_off():
  config = sa.load_config("quickstart")
  config.logging.tensorboard = False
  assert loggers.enabled(config.logging) == ("jsonl",)


def test_files_of_the_default_writers(tmp_path):
  writer = loggers.create_writer(tmp_path, total_steps=1, names=["tensorboard"])
  writer.write_scalars(1, {"loss": 0.5})
  writer.close()
  names = sorted(path.name[:20] for path in tmp_path.iterdir())
  assert names == ["events.out.tfevents.", writers.METRICS_FILE]


def test_without_tensorboard_a_run_goes_on_and_says_so(
  monkeypatch, caplog, tmp_path
):
  name = "tensorboard.compat.proto.event_pb2"
  monkeypatch.setitem(sys.modules, name, None)
  with caplog.at_level("WARNING", logger="absl"):
    writer = loggers.create_writer(
      tmp_path, total_steps=1, names=("jsonl", "tensorboard")
    )
  writer.write_scalars(1, {"loss": 0.5})
  writer.close()
  assert "pip install tensorboard" in caplog.text
  assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_other_processes_write_nothing(tmp_path):
  writer = loggers.create_writer(
    tmp_path / "run", total_steps=1, process_index=1, names=["wandb"]
  )
  writer.write_scalars(1, {"a": 1.0})
  writer.close()
  assert not (tmp_path / "run").exists()


CLU = """
import glob, sys
import numpy as np
from slot_attention_jax.training import loggers
assert "tensorflow" not in sys.modules
writer = loggers.create_writer(sys.argv[1], total_steps=9, names=["clu"])
import tensorflow as tf
assert tf.config.get_visible_devices("GPU") == []
writer.write_scalars(3, {"loss": 0.5})
writer.write_images(3, {"slots": np.full((4, 5, 3), 7, np.uint8)})
writer.flush()
writer.close()
(path,) = glob.glob(sys.argv[1] + "/events*")
found = {}
for event in tf.compat.v1.train.summary_iterator(path):
  for value in event.summary.value:
    found[value.tag] = event.step, tf.make_ndarray(value.tensor)
step, loss = found["loss"]
assert (step, float(loss)) == (3, 0.5), found
step, image = found["slots"]
np.testing.assert_array_equal(tf.io.decode_png(image[2]), np.full((4, 5, 3), 7))
"""

# A run that is killed after its third row and resumed from step 1.
OFFLINE = """
import os, sys
import numpy as np
from slot_attention_jax.training import loggers
name, directory, resumed = sys.argv[1], sys.argv[2], sys.argv[3] == "resumed"
writer = loggers.create_writer(
  directory, total_steps=4, names=[name], resume_step=int(resumed),
  config={"model": {"num_slots": 4}},
)
for step in range(2, 5) if resumed else range(1, 4):
  writer.write_scalars(step, {"data/loss": 1 / step})
  writer.write_images(step, {"slots": np.full((4, 5, 3), 7, np.uint8)})
if not resumed:
  import time
  time.sleep(1.5)  # What services buffer.
  os._exit(9)
writer.close()
"""


def python(code, *arguments, **environment):
  return subprocess.run(
    [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=os.environ | environment,
    check=False,
  )


@pytest.mark.slow
def test_clu_writes_for_tensorboard(tmp_path):
  pytest.importorskip("tensorboard")
  pytest.importorskip("tensorflow")
  result = python(CLU, tmp_path)
  assert result.returncode == 0, result.stderr


def run_offline(name, tmp_path, **environment):
  workdir = tmp_path / "run"
  for time in ("first", "resumed"):
    result = python(OFFLINE, name, workdir, time, **environment)
    expected = 0 if time == "resumed" else 9
    assert result.returncode == expected, result.stderr
  return workdir


@pytest.mark.slow
def test_the_real_trackio_keeps_a_resumed_run(tmp_path):
  pytest.importorskip("trackio")
  environment = {"TRACKIO_DIR": str(tmp_path / "t"), "HF_HUB_OFFLINE": "1"}
  run_offline("trackio", tmp_path, **environment)
  code = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
(run,) = trackio.Api().runs("slot_attention_jax")
logs = SQLiteStorage.get_logs(run.project, run.name, run_id=run.id)
print(json.dumps([run.config["model"], logs]))
"""
  result = python(code, **environment)
  assert result.returncode == 0, result.stderr
  model, logs = json.loads(result.stdout.splitlines()[-1])
  assert model == {"num_slots": 4}
  losses = [(x["step"], x["data/loss"]) for x in logs if "data/loss" in x]
  assert losses == [(step, pytest.approx(1 / step)) for step in range(1, 5)]
  assert [x["step"] for x in logs if "slots" in x] == [1, 2, 3, 4]


@pytest.mark.slow
def test_the_real_w_and_b_keeps_a_resumed_run_offline(tmp_path):
  pytest.importorskip("wandb")
  workdir = run_offline("wandb", tmp_path, WANDB_MODE="offline")
  files = sorted(workdir.glob("wandb/offline-run-*/run-*.wandb"))
  ids = {path.stem.removeprefix("run-") for path in files}
  assert len(files) == 2
  assert ids == {
    json.loads((workdir / "trackers.json").read_text())["wandb"]["id"]
  }
  code = """
import json, sys
from wandb.proto import wandb_internal_pb2

def records(path):
  # As LevelDB's logs: chunks with 7 bytes of header, blocks of 32 KiB.
  data, at, record = open(path, "rb").read(), 7, b""
  while at + 7 <= len(data):
    length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
    record += data[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (1, 4):  # Whole, or the last of several.
      yield record
      record = b""
    if 32768 - at % 32768 < 7:
      at += 32768 - at % 32768

rows = []
for path in sys.argv[1:]:
  for data in records(path):
    record = wandb_internal_pb2.Record.FromString(data)
    if record.WhichOneof("record_type") == "history":
      rows.append({
        "/".join(i.nested_key) or i.key: json.loads(i.value_json)
        for i in record.history.item
      })
print(json.dumps(rows))
"""
  result = python(code, *files)
  assert result.returncode == 0, result.stderr
  rows = json.loads(result.stdout.splitlines()[-1])
  # Killed, W&B leaves nothing or some rows, whose numbers say that they are the
  # same.
  found = sorted({(r["_step"], r["step"], r["data/loss"]) for r in rows})
  assert found == [(n, n + 1, pytest.approx(1 / (n + 1))) for n in range(4)]
  images = [r["step"] for r in rows if any(k.startswith("slots") for k in r)]
  assert images[-3:] == [2, 3, 4], rows


@pytest.mark.parametrize("record", [3, None, {"id": "x"}, {"rows": 3}])
def test_a_damaged_record_of_a_service_is_an_error(record, tmp_path):
  (tmp_path / "trackers.json").write_text(json.dumps({"wandb": record}))
  with pytest.raises(ValueError, match=r"trackers\.json to have .*wandb"):
    trackers.Record(tmp_path, "wandb", 5)
  # That of another service does not matter.
  assert trackers.Record(tmp_path, "trackio", 5).num_written == 0
