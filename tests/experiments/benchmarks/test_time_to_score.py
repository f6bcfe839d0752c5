"""Tests of the benchmark of the time until a score."""

import json

import pytest

from experiments.benchmarks import time_to_score


def test_first_step_at_the_goal():
  rows = [
    {"step": 100, "loss": 0.95},
    {"step": 100, "scenes/validation/fg_ari": 0.5, "scenes/train/fg_ari": 0.99},
    {"step": 200, "scenes/validation/fg_ari": None},
    {"step": 300, "scenes/validation/fg_ari": 0.9},
    {"step": 400, "scenes/validation/fg_ari": 0.95},
  ]
  lines = [json.dumps(row) for row in rows]
  half = lines[3][:20]
  assert time_to_score.first_reached(lines, "fg_ari", 0.9) == 300
  assert time_to_score.first_reached([*lines[:3], half], "fg_ari", 0.9) is None
  assert time_to_score.first_reached(lines, "ari", 0.9) is None


def test_finished_seeds_are_left_out(tmp_path, monkeypatch, capsys):
  measured = []

  def measure(_, seed):
    measured.append(seed)
    step = None if seed == 2 else 800
    return {"step": step, "seconds": 10.0 * seed, "cpu_seconds": 1.0}

  monkeypatch.setattr(time_to_score, "measure", measure)
  results = tmp_path / "results.jsonl"
  time_to_score.main([f"--results={results}", "--seeds=0,1"])
  result = time_to_score.main([f"--results={results}", "--seeds=0,1,2"])
  assert measured == [0, 1, 2]
  out = capsys.readouterr().out
  assert "| 2 | not reached | 20.0 | 1.0 |" in out
  assert "| median | | 10.0 | 1.0 |" in out
  assert json.loads(out.splitlines()[-1]) == result
  # Another goal is another measurement.
  time_to_score.main([f"--results={results}", "--seeds=0", "--goal=0.95"])
  assert measured == [0, 1, 2, 0]


def test_a_failed_command_is_told(tmp_path):
  tree = tmp_path / "tree"
  (tree / "slot_attention_jax").mkdir(parents=True)
  (tree / "slot_attention_jax" / "main.py").write_text("raise SystemExit('no')")
  with pytest.raises(ValueError, match="seed 0 to train, got exit status 1"):
    time_to_score.main(
      [f"--results={tmp_path / 'r'}", f"--tree={tree}", "--seeds=0"]
    )
