"""The list of runs for a GPU: resumed, limited, and as its page says."""

import json
import pathlib

import pytest

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
  text = " ".join(gpu_runs.command(runs["robust"], directory, small=True))
  assert "--config=configs/quickstart.py:robust,seed=0,debug " in text
  text = " ".join(gpu_runs.command(runs["robust"], directory, small=False))
  assert "quickstart.py:robust,seed=0 --config.train.max_minutes" in text


def test_what_is_done_is_left_out_and_what_hangs_is_ended(
  tmp_path, monkeypatch
):
  (tmp_path / "good.py").write_text("print('{\"ratio\": 1.5}')")
  (tmp_path / "slow.py").write_text("import time; print('a'); time.sleep(60)")
  (tmp_path / "bad.py").write_text("raise SystemExit(3)")
  monkeypatch.setattr(gpu_runs, "ROOT", tmp_path)
  runs = [
    gpu_runs.Run(name=name, what="", goal="g", command=name)
    for name in ("good", "slow", "bad")
  ]
  monkeypatch.setattr(gpu_runs, "RUNS", runs)
  output = tmp_path / "out.jsonl"
  arguments = [f"--output={output}", "--limit=2", f"--workdir={tmp_path}"]
  for _ in range(2):
    with pytest.raises(SystemExit, match="Failed: slow, bad"):
      gpu_runs.main(arguments)
  rows = [json.loads(line) for line in output.read_text().splitlines()]
  assert [(r["name"], r["status"], r["done"]) for r in rows] == [
    ("good", 0, True),
    ("slow", 124, False),
    ("bad", 3, False),
    ("slow", 124, False),
    ("bad", 3, False),
  ]
  assert rows[0]["result"] == {"ratio": 1.5}
  assert rows[0]["goal"] == "g"
