"""Seconds until the training of a config reaches a score at validation.

  python -m experiments.benchmarks.time_to_score --seeds=0,1,2,3,4 \
    --results=FILE.jsonl

Runs the command line, each seed in a process of its own with an empty cache of
compiled programs, reads the run's `metrics.jsonl`, and ends the run when the
score (`--metric`, `--goal`) is reached: seconds and CPU seconds of the whole
command, with imports, compiling and evaluations, every `--every` updates. The
quickstart's FG-ARI of 0.90 is the default.

`--tree=DIR` measures another checkout by the same script. Each finished run is
appended to `--results`; a script that is started again leaves out those that
are there, by tree, config, metric, goal and seed. Prints a Markdown table and
one line of JSON.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.5
_KEYS = ("tree", "config", "metric", "goal", "every", "seed")


def first_reached(lines: Sequence[str], metric: str, goal: float) -> int | None:
  """The first step whose score is at least the goal.

  Args:
    lines: of `metrics.jsonl`; the last may be half written.
    metric: the name's last part, as "fg_ari".
    goal: the least score.

  Returns:
    The number of updates, or None.

  Example:
    >>> from experiments.benchmarks import time_to_score
    >>> lines = ['{"step": 800, "scenes/validation/fg_ari": 0.93}']
    >>> time_to_score.first_reached(lines, "fg_ari", 0.9)
    800
  """
  for line in lines:
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      continue
    for name, value in row.items():
      wanted = name.endswith(f"validation/{metric}")
      if wanted and value is not None and value >= goal:
        return row["step"]
  return None


def command(config: str, seed: int, every: int, directory: str) -> list[str]:
  """The command line of a run in a directory."""
  return [
    *(sys.executable, "-m", "slot_attention_jax.main", f"--config={config}"),
    f"--config.seed={seed}",
    f"--config.eval.every_steps={every}",
    f"--workdir={directory}/run",
    f"--compilation_cache={directory}/cache",
  ]


def measure(args: argparse.Namespace, seed: int) -> dict[str, Any]:
  """Runs one seed until it reaches the goal or ends.

  Returns:
    `seconds` and `cpu_seconds` of the command and the `step`, None if the run
    ended below the goal.

  Raises:
    ValueError: if the command fails.
  """
  environment = {**os.environ, "PYTHONPATH": str(args.tree)}
  environment.pop("JAX_COMPILATION_CACHE_DIR", None)
  with tempfile.TemporaryDirectory() as directory:
    path = pathlib.Path(directory, "run", "metrics.jsonl")
    began, before = time.monotonic(), _cpu_seconds()
    with open(pathlib.Path(directory, "log"), "w+", encoding="utf-8") as log:
      process = subprocess.Popen(
        command(args.config, seed, args.every, directory),
        env=environment,
        cwd=args.tree,
        stdout=log,
        stderr=log,
      )
      step = None
      try:
        while step is None:
          ended = process.poll() is not None
          lines = path.read_text().splitlines() if path.exists() else []
          step = first_reached(lines, args.metric, args.goal)
          if ended:
            break
          time.sleep(_POLL_SECONDS)
        seconds = time.monotonic() - began
      finally:
        process.kill()
        process.wait()
      if step is None and process.returncode:
        log.seek(0)
        raise ValueError(
          f"Expected seed {seed} to train, got exit status "
          f"{process.returncode}: {log.read()[-2000:]}"
        )
  cpu = _cpu_seconds() - before
  return {"step": step, "seconds": seconds, "cpu_seconds": cpu}


def _cpu_seconds() -> float:
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  return usage.ru_utime + usage.ru_stime


def _commit(tree: pathlib.Path) -> str:
  result = subprocess.run(
    ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"],
    capture_output=True,
    text=True,
    check=False,
  )
  return result.stdout.strip() or str(tree)


def read_finished(path: pathlib.Path, key: dict[str, Any]) -> dict[int, Any]:
  """The finished runs of a file, by seed; `key` is what they have in common."""
  if not path.exists():
    return {}
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  return {
    row["seed"]: row for row in rows if all(row[k] == v for k, v in key.items())
  }


def report(rows: Sequence[dict[str, Any]]) -> str:
  """A Markdown table of runs, the median last."""
  lines = ["| seed | updates | seconds | CPU seconds |", "|---|---|---|---|"]
  lines += [
    f"| {row['seed']} | {row['step'] or 'not reached'} | "
    f"{row['seconds']:.1f} | {row['cpu_seconds']:.1f} |"
    for row in rows
  ]
  seconds, cpu = (
    statistics.median(row[name] for row in rows)
    for name in ("seconds", "cpu_seconds")
  )
  return "\n".join([*lines, f"| median | | {seconds:.1f} | {cpu:.1f} |"])


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Measures the seeds that are not measured yet."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--config", default="configs/quickstart.py")
  parser.add_argument("--seeds", default="0,1,2,3,4")
  parser.add_argument("--metric", default="fg_ari")
  parser.add_argument("--goal", type=float, default=0.9)
  parser.add_argument("--every", type=int, default=200, help="updates")
  parser.add_argument("--tree", type=pathlib.Path, default=_ROOT)
  parser.add_argument("--results", type=pathlib.Path, required=True)
  args = parser.parse_args(argv)
  args.tree = args.tree.resolve()
  key = {
    "tree": _commit(args.tree),
    **{name: getattr(args, name) for name in _KEYS[1:-1]},
  }
  finished = read_finished(args.results, key)
  rows = []
  for seed in map(int, args.seeds.split(",")):
    row = finished.get(seed)
    if row is None:
      row = {**key, "seed": seed, **measure(args, seed)}
      with open(args.results, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    rows.append(row)
  print(report(rows))
  result = {**key, "runs": rows}
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  main()
