"""Tests of reproduce: rows of seeds that finish, fail, or run out of time."""

import json

import jax
import pytest

from experiments import reproduce

# A model with a few thousand parameters, on synthetic scenes.
TINY = (
  "debug,train.num_steps=3,data.resolution=(8, 8),model.num_slots=3,"
  "model.slot_size=4,model.mlp_hidden_size=0,model.encoder_channels=(4,),"
  "model.encoder_kernel_sizes=(3,),model.encoder_strides=(1,),"
  "model.encoder_mlp_sizes=(4,),model.broadcast_size=(8, 8),"
  "model.decoder_channels=(4,),model.decoder_kernel_sizes=(3, 3),"
  "model.decoder_strides=(1, 1),logging.num_images=0"
)

pytestmark = pytest.mark.usefixtures("shared_programs")


def run(tmp_path, capsys, *arguments):
  """Returns the result and its row of the table."""
  result = reproduce.main(
    [
      "--task=tetrominoes",
      f"--workdir={tmp_path / 'runs'}",
      "--num_scenes=8",
      *arguments,
    ]
  )
  lines = capsys.readouterr().out.splitlines()
  assert json.loads(lines[-1]) == json.loads(json.dumps(result))
  return result, lines[-2]


@pytest.mark.thorough
def test_seeds_are_trained_once_and_evaluated(tmp_path, capsys):
  table = tmp_path / "table.md"
  arguments = ("--seeds=3,4", f"--set={TINY}", f"--output={table}")
  result, line = run(tmp_path, capsys, *arguments)
  scores = [100 * r["metrics"]["fg_ari"] for r in result["seeds"]]
  assert scores[0] != scores[1]
  cells = line.split(" | ")
  assert cells[0] == "| tetrominoes"
  assert f"{sum(scores) / 2:.1f} +- " in cells[2]
  assert "(2 of 2 seeds)" in cells[2]
  assert cells[3] == f"3: {scores[0]:.1f}; 4: {scores[1]:.1f}"
  assert cells[4] == "tetrominoes_scenes/test"
  assert "--num_scenes=8`" in cells[7]
  assert [r["step"] for r in result["seeds"]] == [3, 3]
  assert all(r["minutes"] > 0 for r in result["seeds"])

  directory = reproduce.directory_name("tetrominoes", TINY)
  first, _ = (tmp_path / "runs" / directory).iterdir()
  command = json.loads((first / "metadata.json").read_text())["recipe"]
  assert command == (
    f"--config=configs/tetrominoes.py:{TINY} --config.seed={first.name}"
  )
  saved = (first / "checkpoints" / "3").stat().st_mtime_ns
  again, _ = run(tmp_path, capsys, *arguments)
  assert (first / "checkpoints" / "3").stat().st_mtime_ns == saved
  for new, old in zip(again["seeds"], result["seeds"], strict=True):
    assert new["metrics"] == old["metrics"]
  assert table.read_text() == reproduce.HEADER + 2 * f"{line}\n"


@pytest.mark.thorough
def test_a_failed_seed_keeps_its_place(tmp_path, capsys, monkeypatch):
  train = reproduce.train.train

  def fail_once(config, workdir, **options):
    if config.seed == 1:
      raise FloatingPointError("The loss is nan | at step 2")
    return train(config, workdir, **options)

  monkeypatch.setattr(reproduce.train, "train", fail_once)
  result, line = run(tmp_path, capsys, "--seeds=1,2", f"--set={TINY}")
  assert result["seeds"][0]["failure"].startswith("failed: FloatingPointError")
  assert (
    "1: failed: FloatingPointError: The loss is nan / at step 2; 2: " in line
  )
  assert "(1 of 2 seeds)" in line
  assert line.count(" | ") == 8


def test_an_unfinished_seed_is_not_evaluated(tmp_path, capsys, monkeypatch):
  def stop(config, workdir, **_):
    directory = reproduce.directory_name("tetrominoes", TINY)
    path = tmp_path / "runs" / directory / "0"
    path.mkdir(parents=True)
    row = {"step": 2, "time": "", "seconds": 90.0, "loss": 1.0}
    (path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return {}

  monkeypatch.setattr(reproduce.train, "train", stop)
  _, line = run(tmp_path, capsys, "--seeds=0", f"--set={TINY}")
  assert "| none (0 of 1 seeds) | 0: at 2 of 3 | none |" in line
  assert " | 1.5 | " in line


def test_row_of_average_precision():
  names = reproduce.TASKS["clevr_set"].metrics
  results = [
    {
      "seed": seed,
      "failure": None,
      "data": "clevr_scenes/test",
      "minutes": 8.0,
      "metrics": dict.fromkeys(names, value),
    }
    for seed, value in ((0, 0.5), (1, 0.6))
  ]
  line = reproduce.row("clevr_set", results, "command", "2026-11-23")
  assert " | " + " / ".join(["55.0 +- 7.1"] * 5) + " (2 of 2 seeds) | " in line
  assert f" | {jax.device_count()} x " in line


@pytest.mark.parametrize("name", reproduce.TASKS)
def test_metrics_of_each_task(name):
  task = reproduce.TASKS[name]
  config = reproduce.load_config(task, 7, "")
  assert config.seed == 7
  if config.task == "set_prediction":
    measured = {f"ap_{t:g}" for t in config.eval.thresholds}
    assert measured == set(task.metrics)
  else:
    assert task.metrics == ("fg_ari",)


def test_invalid_seeds_raise(capsys):
  with pytest.raises(SystemExit):
    reproduce.main(["--task=tetrominoes", "--seeds=one"])
  assert "Expected --seeds as 0,1,2, got 'one'" in capsys.readouterr().err


def test_directory_depends_on_the_overrides():
  name = reproduce.directory_name
  assert name("clevr6", "") == "clevr6"
  assert name("clevr6", "small") == "clevr6-small"
  long = [
    f"data.resolution=(64, 64),{'model.num_slots=4,' * 5}{i}" for i in "12"
  ]
  first, second = (name("clevr6", text) for text in long)
  assert first != second
  assert first.startswith("clevr6-data.resolution-64-64-model.num_slots-4")
  assert len(first) == len("clevr6-") + 50 + 9
