"""Runs whose directory is in a bucket do what those on a disk do.

Against an emulator of Google Cloud Storage on the loopback.
"""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import slot_attention_jax as sa
from experiments import kill_and_resume
from tests import bucket
from tests import test_distributed as distributed

pytestmark = [bucket.needs_emulator, pytest.mark.slow]

STEPS = distributed.STEPS
CONFIG = f"{distributed.CONFIG},logging.tensorboard=True"
# A row that was begun and a checkpoint after it: any moment will do.
KILL_AFTER_ROWS = 5


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("xla")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
  with bucket.emulator(tmp_path_factory.mktemp("gcs")) as running:
    yield running


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cache):
  """The run of one process on a disk."""
  workdir = tmp_path_factory.mktemp("alone") / "run"
  with distributed.start(workdir, 1, cache, config=CONFIG) as processes:
    processes.printed()
  return workdir


def start(name, url, cache, *arguments, module="main", config=CONFIG):
  command = [sys.executable, "-m", f"slot_attention_jax.{module}"]
  if module == "main":
    command += [f"--config={config}", f"--compilation_cache={cache}"]
  command += [f"--workdir=gs://{bucket.NAME}/{name}", *arguments]
  return subprocess.Popen(
    command,
    cwd=distributed.ROOT,
    env=distributed.environment(cache) | bucket.variables(url),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def end(process):
  """Waits; returns the exit status and what it logged."""
  _, log = process.communicate(timeout=300)
  return process.returncode, log


def rows(emulator, name):
  try:
    text = emulator.read(f"{name}/metrics.jsonl").decode()
  except FileNotFoundError:
    return []
  return [json.loads(line) for line in text.splitlines()]


def wait_for_rows(emulator, name, count, process):
  deadline = time.monotonic() + 300
  while len(rows(emulator, name)) < count:
    assert process.poll() is None, end(process)
    assert time.monotonic() < deadline
    time.sleep(0.02)


def assert_same_checkpoints(workdir, expected):
  """Parameters, optimizer state, step and key are equal, bit for bit."""
  config = sa.load_config(CONFIG)
  # The tests' devices are four; the runs had one.
  config.train.batch_size = config.eval.batch_size = 4
  arrays = kill_and_resume._arrays(config, workdir)
  expected_arrays = kill_and_resume._arrays(config, expected)
  assert arrays.keys() == expected_arrays.keys()
  assert len(arrays) > 50
  for name, array in arrays.items():
    np.testing.assert_array_equal(array, expected_arrays[name], err_msg=name)


def test_a_killed_and_resumed_run_is_that_of_a_disk(
  emulator, alone, cache, tmp_path
):
  process = start("a", emulator.url, cache)
  wait_for_rows(emulator, "a", KILL_AFTER_ROWS, process)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert rows(emulator, "a")[-1]["step"] < STEPS
  assert "a/.training.json" in emulator.names("a/")
  code, log = end(start("a", emulator.url, cache))
  assert code == 0, log[-3000:]
  (first,) = re.findall(rf"Training steps (\d+) to {STEPS}", log)
  assert 0 < int(first) < STEPS
  assert "a/.training.json" not in emulator.names("a/")
  for module, arguments in [
    ("main", ["--mode=evaluate"]),
    ("main", ["--mode=export"]),
    ("export_weights", ["--name=weights"]),
  ]:
    code, log = end(start("a", emulator.url, cache, *arguments, module=module))
    assert code == 0, log[-3000:]
  workdir = emulator.download("a", tmp_path / "copy")
  distributed.assert_same_run(workdir, alone)
  assert distributed.rows_of(workdir) == distributed.rows_of(alone)
  assert_same_checkpoints(workdir, alone)
  for name in (
    "config.json",
    "metadata.json",
    "evaluation.json",
    "evaluation.md",
    "examples.npz",
    "figures/evaluation.svg",
    "weights/weights.md",
    "weights/weights.safetensors",
  ):
    assert (workdir / name).stat().st_size, name
  assert len(list(workdir.glob("events.out.tfevents.*"))) == 2


def test_prediction_reads_a_run_in_a_bucket(emulator, cache, tmp_path):
  test_image = distributed.ROOT / "docs" / "scenes.png"
  code, log = end(start("p", emulator.url, cache))
  assert code == 0, log[-3000:]
  result = subprocess.run(
    [
      *(sys.executable, "-m", "slot_attention_jax.predict"),
      *(f"--model=gs://{bucket.NAME}/p", f"--images={test_image}"),
      f"--output={tmp_path / 'out'}",
    ],
    cwd=distributed.ROOT,
    env=distributed.environment(cache) | bucket.variables(emulator.url),
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  assert (tmp_path / "out" / "scenes" / "overlay.png").exists()


def test_a_second_run_is_refused(emulator, cache):
  config = f"{CONFIG},train.num_steps=20000,eval.every_steps=20000"
  process = start("b", emulator.url, cache, config=config)
  try:
    wait_for_rows(emulator, "b", 1, process)
    code, log = end(start("b", emulator.url, cache, config=config))
    assert code == 2
    assert f"one runs there: process {process.pid} on " in log
    assert process.poll() is None
    # A notice of the cluster: it saves, and the directory is free.
    process.terminate()
    code, log = end(process)
    assert code == 143, log[-3000:]
    assert re.search(r"Received SIGTERM at step \d+/20000, saved", log)
    assert "b/.training.json" not in emulator.names("b/")
  finally:
    process.kill()


def test_a_bucket_that_is_not_there_or_forbidden_ends_before_compiling(
  emulator, cache
):
  # The bucket of the emulator is another one.
  command = f"--workdir=gs://no-{bucket.NAME}/c"
  code, log = end(start("c", emulator.url, cache, command))
  assert code == 2
  assert log.splitlines()[-1].startswith(
    "Error: Expected the bucket gs://no-bucket, found none of this name."
  )
  with bucket.refusing(403, "no storage.buckets.get access") as url:
    code, refused = end(start("c", url, cache))
  assert code == 2
  last = refused.splitlines()[-1]
  assert last.startswith("Error: Cannot read or write gs://bucket: Permission")
  assert "no storage.buckets.get access" in last
  for text in (log, refused):
    assert "Traceback" not in text
    assert "Training steps" not in text


def test_two_processes_train_as_one(emulator, alone, cache, tmp_path):
  def run(arguments=()):
    command = ["-m", "slot_attention_jax.main", f"--config={CONFIG}"]
    command += [f"--compilation_cache={cache}", *arguments]
    command += [f"--workdir=gs://{bucket.NAME}/two"]
    with pytest.MonkeyPatch.context() as patch:
      for name, value in bucket.variables(emulator.url).items():
        patch.setenv(name, value)
      return distributed.Processes(command, 2, cache, tmp_path / "logs")

  with run() as processes:
    wait_for_rows(emulator, "two", KILL_AFTER_ROWS, processes.processes[0])
    for process in processes.processes:
      process.kill()
  with run() as processes:
    processes.printed()
    assert "Training steps 0 to" not in processes.logs[0].read_text()
  workdir = emulator.download("two", tmp_path / "copy")
  distributed.assert_same_run(workdir, alone)
