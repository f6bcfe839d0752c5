"""Tests of the study of killed runs, with a short run."""

import json

import pytest

from experiments import kill_and_resume


@pytest.mark.slow
def test_a_killed_run_equals_an_uninterrupted_one(tmp_path, capsys):
  workdir = tmp_path / "study"
  arguments = ["--kills=2", "--seed=1", f"--workdir={workdir}"]
  result = kill_and_resume.main(arguments)
  assert result["identical"], result
  assert result["kills"] == 2
  assert result["step"] == 60
  lines = capsys.readouterr().out.splitlines()
  assert json.loads(lines[-1]) == result


def test_a_used_directory_raises(tmp_path):
  (tmp_path / "whole").mkdir()
  with pytest.raises(SystemExit):
    kill_and_resume.main([f"--workdir={tmp_path}"])
  assert (tmp_path / "whole").exists()
