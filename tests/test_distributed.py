"""Several processes on one machine do what one does, also killed and resumed.

Each has one CPU device; their collectives go through gloo, over TCP.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest

from experiments import kill_and_resume
from slot_attention_jax.runtime import processes as processes_lib

ROOT = pathlib.Path(__file__).parents[1]
CLEVR = ROOT / "tests" / "testdata" / "clevr_array_record"
STEPS = 12
# The small model of the killed runs; 6 scenes are evaluated in batches of 4.
CONFIG = (
  f"{kill_and_resume.CONFIG},train.num_steps={STEPS},eval.every_steps=6,"
  "checkpoint.every_steps=2"
)
# Gradients are added up in another order.
RELATIVE = 1e-5
_PATIENCE_SECONDS = 300


def environment(cache):
  return os.environ | {
    "PYTHONPATH": os.pathsep.join(
      [str(ROOT), os.environ.get("PYTHONPATH", "")]
    ),
    # One device a process, compiled fast and not twice.
    "XLA_FLAGS": "--xla_backend_optimization_level=0 "
    "--xla_cpu_use_fusion_emitters=false",
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }


def free_port():
  with socket.socket() as server:
    server.bind(("localhost", 0))
    return server.getsockname()[1]


class Processes:
  """So many processes of one command; all are gone when the context is left."""

  def __init__(self, command, count, cache, logs, *, last=(), cluster=None):
    """Starts them, by flags or in the environment `cluster(count, index)`.

    `last` are arguments of the last one alone.
    """
    logs.mkdir(parents=True, exist_ok=True)
    port = free_port()
    self.logs = [logs / f"{i}_of_{count}.txt" for i in range(count)]
    self.outputs = [logs / f"{i}_of_{count}.out" for i in range(count)]
    self.processes = []
    for i in range(count):
      flags = [
        f"--coordinator_address=localhost:{port}",
        f"--num_processes={count}",
        f"--process_id={i}",
      ]
      variables = environment(cache)
      if cluster is not None:
        variables |= cluster(count, i) | {"JAX_COORDINATOR_PORT": str(port)}
      if cluster is not None or count == 1:
        flags = []
      flags += last if i == count - 1 else []
      with self.logs[i].open("wb") as log, self.outputs[i].open("wb") as out:
        self.processes.append(
          subprocess.Popen(
            [sys.executable, *map(str, command), *flags],
            cwd=ROOT,
            env=variables,
            stdout=out,
            stderr=log,
          )
        )

  def __enter__(self):
    return self

  def __exit__(self, *unused_exception):
    for process in self.processes:
      process.kill()
      process.wait()

  def codes(self, seconds=_PATIENCE_SECONDS):
    """Waits for all to end by themselves; returns their exit statuses."""
    deadline = time.monotonic() + seconds
    return [
      process.wait(timeout=max(0.1, deadline - time.monotonic()))
      for process in self.processes
    ]

  def printed(self):
    """What each printed, once all have ended well."""
    codes = self.codes()
    text = "\n".join(log.read_text()[-3000:] for log in self.logs)
    assert not any(codes), (codes, text)
    lines = [output.read_text().splitlines() for output in self.outputs]
    # Gloo tells on the standard output that it is connected.
    return [[x for x in y if not x.startswith("[Gloo]")] for y in lines]

  def wait_for(self, path, rows):
    """Waits until a file has so many rows."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not path.exists() or len(path.read_text().splitlines()) < rows:
      assert time.monotonic() < deadline, self.logs[0].read_text()[-3000:]
      assert all(p.poll() is None for p in self.processes), self.logs[
        0
      ].read_text()[-3000:]
      time.sleep(0.005)


def start(workdir, count, cache, *arguments, config=CONFIG, last=()):
  command = ["-m", "slot_attention_jax.main", f"--config={config}"]
  command += [f"--workdir={workdir}", f"--compilation_cache={cache}"]
  logs = workdir.parent / f"{workdir.name}_logs"
  return Processes([*command, *arguments], count, cache, logs, last=last)


def rows_of(workdir):
  """Rows of `metrics.jsonl` without their times."""
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [
    {k: v for k, v in row.items() if k not in ("time", "seconds")}
    for row in rows
  ]


def assert_same_run(workdir, expected):
  """Same losses, norms and evaluations within RELATIVE, same images."""
  rows, expected_rows = rows_of(workdir), rows_of(expected)
  assert [row["step"] for row in rows] == [row["step"] for row in expected_rows]
  assert len(rows) == STEPS + 2  # Two evaluations.
  for row, expected_row in zip(rows, expected_rows, strict=True):
    assert row == pytest.approx(expected_row, rel=RELATIVE, abs=1e-7)
  for name in (f"{step:08d}.png" for step in (6, 12)):
    assert (workdir / "images" / name).exists()
  saved = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir())
  assert saved == sorted(
    int(p.name) for p in (expected / "checkpoints").iterdir()
  )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp("xla")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cache):
  """The run of a single process on a single device."""
  workdir = tmp_path_factory.mktemp("alone") / "run"
  with start(workdir, 1, cache) as processes:
    processes.printed()
  return workdir


def kill_at_step_5(workdir, count, cache, victims):
  """Starts processes and kills some of them; the others end by themselves."""
  with start(workdir, count, cache) as processes:
    # The checkpoint of step 2 is complete, or else that of 4 were not begun.
    processes.wait_for(workdir / "metrics.jsonl", rows=5)
    for victim in victims:
      processes.processes[victim].kill()
    codes = processes.codes(seconds=150)
  assert all(codes), codes
  assert 5 <= max(row["step"] for row in rows_of(workdir)) < STEPS


def resume(workdir, count, cache):
  """Starts processes that go on and end well; returns what each printed."""
  with start(workdir, count, cache) as processes:
    printed = processes.printed()
    log, *others = (path.read_text() for path in processes.logs)
  assert all("Evaluated 6 examples" in text for text in [log, *others])
  # Process 0 alone writes metrics, to its log and to their file.
  written = f"step {STEPS}/{STEPS} | "
  assert [written in text for text in [log, *others]] == [True] + [False] * len(
    others
  )
  assert f"Training steps 0 to {STEPS}" not in log
  return printed


@pytest.mark.thorough
def test_two_killed_and_resumed_processes_train_as_one(alone, cache, tmp_path):
  workdir = tmp_path / "run"
  kill_at_step_5(workdir, 2, cache, victims=[0, 1])
  printed = resume(workdir, 2, cache)
  assert_same_run(workdir, alone)
  # Written by process 0 alone.
  assert len(printed[0]) == 4  # Metrics.
  assert printed[1] == []
  metadata = json.loads((workdir / "metadata.json").read_text())
  assert metadata["processes"] == 2
  assert metadata["devices"] == "2 x cpu"


@pytest.mark.slow
def test_two_processes_leave_a_damaged_checkpoint(alone, cache, tmp_path):
  workdir = shutil.copytree(alone, tmp_path / "run")
  saved = workdir / "checkpoints"
  # Intact files, other numbers: only the checksums tell.
  shutil.rmtree(saved / str(STEPS) / "params")
  shutil.copytree(
    saved / str(STEPS - 2) / "params", saved / str(STEPS) / "params"
  )
  for arguments in (["--mode=evaluate"], []):
    with start(workdir, 2, cache, *arguments) as processes:
      processes.printed()
      logs = [path.read_text() for path in processes.logs]
    for log in logs:
      assert f"DAMAGED CHECKPOINT: Cannot read the checkpoint {saved}" in log
      assert f"THE CHECKPOINT OF STEP {STEPS - 2} IS USED INSTEAD" in log
    # Only a training moves it, once.
    moved = ["Moved the damaged" in log for log in logs]
    assert moved == [not arguments, False]
  assert (workdir / "damaged_checkpoints" / str(STEPS) / "params").is_dir()
  assert_same_run(workdir, alone)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_evaluation_counts_each_example_once(count, alone, cache):
  """6 scenes in batches of 4, so that of the last batch one half counts."""
  with start(alone, count, cache, "--mode=evaluate") as processes:
    processes.printed()
    for log in processes.logs:
      assert "Evaluated 6 examples" in log.read_text()
  report = json.loads((alone / "evaluation.json").read_text())
  expected = {k: v for k, v in rows_of(alone)[-1].items() if k != "step"}
  # The report has more, and these are of another program than training's.
  got = {k: report["metrics"][k] for k in expected}
  assert got == pytest.approx(expected, rel=1e-5, abs=1e-6)


ROWS = """
import jax
import numpy as np

from slot_attention_jax.evaluation import examples
from slot_attention_jax.runtime import mesh as mesh_lib, processes
from slot_attention_jax.data import cached_dataset, types

processes.initialize(detect=True)
read = set()


class Recorder(np.ndarray):
  def __getitem__(self, index):
    read.update(np.asarray(index).tolist())
    return super().__getitem__(index)


class Sum:
  def summarize(self, merged):
    return {"sum": float(merged["x"].sum()), "count": len(merged["x"])}


mesh = mesh_lib.create_mesh()
info = types.DatasetInfo("numbers", "validation", (1, 1, 3), 6)
dataset = cached_dataset.CachedDataset(
  {"x": (10.0 ** np.arange(6)).astype(np.float32).view(Recorder)},
  np.arange(6),
  info,
  batch_size=4,
  sharding=mesh_lib.batch_sharding(mesh),
  seed=0,
  shuffle=False,
)
read.clear()
batch = dataset.batch(0)
own = sorted(read)
metrics = examples.evaluate(
  Sum(), lambda params, batch, key, first: {"x": batch["x"]}, {}, dataset
)
print(own, *metrics.values())
"""


def slurm(count, index):
  """What SLURM sets for a task of a step, as far as JAX reads it."""
  return {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": str(count),
    "SLURM_PROCID": str(index),
    "SLURM_LOCALID": str(index),
  }


def run_in_slurm(code, count, cache, directory):
  """Starts so many processes of a script that detects the cluster."""
  script = directory / "script.py"
  script.write_text(code)
  logs = directory / "logs"
  return Processes([script], count, cache, logs, cluster=slurm)


@pytest.mark.parametrize(
  "count",
  [
    pytest.param(2, marks=pytest.mark.slow),
    pytest.param(4, marks=pytest.mark.thorough),
  ],
)
def test_each_process_reads_only_its_rows(count, cache, tmp_path):
  with run_in_slurm(ROWS, count, cache, tmp_path) as processes:
    printed = processes.printed()
  size = 4 // count
  for i, lines in enumerate(printed):
    own = list(range(i * size, (i + 1) * size))
    assert lines == [f"{own} 111111.0 6"]


FAIL = """
import jax
import numpy as np
from jax.experimental import multihost_utils

from slot_attention_jax.runtime import processes

processes.initialize(detect=True)
with processes.exit_together_on_error():
  multihost_utils.process_allgather(np.float32(0))
  if jax.process_index() == 1:
    raise KeyError("gone")
  multihost_utils.process_allgather(np.float32(1))
"""


@pytest.mark.thorough
def test_if_one_fails_the_others_end(cache, tmp_path):
  with run_in_slurm(FAIL, 2, cache, tmp_path) as processes:
    # Without `exit_together_on_error` it would wait for the others for 300 s.
    assert all(processes.codes(seconds=60))
    assert "KeyError: 'gone'" in processes.logs[1].read_text()


def test_processes_with_different_settings_all_fail(cache, tmp_path):
  last = ["--config.seed=1"]
  with start(tmp_path / "run", 2, cache, last=last) as processes:
    codes = processes.codes(seconds=100)
    logs = [log.read_text() for log in processes.logs]
  assert all(codes)
  assert all(
    "Start all with the same flags but --process_id" in x for x in logs
  )
  assert not (tmp_path / "run").exists()


STOP = f"""
import functools
import math
import sys

import jax

import slot_attention_jax as sa
from slot_attention_jax import train
from slot_attention_jax.runtime import processes
from slot_attention_jax.training import time_limit

processes.initialize(detect=True)
# The time is up at the third look of process 0, at any of the other.
times = iter([-math.inf] * 2 + [math.inf] * {STEPS})
other = lambda: math.inf
clock = other if jax.process_index() else functools.partial(next, times)
time_limit.TimeLimit = functools.partial(time_limit.TimeLimit, clock=clock)
config = sa.load_config(
  {CONFIG!r} + ",logging.every_steps=2,train.max_minutes=1.0"
)
with processes.exit_together_on_error():
  train.train(config, sys.argv[1])
"""


LIMIT = """
import math

import jax

from slot_attention_jax.runtime import processes
from slot_attention_jax.training import time_limit

processes.initialize(detect=True)
looks = []


def clock():
  looks.append(step)
  first = jax.process_index() == 0
  return -math.inf if first and len(looks) < 3 else math.inf


limit = time_limit.TimeLimit(1.0, 0.0, 2, clock=clock)
for step in range(1, 13):
  if limit.reached(step):
    break
print(step, looks)
"""


@pytest.mark.thorough
def test_process_0_decides_when_the_time_is_up(cache, tmp_path):
  with run_in_slurm(LIMIT, 2, cache, tmp_path) as processes:
    # Several processes look once in so many steps.
    assert processes.printed() == [["4 [1, 2, 4]"]] * 2


@pytest.mark.slow
def test_all_processes_stop_at_the_same_step(cache, tmp_path):
  script = tmp_path / "stop.py"
  script.write_text(STOP)
  workdir, logs = tmp_path / "run", tmp_path / "logs"
  with Processes([script, workdir], 2, cache, logs, cluster=slurm) as processes:
    processes.printed()
    texts = [log.read_text() for log in processes.logs]
  # It looks at steps 1, 2 and 4: with several processes at log lines alone.
  assert all(f"Stopped at step 4/{STEPS}" in text for text in texts)
  saved = {int(p.name) for p in (workdir / "checkpoints").iterdir()}
  assert max(saved) == 4


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_sigterm_to_one_of_two_stops_both_at_one_step(victim, cache, tmp_path):
  workdir = tmp_path / "run"
  config = f"{CONFIG},train.num_steps=20000,eval.every_steps=20000"
  config += ",checkpoint.every_steps=20000"
  with start(workdir, 2, cache, config=config) as processes:
    processes.wait_for(workdir / "metrics.jsonl", rows=5)
    processes.processes[victim].terminate()
    assert processes.codes(seconds=100) == [143, 143]
    logs = [log.read_text() for log in processes.logs]
  ends = [re.findall(r"Received SIGTERM at step (\d+)/", log) for log in logs]
  (step,) = ends[0]
  assert ends[1] == [step]
  saved = {path.name for path in (workdir / "checkpoints").iterdir()}
  assert saved == {step}


@pytest.mark.slow
def test_a_second_training_of_two_processes_is_refused(cache, tmp_path):
  workdir = tmp_path / "run"
  config = f"{CONFIG},train.num_steps=20000,eval.every_steps=20000"
  with start(workdir, 2, cache, config=config) as first:
    first.wait_for(workdir / "metrics.jsonl", rows=5)
    # Through a link: its logs are others.
    (tmp_path / "link").symlink_to(workdir)
    with start(tmp_path / "link", 2, cache, config=config) as second:
      assert second.codes(seconds=100) == [2, 2]
      logs = [log.read_text() for log in second.logs]
    pid = first.processes[0].pid
    assert all(f"one runs there: process {pid} on " in log for log in logs)
    assert all(process.poll() is None for process in first.processes)


@pytest.mark.thorough
def test_a_workdir_on_other_storage_is_rejected(cache):
  command = ["-m", "slot_attention_jax.main", f"--config={CONFIG}"]
  command += [f"--compilation_cache={cache}", "--workdir=s3://bucket/run"]
  process = subprocess.run(
    [sys.executable, *command],
    cwd=ROOT,
    env=environment(cache),
    capture_output=True,
    text=True,
    check=False,
  )
  assert process.returncode
  assert "gs://BUCKET/..., got s3://bucket/run" in process.stderr
  assert not (ROOT / "s3:").exists()


@pytest.mark.thorough
def test_distributed_outside_a_cluster_is_an_error(tmp_path, cache):
  with start(tmp_path / "run", 1, cache, "--distributed") as processes:
    assert processes.codes() == [2]
    log = processes.logs[0].read_text()
  assert "Elsewhere give each process --coordinator_address=HOST:PORT" in log


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (("localhost:1", 2, None), "got no process_id"),
    ((None, 2, 0), "got no coordinator_address"),
    (("localhost:1", None, None), "got no num_processes and no process_id"),
    (("localhost", 2, 0), "host:port of process 0"),
    (("localhost:0", 2, 0), "host:port of process 0"),
    (("localhost:1", 2, 2), "got 2 with num_processes=2"),
    (("localhost:1", 2, -1), "got -1 with num_processes=2"),
  ],
)
def test_inconsistent_flags_are_errors(given, message):
  address, count, index = given
  with pytest.raises(ValueError, match=message):
    processes_lib.initialize(
      coordinator_address=address, num_processes=count, process_id=index
    )


def test_a_single_process_starts_nothing_and_raises_errors():
  assert not processes_lib.initialize()
  with pytest.raises(KeyError), processes_lib.exit_together_on_error():
    raise KeyError
  processes_lib.assert_equal_across_processes("number", 1, "")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, cache):
  """Makes the run of so many processes, once."""
  workdirs = {}

  def run(count):
    if count not in workdirs:
      workdirs[count] = tmp_path_factory.mktemp("uninterrupted") / "run"
      with start(workdirs[count], count, cache) as processes:
        printed = processes.printed()
      assert [len(lines) for lines in printed] == [4] + [0] * (count - 1)
    return workdirs[count]

  return run


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_processes_train_as_one(count, uninterrupted):
  assert_same_run(uninterrupted(count), uninterrupted(1))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("before", "after"),
  [(2, 2), (4, 4), (2, 1), (1, 2), (2, 4), (4, 2), (4, 1)],
)
def test_killed_processes_are_resumed_by_another_number(
  before, after, uninterrupted, cache, tmp_path
):
  workdir = tmp_path / "run"
  kill_at_step_5(workdir, before, cache, victims=range(before))
  resume(workdir, after, cache)
  assert_same_run(workdir, uninterrupted(1))
  if before == after:
    # As many add up in the same order.
    assert rows_of(workdir) == rows_of(uninterrupted(before))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 3])
def test_if_one_of_four_is_killed_the_others_end(victim, cache, tmp_path):
  """In seconds, or by JAX's heartbeats within 100 s."""
  began = time.monotonic()
  kill_at_step_5(tmp_path / "run", 4, cache, victims=[victim])
  assert time.monotonic() - began < _PATIENCE_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_images_from_files(count, cache, tmp_path):
  """8 validation images in batches of 4; each process reads its rows."""
  config = (
    f"configs/clevr_set.py:debug,data.data_dir={CLEVR},"
    f"data.cache_dir={tmp_path / 'images'},data.resolution=(32, 32),"
    "logging.tensorboard=False,model.encoder_channels=(8,),"
    "model.encoder_kernel_sizes=(4,),model.encoder_strides=(4,),"
    "model.encoder_mlp_sizes=(16,),model.slot_size=16,model.mlp_hidden_size=0"
  )
  for n in (1, count):
    with start(tmp_path / f"{n}", n, cache, config=config) as processes:
      processes.printed()
  rows, expected = rows_of(tmp_path / f"{count}"), rows_of(tmp_path / "1")
  assert len(rows) == len(expected) == 3
  for row, expected_row in zip(rows, expected, strict=True):
    assert row == pytest.approx(expected_row, rel=RELATIVE, abs=1e-7)
