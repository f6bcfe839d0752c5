"""Runs the command line in a process of its own, for tests."""

import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest

import slot_attention_jax as sa

ROOT = pathlib.Path(__file__).parents[1]
# Programs are compiled in a fifth of the time; no test measures their speed.
FAST_COMPILE = (
  "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
# As the script that pip makes of the wheel's entry point.
CONSOLE_SCRIPT = (
  "import sys; from slot_attention_jax.main import entry_point; "
  "sys.exit(entry_point())"
)


def run(*arguments, directory=ROOT, path=ROOT, script=False, **environment):
  """Runs the command line on the machine's own devices.

  Args:
    *arguments: flags of the command.
    directory: the working directory.
    path: where the package is imported from.
    script: whether as the console script, or by `python -m`.
    **environment: variables that are added.

  Returns:
    The completed process.
  """
  start = ["-c", CONSOLE_SCRIPT] if script else ["-m", f"{sa.__name__}.main"]
  variables = {
    "PYTHONPATH": str(path),
    "XLA_FLAGS": FAST_COMPILE,
    **environment,
  }
  return subprocess.run(
    [sys.executable, *start, "--compilation_cache=", *map(str, arguments)],
    cwd=directory,
    env=os.environ | variables,
    capture_output=True,
    text=True,
    check=False,
  )


def printed(result):
  """Metrics that a run printed, by name."""
  assert result.returncode == 0, result.stderr
  lines = [line.split(": ") for line in result.stdout.splitlines()]
  return {name: float(value) for name, value in lines}


def assert_trains_and_evaluates(config, workdir, names, **options):
  """Trains, then evaluates; both print the same metrics. Returns the log."""
  settings = sa.load_config(config)
  last = settings.train.num_steps
  command = [f"--config={config}", f"--workdir={workdir}"]
  trained = run(*command, **options)
  metrics = printed(trained)
  assert set(metrics) == names
  saved = {int(p.name) for p in (workdir / "checkpoints").iterdir()}
  assert saved == {settings.checkpoint.every_steps, last}
  rows = (workdir / "metrics.jsonl").read_text().splitlines()
  assert max(json.loads(row)["step"] for row in rows) == last
  assert (workdir / "images" / f"{last:08d}.png").exists()
  for suffix in ("png", "svg"):
    assert (workdir / "figures" / f"{last:08d}.{suffix}").exists()
  assert (workdir / "config.json").exists()

  evaluated = printed(run(*command, "--mode=evaluate", **options))
  # An evaluation has more than training shows.
  assert len(evaluated) > len(metrics)
  assert {k: evaluated[k] for k in metrics} == pytest.approx(
    metrics, rel=1e-4, abs=1e-6
  )
  report = json.loads((workdir / "evaluation.json").read_text())
  assert report["step"] == last
  assert set(report["metrics"]) == set(evaluated)
  (flag, *_) = shlex.split(report["protocol"]["config"])
  assert flag.startswith("--config=configs/")
  return trained.stderr


def discovery(data, *, masks=True):
  """Names of the metrics that training prints."""
  names = ("mse", "fg_ari", "ari", "miou") if masks else ("mse",)
  return {f"{data}/validation/{name}" for name in names}


def prediction(data):
  """Names of the metrics that training prints."""
  names = ("loss", "ap_inf", "ap_1", "ap_0.5", "ap_0.25", "ap_0.125")
  return {f"{data}/validation/{name}" for name in names}
