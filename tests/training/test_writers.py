"""Tests of the metric writers."""

import datetime
import json
import logging
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging as absl_logging

from slot_attention_jax.training import loggers, writers

ROOT = pathlib.Path(__file__).parents[2]


class Recorder(writers.MetricWriter):
  """Remembers what it is given."""

  def __init__(self):
    self.calls = []

  def write_scalars(self, step, scalars):
    self.calls.append(("scalars", step, scalars))

  def write_images(self, step, images):
    self.calls.append(("images", step, images))

  def flush(self):
    self.calls.append(("flush",))

  def close(self):
    self.calls.append(("close",))


def rows(path):
  def refuse(word):
    raise AssertionError(f"{word} is not JSON")

  return [
    json.loads(line, parse_constant=refuse)
    for line in path.read_text().splitlines()
  ]


def without_time(path):
  return [
    {k: v for k, v in row.items() if k not in ("time", "seconds")}
    for row in rows(path)
  ]


def test_jsonl_rows(tmp_path):
  path = tmp_path / "new" / "metrics.jsonl"
  before = datetime.datetime.now(datetime.UTC)
  writer = writers.JsonlWriter(path)
  writer.write_scalars(jnp.int32(3), {"loss": jnp.float32(0.5), "ari": 1})
  # It is in the file without a flush: nothing is lost by a kill.
  assert without_time(path) == [{"step": 3, "loss": 0.5, "ari": 1.0}]
  time = datetime.datetime.fromisoformat(rows(path)[0]["time"])
  assert abs(time - before) < datetime.timedelta(seconds=60)
  writer.write_images(3, {"image": np.zeros((2, 2, 3), np.uint8)})
  writer.flush()
  writer.close()
  assert len(rows(path)) == 1


def test_jsonl_writes_infinity_and_nan_as_strings(tmp_path):
  writer = writers.JsonlWriter(tmp_path / "metrics.jsonl")
  writer.write_scalars(1, {"a": np.nan, "b": np.inf, "c": jnp.array(-jnp.inf)})
  writer.close()
  (row,) = without_time(tmp_path / "metrics.jsonl")
  assert row == {"step": 1, "a": "nan", "b": "inf", "c": "-inf"}
  assert float(row["c"]) == -np.inf


@pytest.mark.parametrize("name", ["step", "time", "seconds"])
def test_jsonl_rejects_names_of_columns(tmp_path, name):
  writer = writers.JsonlWriter(tmp_path / "metrics.jsonl")
  with pytest.raises(
    ValueError, match=f"other than step, time, seconds.*{name}"
  ):
    writer.write_scalars(1, {name: 2.0})
  writer.close()
  assert rows(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize(
  "torn",
  ["", '{"step": 2, "ti', '{"step": 2', "{", '"step"', "7"],
)
def test_a_resumed_run_leaves_the_rows_of_an_uninterrupted_one(tmp_path, torn):
  def run(directory, steps, **options):
    writer = loggers.create_writer(directory, total_steps=4, **options)
    for step in steps:
      writer.write_scalars(step, {"loss": 1 / (step + 1)})
    writer.close()

  run(tmp_path / "a", range(5))
  run(tmp_path / "b", range(4))
  with (tmp_path / "b" / "metrics.jsonl").open("a") as file:
    file.write(torn)
  kept = rows(tmp_path / "a" / "metrics.jsonl")
  run(tmp_path / "b", range(3, 5), resume_step=2)
  run(tmp_path / "b", [], resume_step=4)
  expected = without_time(tmp_path / "a" / "metrics.jsonl")
  assert without_time(tmp_path / "b" / "metrics.jsonl") == expected
  assert [row["step"] for row in kept] == [0, 1, 2, 3, 4]
  assert [p.name for p in (tmp_path / "b").iterdir()] == ["metrics.jsonl"]
  # Killed before its first checkpoint, it starts anew, with step 0.
  run(tmp_path / "b", range(5))
  assert without_time(tmp_path / "b" / "metrics.jsonl") == expected


def test_truncation_keeps_the_old_file_until_the_new_one_is_whole(
  tmp_path, monkeypatch
):
  path = tmp_path / "metrics.jsonl"
  writer = writers.JsonlWriter(path)
  for step in range(3):
    writer.write_scalars(step, {})

  def killed(source, target):
    # At the last moment both are there.
    assert [row["step"] for row in rows(pathlib.Path(source))] == [0, 1]
    assert [row["step"] for row in rows(pathlib.Path(target))] == [0, 1, 2]
    raise KeyboardInterrupt

  monkeypatch.setattr(writers.os, "replace", killed)
  with pytest.raises(KeyboardInterrupt):
    writer.truncate_after(1)
  assert len(rows(path)) == 3


def test_log_line(caplog):
  absl_logging.get_absl_logger().setLevel(logging.INFO)
  writer = writers.LogWriter(5000)
  writer.write_scalars(
    100, {"train/loss": jnp.float32(0.0123456), "lr": 4e-4, "100%": 31.25}
  )
  assert [record.getMessage() for record in caplog.records] == [
    "step 100/5000 | train/loss 0.01235 | lr 0.0004 | 100% 31.25",
  ]


def test_multi_writer_passes_everything_to_all_writers():
  first, second = Recorder(), Recorder()
  writer = writers.MultiWriter([first, second])
  image = np.zeros((2, 2, 3), np.uint8)
  writer.write_scalars(1, {"a": 2.0})
  writer.write_images(1, {"b": image})
  writer.flush()
  writer.close()
  assert first.calls == second.calls
  assert first.calls == [
    ("scalars", 1, {"a": 2.0}),
    ("images", 1, {"b": image}),
    ("flush",),
    ("close",),
  ]


def test_multi_writer_closes_the_others_if_one_fails():
  class Broken(Recorder):
    def close(self):
      raise OSError("disk full")

  first, last = Recorder(), Recorder()
  with pytest.raises(OSError, match="disk full"):
    writers.MultiWriter([first, Broken(), last]).close()
  assert first.calls == last.calls == [("close",)]


@pytest.mark.thorough
def test_importing_needs_no_tensorflow():
  program = (
    "import sys; from slot_attention_jax.training import loggers; "
    "assert not {'tensorflow', 'clu', 'tensorboard', 'wandb', 'trackio'} "
    "& set(sys.modules)"
  )
  subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def row(step, **scalars):
  row = {"step": step, "time": "2026-01-01T00:00:00+00:00", "seconds": 2.0}
  return json.dumps(row | scalars) + "\n"


@pytest.mark.parametrize(
  "damaged",
  [
    b"\xff\xfe\n",
    b"{\n",
    b"3\n",
    b'{"step": "2"}\n',
    b'{"step": 2}\n',
    b"[" * 100_000 + b"\n",
    row(2).replace("2.0", '"2"').encode(),
    row(2).replace("2026", "20x6").encode(),
    row(2).replace("2,", "NaN,").encode(),
    row(2).replace("2,", f"{10**400},").encode(),
  ],
)
def test_damaged_rows_are_named_and_do_not_stop_a_run(
  damaged, tmp_path, caplog
):
  path = tmp_path / "metrics.jsonl"
  content = row(1).encode() + damaged + row(3, loss=0.5).encode()
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"line 2 of .*metrics\.jsonl"):
    writers.read_rows(path)
  writer = writers.JsonlWriter(path)
  writer.truncate_after(3)
  writer.close()
  assert path.read_text() == row(1) + row(3, loss=0.5)
  assert f"Damaged lines of {path} are dropped: [2]" in caplog.text


def test_a_line_that_a_killed_run_left_is_no_damage(tmp_path, caplog):
  path = tmp_path / "metrics.jsonl"
  path.write_text(row(1) + '{"step": 2, "ti')
  assert [r["step"] for r in writers.read_rows(path)] == [1]
  writer = writers.JsonlWriter(path)
  writer.truncate_after(2)
  writer.close()
  assert path.read_text() == row(1)
  assert not [r for r in caplog.records if r.levelname == "WARNING"]
