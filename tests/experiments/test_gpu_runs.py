"""The list of runs for a GPU: resumed, limited, and as its page says."""

import json
import pathlib

import pytest

import slot_attention_jax as sa
from experiments import gpu_runs


def test_the_page_has_the_list():
  page = (gpu_runs.ROOT / "experiments" / "gpu_runs.md").read_text()
  assert gpu_runs.table() in page


def test_names_differ_and_every_module_exists():
  names = [run.name for run in gpu_runs.RUNS]
  assert len(set(names)) == len(names)
  for run in gpu_runs.RUNS:
    module = run.command.split()[0]
    path = gpu_runs.ROOT / (module.replace(".", "/") + ".py")
    assert path.is_file() or module == "pytest", module


def test_a_dry_run_is_of_debug_configs_and_few_steps():
  runs = {run.name: run for run in gpu_runs.RUNS}
  directory = pathlib.Path("/runs")
  text = " ".join(
    gpu_runs.command(runs["ten_updates_a_call"], directory, small=True)
  )
  assert "--config=configs/tetrominoes.py:debug " in text
  assert "num_steps" not in text
  assert "steps_per_call=10" in text
  assert text.endswith("--workdir=/runs/ten_updates_a_call")
  text = " ".join(gpu_runs.command(runs["quickstart"], directory, small=True))
  assert "--config=configs/quickstart.py:seed=0,debug " in text
  text = " ".join(gpu_runs.command(runs["quickstart"], directory, small=False))
  assert "quickstart.py:seed=0 --config.train.max_minutes" in text


@pytest.fixture
def scripts(tmp_path, monkeypatch):
  """Makes the list that of some scripts in an empty directory."""

  def make(**texts):
    for name, text in texts.items():
      (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(gpu_runs, "ROOT", tmp_path)
    runs = [
      gpu_runs.Run(name=name, what="", goal="g", command=name) for name in texts
    ]
    monkeypatch.setattr(gpu_runs, "RUNS", runs)

  return make


def results(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_done_is_left_out(scripts, tmp_path):
  scripts(good="print('{\"ratio\": 1.5}')", bad="raise SystemExit(3)")
  output = tmp_path / "out.jsonl"
  arguments = [f"--output={output}", f"--workdir={tmp_path}"]
  for _ in range(2):
    with pytest.raises(SystemExit, match="Failed: bad"):
      gpu_runs.main(arguments)
  rows = results(output)
  assert [(r["name"], r["status"], r["done"]) for r in rows] == [
    ("good", 0, True),
    ("bad", 3, False),
    ("bad", 3, False),
  ]
  assert rows[0]["result"] == {"ratio": 1.5}
  assert rows[0]["goal"] == "g"


def test_what_takes_too_long_is_ended(scripts, tmp_path):
  scripts(slow="import time; time.sleep(600)")
  output = tmp_path / "out.jsonl"
  arguments = [f"--output={output}", f"--workdir={tmp_path}", "--limit=1"]
  with pytest.raises(SystemExit, match="Failed: slow"):
    gpu_runs.main(arguments)
  (row,) = results(output)
  assert (row["status"], row["done"]) == (124, False)


@pytest.mark.parametrize("small", [False, True])
def test_configs_and_keys_of_all_commands_exist(small):
  for run in gpu_runs.RUNS:
    for argument in gpu_runs.command(run, pathlib.Path("/runs"), small):
      key, _, value = argument.removeprefix("--").partition("=")
      if key == "config":
        config = sa.load_config(value)
        if small and run.trains:
          assert config.train.num_steps <= 4, run.name
      elif key.startswith("config."):
        group, name = key.split(".")[1:]
        assert name in sa.load_config("quickstart")[group], argument
