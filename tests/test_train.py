"""Tests of the training loop: exact resumption, what a run leaves, errors."""

import functools
import json
import logging
import math
import os
import shutil
import signal
import sys
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging as absl_logging

import slot_attention_jax as sa
from slot_attention_jax import data as data_lib
from slot_attention_jax import evaluate as evaluate_lib
from slot_attention_jax import tasks, train
from slot_attention_jax.config import allowed
from slot_attention_jax.data import from_config, types
from slot_attention_jax.evaluation import examples
from slot_attention_jax.pretrained import weights_file
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.runtime import progress, signals
from slot_attention_jax.tasks import object_discovery
from slot_attention_jax.training import (
  checkpoints,
  multi_step,
  optimizers,
  prepared_run,
  run_lock,
  steps,
  time_limit,
)
from slot_attention_jax.training import state as state_lib

# Checkpoints at 2 and 4 and, of the evaluations, at 3 and 4; all are kept. The
# metric falls, and the "best" is where it is largest: at 3, not the last.
TINY = (
  "debug,train.num_steps=4,eval.every_steps=3,checkpoint.every_steps=2,"
  "checkpoint.keep=4,checkpoint.best_metric=mse,checkpoint.best_mode=max,"
  "optim.learning_rate=1e-2,optim.warmup_steps=0,logging.num_images=1,"
  "optim.name=adam,"
  "model.num_slots=3,model.num_iterations=2,model.slot_size=16,"
  "model.mlp_hidden_size=0,model.encoder_channels=(8,),"
  "model.encoder_kernel_sizes=(5,),model.encoder_strides=(5,),"
  "model.encoder_mlp_sizes=(16,),model.decoder_channels=(),"
  "model.decoder_kernel_sizes=(5,),model.decoder_strides=(5,),"
  "data.resolution=(35, 35),model.broadcast_size=(7, 7),"
  "model.slot_init=shared,"
  "model.unroll=1,logging.tensorboard=False"
)
DATA = "tetrominoes_scenes"

pytestmark = pytest.mark.usefixtures("shared_programs")


def tiny(arg=""):
  return sa.load_config(f"quickstart:{TINY},{arg}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """Directory and metrics of a run that nothing interrupted."""
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, train.train(tiny(), str(workdir))


def copy_of(whole, tmp_path, last_step=4):
  """The run as a kill after the checkpoint of `last_step` left it."""
  workdir = tmp_path / "run"
  shutil.copytree(whole[0], workdir)
  for path in (workdir / "checkpoints").iterdir():
    if path.name.isdigit() and int(path.name) > last_step:
      shutil.rmtree(path)
  return workdir


def state_of(workdir, step=None):
  """A checkpoint's state as NumPy arrays."""
  config, mesh = tiny(), mesh_lib.create_mesh()
  dataset = data_lib.create_dataset(
    config, "train", batch_size=4, sharding=mesh_lib.batch_sharding(mesh)
  )
  task = tasks.create_task(config, dataset.info)
  optimizer, _ = optimizers.create_optimizer(config.optim)
  abstract = steps.abstract_state(task, optimizer, mesh)
  with checkpoints.Checkpointer(workdir / "checkpoints") as checkpointer:
    state = checkpointer.restore(abstract, step)
  return jax.device_get(state.replace(key=jax.random.key_data(state.key)))


def rows_of(workdir):
  """Rows of metrics.jsonl without when they were written."""
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [
    {k: v for k, v in row.items() if k not in ("time", "seconds")}
    for row in rows
  ]


def strict_json(path):
  def refuse(constant):
    raise ValueError(f"{path.name} holds {constant}, which JSON has not.")

  return json.loads(path.read_text(), parse_constant=refuse)


def warnings_in(caplog):
  """Our warnings; Orbax also warns if the machine is slow."""
  return [
    r.getMessage()
    for r in caplog.records
    if r.levelname == "WARNING" and "checkpoint_manager.py" not in r.pathname
  ]


def assert_same_state(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  pairs = zip(
    jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
  )
  for (path, a), b in pairs:
    assert a.dtype == b.dtype, path
    np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def test_training_changes_the_parameters_and_returns_metrics(whole):
  workdir, metrics = whole
  names = ("ari", "fg_ari", "miou", "mse")
  assert set(metrics) == {f"{DATA}/validation/{name}" for name in names}
  assert all(math.isfinite(value) for value in metrics.values())
  before, after = state_of(workdir, 2), state_of(workdir, 4)
  assert (int(before.step), int(after.step)) == (2, 4)
  changed = [
    not np.array_equal(a, b)
    for a, b in zip(
      jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True
    )
  ]
  assert all(changed)
  np.testing.assert_array_equal(before.key, after.key)


def test_metrics_file_has_a_row_for_each_step_and_evaluation(whole):
  rows = rows_of(whole[0])
  training = [row for row in rows if f"{DATA}/train/loss" in row]
  evaluations = [row for row in rows if f"{DATA}/validation/mse" in row]
  assert [row["step"] for row in training] == [1, 2, 3, 4]
  assert [row["step"] for row in evaluations] == [3, 4]
  assert len(rows) == 6
  assert set(training[0]) == {
    "step",
    *(
      f"{DATA}/train/{name}"
      for name in ("loss", "learning_rate", "grad_norm", "param_norm")
    ),
  }
  assert evaluations[-1] == {"step": 4, **whole[1]}


@pytest.mark.parametrize(
  "last_step", [2, pytest.param(3, marks=pytest.mark.thorough)]
)
def test_a_resumed_run_repeats_the_uninterrupted_one(
  whole, tmp_path, last_step
):
  workdir = copy_of(whole, tmp_path, last_step)
  # What the kill left: rows after the checkpoint, the last one cut off.
  with (workdir / "metrics.jsonl").open("a") as file:
    file.write('{"step": 5, "time": "2')
  metrics = train.train(tiny(), str(workdir))
  assert metrics == whole[1]
  assert rows_of(workdir) == rows_of(whole[0])
  assert_same_state(state_of(workdir), state_of(whole[0]))


@pytest.mark.thorough
def test_a_resumed_run_goes_on_from_its_checkpoint(whole, tmp_path):
  # Else the test above would pass on a run that starts anew.
  workdir = copy_of(whole, tmp_path, 2)
  (workdir / "metrics.jsonl").unlink()
  train.train(tiny(), str(workdir))
  assert [row["step"] for row in rows_of(workdir)] == [3, 3, 4, 4]


def stop_after_calls(monkeypatch, calls):
  """Lets the time of the next run be up after so many calls of its step."""
  times = iter([-math.inf] * (calls - 1) + [math.inf])
  limit = functools.partial(
    time_limit.TimeLimit, clock=functools.partial(next, times)
  )
  monkeypatch.setattr(time_limit, "TimeLimit", limit)


# At a step that has a checkpoint anyway, and a score; at one that has none.
@pytest.mark.thorough
@pytest.mark.parametrize(
  "calls", [pytest.param(3, marks=pytest.mark.thorough), 1]
)
def test_a_run_stopped_by_the_time_limit_resumes_exactly(
  whole, tmp_path, caplog, monkeypatch, calls
):
  stop_after_calls(monkeypatch, calls)
  config = tiny("train.max_minutes=2.5")
  metrics = train.train(config, str(tmp_path))
  (warning,) = warnings_in(caplog)
  assert warning.startswith(
    f"Stopped at step {calls}/4: train.max_minutes=2.5 reached."
  )
  assert int(state_of(tmp_path).step) == calls
  assert {row["step"] for row in rows_of(tmp_path)} == set(range(1, calls + 1))
  assert bool(metrics) == (calls == 3)
  # With another limit, or none: it is no other run.
  caplog.clear()
  monkeypatch.undo()
  assert train.train(tiny(), str(tmp_path)) == whole[1]
  assert not warnings_in(caplog)
  assert rows_of(tmp_path) == rows_of(whole[0])
  assert_same_state(state_of(tmp_path), state_of(whole[0]))


@pytest.mark.thorough
def test_reaching_the_time_limit_at_the_last_step_is_no_stop(
  whole, tmp_path, caplog, monkeypatch
):
  stop_after_calls(monkeypatch, 1)
  workdir = copy_of(whole, tmp_path, 3)
  metrics = train.train(tiny("train.max_minutes=1.0"), str(workdir))
  assert metrics == whole[1]
  assert not warnings_in(caplog)


def stop_at(monkeypatch, place, step=2):
  """Sends SIGTERM once: at a step, in an evaluation, in a save or before."""
  sent = []

  def send():
    if not sent:
      sent.append(True)
      os.kill(os.getpid(), signal.SIGTERM)

  def then(owner, name, condition=lambda *args: True):
    original = getattr(owner, name)

    def call(*args, **options):
      if condition(*args):
        send()
      return original(*args, **options)

    monkeypatch.setattr(owner, name, call)

  if place == "step":
    then(progress.Progress, "update", lambda bar, done: done == step)
  elif place == "evaluation":
    then(examples, "_allgather")  # After its first batch.
  elif place == "save":
    then(checkpoints.Checkpointer, "save")
  else:
    then(data_lib, "create_dataset")


@pytest.mark.parametrize(
  ("place", "saved", "in_words"),
  [
    ("step", 3, "at step 3/4, saved"),
    *(
      pytest.param(*case, marks=pytest.mark.thorough)
      for case in (
        ("evaluation", 3, "at step 3/4, saved"),
        ("save", 3, "at step 3/4, saved"),
        ("start", None, None),
      )
    ),
  ],
)
def test_a_run_stopped_by_a_signal_saves_and_resumes_exactly(
  place, saved, in_words, whole, tmp_path, caplog, monkeypatch
):
  stop_at(monkeypatch, place)
  with pytest.raises(SystemExit) as stopped, signals.handled():
    train.train(tiny(), str(tmp_path))
  assert stopped.value.code == 128 + signal.SIGTERM
  if in_words:
    assert f"Received SIGTERM {in_words}. Rerun" in caplog.text
  with checkpoints.Checkpointer(tmp_path / "checkpoints") as checkpointer:
    assert checkpointer.latest_step() == saved
  if saved:
    # The evaluation that was due is done first when the run is resumed.
    assert {row["step"] for row in rows_of(tmp_path)} == {1, 2, 3}
    assert len(rows_of(tmp_path)) == 3
  monkeypatch.undo()
  assert train.train(tiny(), str(tmp_path)) == whole[1]
  assert rows_of(tmp_path) == rows_of(whole[0])
  assert_same_state(state_of(tmp_path), state_of(whole[0]))
  if saved:
    options = {"best_metric": "mse", "best_mode": "max"}
    with checkpoints.Checkpointer(
      tmp_path / "checkpoints", **options
    ) as checkpointer:
      assert checkpointer.best_step() == 3


@pytest.mark.thorough
def test_a_signal_in_the_last_evaluation_loses_nothing(
  whole, tmp_path, monkeypatch
):
  workdir = copy_of(whole, tmp_path, 3)
  stop_at(monkeypatch, "evaluation")
  with pytest.raises(signals.Stopped), signals.handled():
    train.train(tiny(), str(workdir))
  monkeypatch.undo()
  assert int(state_of(workdir).step) == 4
  assert len(rows_of(workdir)) == len(rows_of(whole[0])) - 1
  assert train.train(tiny(), str(workdir)) == whole[1]
  assert rows_of(workdir) == rows_of(whole[0])


def test_a_directory_that_is_moved_away_ends_the_run(tmp_path, monkeypatch):
  workdir, moved = tmp_path / "run", tmp_path / "moved"
  update = progress.Progress.update

  def move(bar, done, **values):
    update(bar, done, **values)
    if done == 3 and bar._description == "Training":
      while not (workdir / "checkpoints" / "2").exists():
        time.sleep(0.01)
      workdir.rename(moved)

  monkeypatch.setattr(progress.Progress, "update", move)
  # The second one if Orbax had something left to do for the checkpoint of 2.
  with pytest.raises(FileNotFoundError, match=r"removed or moved|Cannot save"):
    train.train(tiny(), str(workdir))
  # It is not made again, with the rest of the run alone in it.
  assert not workdir.exists()
  assert (moved / "checkpoints" / "2").is_dir()


@pytest.mark.thorough
def test_a_run_tells_what_its_time_went_into(whole, tmp_path, caplog):
  workdir = copy_of(whole, tmp_path, 3)
  with caplog.at_level("INFO", logger="absl"):
    train.train(tiny(), str(workdir))
  (line,) = [
    r.getMessage() for r in caplog.records if "Goodput" in r.msg % r.args
  ]
  # This process has compiled the programs before, so "compile" may be missing.
  for phase in ("start", "data", "evaluation", "saves", "lost"):
    assert f" {phase} " in line


@pytest.mark.thorough
def test_seconds_add_up_over_resumptions(whole, tmp_path, monkeypatch):
  def seconds():
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["seconds"] for line in lines]

  stop_after_calls(monkeypatch, 2)
  train.train(tiny("train.max_minutes=1.0"), str(tmp_path))
  first = seconds()
  # As if the first piece had taken long: what follows adds to it.
  path = tmp_path / "metrics.jsonl"
  path.write_text(
    path.read_text().replace(f'"seconds": {first[-1]}', '"seconds": 1000.0')
  )
  monkeypatch.undo()
  train.train(tiny(), str(tmp_path))
  assert 0 < first[0] <= first[1] < 1000
  assert len(seconds()) == 6
  assert seconds()[1:] == sorted(seconds()[1:])
  assert 1000 < seconds()[2] < 2000


@pytest.mark.thorough
def test_a_run_without_a_checkpoint_restarts(whole, tmp_path):
  workdir = copy_of(whole, tmp_path, 0)
  train.train(tiny(), str(workdir))
  assert rows_of(workdir) == rows_of(whole[0])
  assert_same_state(state_of(workdir), state_of(whole[0]))


@pytest.mark.thorough
def test_the_seed_determines_the_result(whole, tmp_path):
  train.train(tiny("seed=1"), str(tmp_path))
  assert rows_of(tmp_path)[0] != rows_of(whole[0])[0]


def test_a_finished_run_is_only_evaluated(whole, tmp_path):
  workdir = copy_of(whole, tmp_path)
  (workdir / "checkpoints" / "4" / "mine").touch()
  assert train.train(tiny(), str(workdir)) == whole[1]
  assert rows_of(workdir) == rows_of(whole[0])
  assert (workdir / "checkpoints" / "4" / "mine").exists()


@pytest.mark.thorough
def test_a_finished_run_goes_on_with_more_steps(whole, tmp_path):
  workdir = copy_of(whole, tmp_path)
  train.train(tiny("train.num_steps=5"), str(workdir), resume_changed=True)
  assert rows_of(workdir)[: len(rows_of(whole[0]))] == rows_of(whole[0])
  assert int(state_of(workdir).step) == 5


def test_the_config_and_the_data_are_saved_beside_the_run(whole):
  config = strict_json(whole[0] / "config.json")
  assert config["model"]["num_slots"] == 3
  assert config["eval"]["thresholds"][0] == "inf"
  assert config["data"]["resolution"] == [35, 35]
  metadata = strict_json(whole[0] / "metadata.json")
  assert metadata["data"] == DATA
  assert metadata["own_scenes"] is True
  assert metadata["scenes_version"] == 1
  assert metadata["configured_data"] == "tetrominoes_scenes"
  assert metadata["seed"] == 0
  # A layout is stored whole, so that a file of weights can hold it.
  layout = metadata["layout"]["properties"]
  assert [p["kind"] for p in layout].count("confidence") == 1
  assert metadata["versions"]["jax"] == jax.__version__
  assert metadata["devices"].startswith("4 x ")
  for line in (whole[0] / "metrics.jsonl").read_text().splitlines():
    assert "NaN" not in line


def test_images_are_drawn_at_evaluations(whole):
  names = sorted(path.name for path in (whole[0] / "images").iterdir())
  assert names == ["00000003.png", "00000004.png"]


def test_a_report_has_the_slots_of_the_evaluations(whole, tmp_path):
  page = sa.write_report(whole[0], tmp_path / "page.html").read_text()
  for words in ('"step 3"', '"step 4"', "tetrominoes_scenes", "Goodput: what"):
    assert words in page


@pytest.mark.thorough
def test_no_images_if_num_images_is_0(whole, tmp_path):
  workdir = copy_of(whole, tmp_path, 3)
  shutil.rmtree(workdir / "images")
  train.train(tiny("logging.num_images=0"), str(workdir))
  assert not (workdir / "images").exists()


@pytest.mark.thorough
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
  monkeypatch.setattr(allowed, "check_values", lambda config: None)
  # Step 2 is also one of the steps that write all rows and save.
  config = tiny("optim.learning_rate=1e16,optim.clip_norm=0")
  with pytest.raises(FloatingPointError) as error:
    train.train(config, str(tmp_path))
  message = str(error.value)
  assert "at step 2" in message
  assert "last losses: 1: " in message
  assert "optim.learning_rate" in message
  assert "optim.clip_norm" in message
  # The step before it is on record.
  assert [row["step"] for row in rows_of(tmp_path)] == [1]


@pytest.mark.thorough
def test_a_diverged_run_saves_no_checkpoint(tmp_path, monkeypatch):
  monkeypatch.setattr(allowed, "check_values", lambda config: None)
  # The update of step 1 destroys the parameters; its loss is still finite. A
  # checkpoint of it would make every later start fail.
  config = tiny(
    "optim.learning_rate=1e30,optim.clip_norm=0,checkpoint.every_steps=1"
  )
  with pytest.raises(FloatingPointError):
    train.train(config, str(tmp_path))
  with checkpoints.Checkpointer(tmp_path / "checkpoints") as checkpointer:
    assert checkpointer.latest_step() is None


@pytest.mark.parametrize(
  ("arg", "message"),
  [
    ("train.batch_size=6", r"train.batch_size .*4 devices, got 6.* is 8"),
    ("eval.batch_size=5", r"eval.batch_size .*4 devices, got 5.* is 4"),
    ("train.num_steps=0", r"train.num_steps: .* from 1 to .*, got 0"),
    ("train.max_minutes=-1", r"max_minutes: .* of at least 0, got -1"),
    ("train.max_minutes=nan", r"max_minutes of type float, got 'nan'"),
    ("eval.every_steps=0", r"eval.every_steps: .* from 1 to .*, got 0"),
    ("checkpoint.every_steps=0", r"checkpoint.every_steps: .* from 1"),
    ("logging.every_steps=0", r"logging.every_steps: .* from 1 to .*, got 0"),
    ("checkpoint.best_metric=ap", r"best_metric out of .*'mse'.*got 'ap'"),
    ("task=segmentation", r"'discovery', 'set_prediction'\), got 'segm"),
    ("model.precision=half", r"model.precision: .*got 'half'"),
  ],
)
def test_bad_settings_are_errors_and_leave_nothing(arg, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    train.train(tiny(arg), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def files_of(workdir):
  """All files of a run and what is in them."""
  paths = [path for path in workdir.rglob("*") if path.is_file()]
  return {path.relative_to(workdir): path.read_bytes() for path in paths}


def test_a_finished_run_refuses_other_settings(whole, tmp_path):
  workdir = copy_of(whole, tmp_path)
  before = files_of(workdir)
  config = tiny("seed=3,train.num_steps=5,model.slot_size=8,eval.split=test")
  for allow in (False, True):
    with pytest.raises(ValueError, match="--workdir") as error:
      train.train(config, str(workdir), resume_changed=allow)
    lines = [" ".join(line.split()) for line in str(error.value).splitlines()]
    assert lines[2:7] == [
      "key in the run now",
      "seed 0 3",
      "model.slot_size 16 8",
      "train.num_steps 4 5",
      "eval.split 'validation' 'test'",
    ]
    assert "does not allow seed, model.slot_size" in lines[-1]
  with pytest.raises(ValueError, match=r"with --resume_changed\.$"):
    train.train(tiny("train.num_steps=5"), str(workdir))
  assert files_of(workdir) == before


@pytest.mark.parametrize("arg", ["", "seed=1"])
def test_a_second_training_in_a_directory_changes_nothing(arg, whole, tmp_path):
  workdir = copy_of(whole, tmp_path, 3)
  unfinished = workdir / "checkpoints" / "4.orbax-checkpoint-tmp-1"
  unfinished.mkdir()
  with run_lock.hold(workdir):
    before = files_of(workdir)
    with pytest.raises(ValueError, match="Expected no other training in"):
      train.train(tiny(arg), str(workdir))
    assert files_of(workdir) == before
  assert unfinished.exists()


@pytest.mark.thorough
def test_what_changed_on_request_is_recorded(whole, tmp_path):
  workdir = copy_of(whole, tmp_path, 3)
  config = tiny("optim.learning_rate=1e-3,logging.num_images=0")
  train.train(config, str(workdir), resume_changed=True)
  changes = strict_json(workdir / "metadata.json")["changes"]
  expected = {"step": 3, "key": "optim.learning_rate", "old": 0.01}
  assert changes == [expected | {"new": 0.001}]
  # Nothing is left to train: the records of the training stay as they are.
  before = files_of(workdir)
  train.train(config, str(workdir))
  assert files_of(workdir) == before


@pytest.mark.thorough
def test_a_run_refuses_other_data_of_the_same_config(whole, tmp_path):
  """As synthetic scenes stood in until the dataset was there."""
  workdir = copy_of(whole, tmp_path, 3)
  path = workdir / "metadata.json"
  path.write_text(path.read_text().replace(f'"data": "{DATA}"', '"data": "x"'))
  with pytest.raises(ValueError, match=rf"data +'x' +'{DATA}'"):
    train.train(tiny(), str(workdir))
  train.train(tiny(), str(workdir), resume_changed=True)
  path.write_text(path.read_text().replace('scenes": true', 'scenes": false'))
  with pytest.raises(ValueError, match="does not allow own_scenes"):
    train.train(tiny(), str(workdir), resume_changed=True)


@pytest.mark.thorough
def test_resuming_with_the_same_config_does_not_warn(whole, tmp_path, caplog):
  train.train(tiny(), str(copy_of(whole, tmp_path)))
  assert not warnings_in(caplog)


def test_a_checkpoint_is_evaluated_on_its_own(whole, tmp_path):
  workdir = copy_of(whole, tmp_path)
  metrics = evaluate_lib.evaluate_model(tiny(), str(workdir))
  # Those of the last evaluation in training, and more.
  assert {k: metrics[k] for k in whole[1]} == pytest.approx(
    whole[1], rel=1e-6, abs=1e-6
  )
  names = {"mse", "psnr", *object_discovery.EXTENDED_SCORES}
  names |= {f"{name}_attention" for name in object_discovery.EXTENDED_SCORES}
  assert set(metrics) == {f"{DATA}/validation/{name}" for name in names}
  report = strict_json(workdir / "evaluation.json")
  assert (report["step"], report["num_examples"]) == (4, 6)
  assert (report["num_slots"], report["num_iterations"]) == (3, 2)
  assert report["metrics"] == metrics
  params = state_of(workdir).params
  assert report["parameters_sha256"] == weights_file.parameters_checksum(params)
  assert set(report["standard_errors"]) == set(metrics)
  assert (workdir / "evaluation.md").exists()
  assert (workdir / "images" / "evaluation.png").exists()
  assert rows_of(workdir) == rows_of(whole[0])


def test_another_model_is_not_evaluated(whole, tmp_path):
  workdir = copy_of(whole, tmp_path)
  with pytest.raises(ValueError, match=r"model.epsilon +1e-08 +0\.5\n\nFor"):
    evaluate_lib.evaluate_model(tiny("model.epsilon=0.5"), str(workdir))
  with pytest.raises(ValueError, match=r"num_iterations +2 +3\n\n.*eval\.num"):
    evaluate_lib.evaluate_model(tiny("model.num_iterations=3"), str(workdir))
  assert not (workdir / "evaluation.json").exists()


@pytest.mark.thorough
def test_a_checkpoint_is_evaluated_with_other_k_and_t(whole, tmp_path):
  workdir = copy_of(whole, tmp_path)
  config = tiny("eval.num_slots=5,eval.num_iterations=4,eval.split=test")
  metrics = evaluate_lib.evaluate_model(config, str(workdir))
  assert {name.rpartition("/")[0] for name in metrics} == {f"{DATA}/test"}
  report = strict_json(workdir / "evaluation.json")
  assert (report["num_slots"], report["num_iterations"]) == (5, 4)
  assert report["metrics"] == metrics
  before = whole[1][f"{DATA}/validation/mse"]
  assert metrics[f"{DATA}/test/mse"] != pytest.approx(before, rel=1e-5)


def test_the_best_checkpoint_is_evaluated(whole, tmp_path):
  workdir = copy_of(whole, tmp_path)
  name = f"{DATA}/validation/mse"
  mse = {row["step"]: row[name] for row in rows_of(workdir) if name in row}
  assert mse[3] > mse[4], "Expected a metric that falls in this setting."
  metrics = evaluate_lib.evaluate_model(
    tiny("eval.checkpoint=best"), str(workdir)
  )
  assert strict_json(workdir / "evaluation.json")["step"] == 3
  assert metrics[name] == pytest.approx(mse[3], rel=1e-6)


@pytest.mark.parametrize("arg", ["", "eval.checkpoint=best"])
def test_no_checkpoint_is_an_error(arg, tmp_path):
  with pytest.raises(FileNotFoundError, match=r"trained run.*--mode=train"):
    evaluate_lib.evaluate_model(tiny(arg), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(FileNotFoundError, match=r"checkpoint in .*found none"):
    evaluate_lib.evaluate_model(tiny(arg), str(tmp_path))


@pytest.mark.parametrize(
  ("arg", "message"),
  [
    ("eval.checkpoint=first", r"\('last', 'best'\), got 'first'"),
    ("eval.batch_size=5", r"eval.batch_size .*got 5"),
  ],
)
def test_bad_settings_of_evaluation_are_errors(whole, tmp_path, arg, message):
  with pytest.raises(ValueError, match=message):
    evaluate_lib.evaluate_model(tiny(arg), str(copy_of(whole, tmp_path)))


def test_no_best_checkpoint_by_a_metric_that_was_not_measured(whole, tmp_path):
  # Not the last one in its place, and the message names the metric.
  config = tiny("eval.checkpoint=best,checkpoint.best_metric=psnr")
  with pytest.raises(FileNotFoundError, match=r"best.*'psnr'"):
    evaluate_lib.evaluate_model(config, str(copy_of(whole, tmp_path)))


@pytest.mark.thorough
def test_several_steps_per_call_give_the_same_run(
  tmp_path, caplog, monkeypatch
):
  """Calls of 2 steps, of the 4 asked for: evaluations are due every second."""
  # With a small epsilon, rounding moves the alpha's bias, whose gradient is
  # zero otherwise.
  every_second = "eval.every_steps=2,optim.eps=1e-4"
  train.train(tiny(every_second), str(tmp_path / "one"))
  several = f"{every_second},train.steps_per_call=4"
  jax.config.update("jax_log_compiles", True)
  try:
    train.train(tiny(several), str(tmp_path / "two"))
  finally:
    jax.config.update("jax_log_compiles", False)
  one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
  assert [row["step"] for row in two] == [1, 2, 2, 3, 4, 4]
  for a, b in zip(one, two, strict=True):
    assert a.keys() == b.keys()
    np.testing.assert_allclose(
      list(a.values()), list(b.values()), rtol=1e-5, atol=1e-6
    )
  for a, b in zip(
    jax.tree.leaves(state_of(tmp_path / "one")),
    jax.tree.leaves(state_of(tmp_path / "two")),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
  compiled = [
    record.getMessage()
    for record in caplog.records
    if "Compiling jit(train_steps)" in record.getMessage()
  ]
  assert len(compiled) == 1
  # Stopped after one call of two steps and resumed: the same bits.
  stop_after_calls(monkeypatch, 1)
  train.train(tiny(f"{several},train.max_minutes=1.0"), str(tmp_path / "cut"))
  assert int(state_of(tmp_path / "cut").step) == 2
  monkeypatch.undo()
  train.train(tiny(several), str(tmp_path / "cut"))
  assert rows_of(tmp_path / "cut") == two
  assert_same_state(state_of(tmp_path / "cut"), state_of(tmp_path / "two"))


def test_steps_per_call_needs_data_on_the_devices(tmp_path):
  class OnTheHost:
    make_batch = None

  with pytest.raises(ValueError, match=r"data\.on_device=yes"):
    multi_step.choose_steps_per_call(2, OnTheHost(), 4)
  assert multi_step.choose_steps_per_call(0, OnTheHost(), 4) == 1
  with pytest.raises(ValueError, match=r"steps_per_call: .* from 0 .*got -1"):
    train.train(tiny("train.steps_per_call=-1"), str(tmp_path))


@pytest.mark.parametrize("clu_is_installed", [True, False])
def test_a_run_logs_its_parameters(
  clu_is_installed, tmp_path, caplog, monkeypatch
):
  absl_logging.get_absl_logger().setLevel(logging.INFO)
  if not clu_is_installed:
    monkeypatch.setitem(sys.modules, "clu", None)
  info = types.DatasetInfo("toys", "train", (8, 8, 3), None)
  run = SimpleNamespace(
    path=tmp_path,
    dataset=SimpleNamespace(info=info),
    mesh=mesh_lib.create_mesh(),
  )
  params = {"dense": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}}
  state = state_lib.create(params, optax.identity(), jax.random.key(0))
  prepared_run.describe(tiny(), run, state, "--config=mine")
  assert ("dense/kernel" in caplog.text) == clu_is_installed
  assert ("clu is not installed" in caplog.text) != clu_is_installed
  assert "Training steps 0 to 4 on toys, 9 parameters, 4 cpu" in caplog.text
  saved = json.loads((tmp_path / "metadata.json").read_text())
  assert saved["recipe"] == "--config=mine"
  assert saved["code"]


def test_a_training_starts_from_the_weights_of_another_run(whole, tmp_path):
  source = copy_of(whole, tmp_path)
  options = f"train.initial_weights={source},seed=5,optim.learning_rate=1e-20"
  workdir = tmp_path / "second"
  config = tiny(f"{options},train.num_steps=2,eval.every_steps=2")
  train.train(config, str(workdir))
  # The best checkpoint is that of step 3.
  started, last = state_of(workdir, 2), state_of(source, 4)
  for a, b in zip(
    jax.tree.leaves(started.params), jax.tree.leaves(last.params), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-6)
  # The rest is that of a new run with its seed.
  assert not np.array_equal(started.key, last.key)
  about = json.loads((workdir / "metadata.json").read_text())
  digest = weights_file.parameters_checksum(last.params)
  record = {"source": str(source), "step": 4, "parameters_sha256": digest}
  assert about["initial_weights"] == record
  # Once begun, a run goes on without them.
  shutil.rmtree(source)
  with config.unlocked():
    config.train.num_steps = 4
  train.train(config, str(workdir), resume_changed=True)
  assert int(state_of(workdir).step) == 4
  about = json.loads((workdir / "metadata.json").read_text())
  assert about["initial_weights"] == record
  # But not from others.
  config.train.initial_weights = "quickstart"
  with pytest.raises(ValueError, match=r"train\.initial_weights"):
    train.train(config, str(workdir), resume_changed=True)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("quikstart", "Did you mean"),
    ("quickstart", r"model\.num_slots: 3, in the weights 5"),
    (__file__, "It is train.initial_weights"),
  ],
)
def test_wrong_initial_weights_are_told_before_anything_happens(
  name, message, exists, tmp_path, monkeypatch
):
  monkeypatch.setattr(data_lib, "create_dataset", None)
  workdir = tmp_path / "run"
  if exists:
    workdir.mkdir()
  with pytest.raises(ValueError, match=message):
    train.train(tiny(f"train.initial_weights={name}"), str(workdir))
  assert list(tmp_path.rglob("*")) == [workdir] * exists


def test_initial_weights_that_do_not_fit_are_told_before_one_s_own_data(
  tmp_path, monkeypatch
):
  monkeypatch.setitem(from_config._REGISTERED, "mine", None)
  config = tiny("data.name=mine,train.initial_weights=quickstart")
  with pytest.raises(ValueError, match=r"model\.num_slots: 3, in the weights"):
    train.train(config, str(tmp_path / "run"))
  assert not list(tmp_path.iterdir())
