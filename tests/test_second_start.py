"""The command line's second start traces none of the programs it runs."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments.benchmarks import cold_start

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_MADE = ("tracing", "lowering", "compiling")


def run(directory, arguments, cache="cache"):
  """Runs the command line.

  Args:
    directory: for all that it writes.
    arguments: of the command.
    cache: directory of compiled programs, within the other; "": none.

  Returns:
    What it printed, and by program the seconds of each stage.
  """
  output = directory / "programs.json"
  cache = directory / cache if cache else ""
  command = [sys.executable, cold_start.__file__, f"--measure_here={output}"]
  command += ["--", *arguments, f"--compilation_cache={cache}"]
  result = subprocess.run(
    command,
    cwd=_ROOT,
    # JAX's own cache, which the tests share, would have what is not kept.
    env=os.environ | {"PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout, json.loads(output.read_text())


def check(first, second, names):
  """Checks that programs were loaded, and did what they did before."""
  assert second[0] == first[0]  # Numbers with six digits.
  for name in names:
    assert first[1][name]["keeping"] > 0, name
    assert not sum(second[1][name][stage] for stage in _MADE), name
    assert second[1][name]["loading"] > 0, name


@pytest.mark.thorough
def test_training(tmp_path):
  arguments = ["--config=configs/quickstart.py:debug"]
  losses = []

  def train(name, cache="cache", *more):
    workdir = tmp_path / name
    result = run(tmp_path, [*arguments, f"--workdir={workdir}", *more], cache)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = map(json.loads, lines)
    losses.append([{k: v for k, v in r.items() if "/" in k} for r in rows])
    return result

  first = train("a")
  second = train("b")
  check(first, second, ("step", "evaluate", "make"))
  # Named as functions without a name are in files.
  assert second[1]["lambda"]["loading"] > 0
  assert "<lambda>" not in second[1]
  train("c", "")
  assert losses[0] == losses[1] == losses[2]
  # Another seed is another run of the same programs.
  third = train("d", "cache", "--config.seed=5")
  assert not any(third[1]["step"][stage] for stage in _MADE)
  assert losses[3] != losses[0]


@pytest.mark.thorough
def test_evaluation(tmp_path):
  arguments = [
    *("--config=configs/quickstart.py", "--mode=evaluate"),
    *("--pretrained=quickstart", "--config.data.scenes.num_eval=64"),
    f"--workdir={tmp_path}/run",
  ]
  first = run(tmp_path, arguments)
  second = run(tmp_path, arguments)
  check(first, second, ("evaluate", "make"))
  third = run(tmp_path, [*arguments, "--config.eval.seed=3"])
  check(first, (first[0], third[1]), ("evaluate", "make"))
  assert third[0] != first[0]
  # A damaged file costs time.
  for path in (tmp_path / "cache" / "programs").iterdir():
    path.write_bytes(path.read_bytes()[:-5])
  fourth = run(tmp_path, arguments)
  assert fourth[0] == first[0]
  assert fourth[1]["evaluate"]["tracing"] > 0
