"""Kills a training run repeatedly; the result must be as if uninterrupted.

  python -m experiments.kill_and_resume --kills=10 --workdir=/tmp/kills

One run is not interrupted. Another with the same config gets `kill -9` at
random moments: at a random step, during a save, or while it starts and
restores. It is restarted each time until it finishes. Then the last checkpoints
of both (parameters, optimizer state, key, step) are compared bit for bit, and
so are the rows of `metrics.jsonl`, except for their times. The last line
printed is JSON; the exit status is 0 only if everything is identical.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import slot_attention_jax as sa
from slot_attention_jax import data, tasks
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import checkpoints, optimizers, steps

ROOT = pathlib.Path(__file__).resolve().parents[1]
# A step of a few milliseconds, a checkpoint every 5 and three evaluations.
CONFIG = (
  "configs/quickstart.py:debug,train.num_steps=60,checkpoint.every_steps=5,"
  "eval.every_steps=20,optim.learning_rate=1e-3,logging.tensorboard=False,"
  "model.num_slots=3,model.num_iterations=2,model.slot_size=16,"
  "model.mlp_hidden_size=0,model.encoder_channels=(8,),"
  "model.encoder_kernel_sizes=(4,),model.encoder_strides=(4,),"
  "model.encoder_mlp_sizes=(16,),model.broadcast_size=(7, 7),"
  "model.decoder_channels=(),model.decoder_kernel_sizes=(4,),"
  "model.decoder_strides=(4,),model.unroll=1"
)
_POLL_SECONDS = 0.002
_LONGEST_LIFE_SECONDS = 1800


@dataclasses.dataclass(frozen=True)
class Kill:
  """The state of a run when it was killed.

  Attributes:
    when: the intended moment: `"step"`, `"save"` or `"start"`.
    step: the last step in `metrics.jsonl`, 0 if there is none.
    resumed_from: step of the last complete checkpoint, 0 if there is none.
    cut_off: whether a checkpoint was being written.
  """

  when: str
  step: int
  resumed_from: int
  cut_off: bool


def _start(config: str, workdir: pathlib.Path, cache: pathlib.Path):
  """Starts training as a user does; its log goes to `log.txt`."""
  workdir.mkdir(parents=True, exist_ok=True)
  command = [sys.executable, "-m", "slot_attention_jax.main"]
  command += [f"--config={config}", f"--workdir={workdir}"]
  command += [f"--compilation_cache={cache}"]
  path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
  with (workdir / "log.txt").open("ab") as log:
    return subprocess.Popen(
      command,
      cwd=ROOT,
      env=os.environ | {"PYTHONPATH": path},
      stdout=log,
      stderr=log,
    )


def _check_ended_well(process: subprocess.Popen, workdir: pathlib.Path) -> None:
  if process.returncode:
    log = (workdir / "log.txt").read_text(errors="replace")
    raise RuntimeError(
      f"The run in {workdir} ended by itself with {process.returncode}:\n"
      f"{log[-3000:]}"
    )


def _rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Whole rows of `metrics.jsonl`, without their times."""
  path = workdir / "metrics.jsonl"
  rows = []
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      continue  # Cut off by a kill, or being written.
  return [
    {k: v for k, v in row.items() if k not in ("time", "seconds")}
    for row in rows
  ]


def _last_step(workdir: pathlib.Path) -> int:
  return max((row["step"] for row in _rows(workdir)), default=0)


def _saved(workdir: pathlib.Path, since: float) -> tuple[int, bool]:
  """The newest checkpoint, and whether one was begun `since` and not ended."""
  directory = workdir / "checkpoints"
  paths = list(directory.iterdir()) if directory.exists() else []
  complete = [int(path.name) for path in paths if path.name.isdigit()]
  cut_off = any("tmp" in p.name and p.stat().st_mtime >= since for p in paths)
  return max(complete, default=0), cut_off


def _live_until(
  process: subprocess.Popen,
  workdir: pathlib.Path,
  step: int,
  *,
  delay: float = 0.0,
  within: float = float("inf"),
) -> bool:
  """Waits for a step, at most `within` s, then `delay` s; False if it ended."""
  deadline = time.monotonic() + _LONGEST_LIFE_SECONDS
  metrics = workdir / "metrics.jsonl"
  size = -1
  # Rows of steps after the checkpoint are dropped as the run starts: they must
  # not be taken for its progress.
  born = time.time()
  give_up = time.monotonic() + within
  while time.monotonic() < give_up:
    if process.poll() is not None:
      return False
    if time.monotonic() > deadline:
      process.kill()
      raise RuntimeError(f"No step {step} in {workdir} for half an hour.")
    now = metrics.stat() if metrics.exists() else None
    if now and now.st_mtime >= born and now.st_size != size:
      size = now.st_size
      if _last_step(workdir) >= step:
        break
    time.sleep(_POLL_SECONDS)
  time.sleep(delay)
  return process.poll() is None


def _run_with_kills(
  config: str,
  workdir: pathlib.Path,
  cache: pathlib.Path,
  *,
  kills: int,
  total: int,
  every: int,
  startup_seconds: float,
  rng: random.Random,
  number: int,
) -> list[Kill]:
  """Trains to the end through so many signals; returns what they met."""
  met: list[Kill] = []
  while len(met) < kills:
    born = time.time()
    start, _ = _saved(workdir, born)
    # So that there are steps left for the kills to come; a kill at the start
    # makes no progress, but their number is bounded.
    room = max(1, 2 * (total - 1 - start) // (kills - len(met) + 1))
    step = min(total - 1, start + rng.randint(1, room))
    when = rng.choices(["step", "save", "start"], [4, 4, 2])[0]
    delay, within = 0.0, float("inf")
    if when == "start":
      step, within = start + 1, rng.uniform(0.0, startup_seconds)
    elif when == "save":
      # Files of a checkpoint are written in the background after its step.
      step = min(-(-step // every) * every, (total - 1) // every * every)
      step = max(step, min(start + 1, total - 1))
      delay = rng.uniform(0.0, 0.2)
    process = _start(config, workdir, cache)
    try:
      alive = _live_until(process, workdir, step, delay=delay, within=within)
      process.send_signal(number)
      # Others than SIGKILL let it save.
      process.wait(timeout=_LONGEST_LIFE_SECONDS)
    finally:
      process.kill()
      process.wait()
    if not alive:
      _check_ended_well(process, workdir)
      break
    met.append(Kill(when, _last_step(workdir), *_saved(workdir, born)))
    print(
      f"| {len(met)} | {when} | {met[-1].step} | {met[-1].resumed_from} | "
      f"{'yes' if met[-1].cut_off else 'no'} |",
      flush=True,
    )
  process = _start(config, workdir, cache)
  process.wait()
  _check_ended_well(process, workdir)
  return met


def _arrays(config: Any, workdir: pathlib.Path) -> dict[str, np.ndarray]:
  """Parameters, optimizer state, step and key of the last checkpoint."""
  mesh = mesh_lib.create_mesh()
  dataset = data.create_dataset(
    config,
    "train",
    batch_size=config.train.batch_size,
    sharding=mesh_lib.batch_sharding(mesh),
  )
  task = tasks.create_task(config, dataset.info)
  optimizer, _ = optimizers.create_optimizer(config.optim)
  abstract = steps.abstract_state(task, optimizer, mesh)
  with checkpoints.Checkpointer(workdir / "checkpoints") as checkpointer:
    state = checkpointer.restore(abstract)
  state = state.replace(key=jax.random.key_data(state.key))
  return {
    jax.tree_util.keystr(path): np.asarray(leaf)
    for path, leaf in jax.tree.leaves_with_path(state)
  }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--config", default=CONFIG, help="config file with :ARG")
  parser.add_argument("--kills", type=int, default=10)
  parser.add_argument(
    "--signal",
    default="KILL",
    choices=["KILL", "TERM", "HUP", "INT"],
    help="which; all but KILL let the run save before it ends",
  )
  parser.add_argument("--seed", type=int, default=0, help="of the kills")
  parser.add_argument(
    "--workdir", type=pathlib.Path, required=True, help="for both runs"
  )
  arguments = parser.parse_args(argv)
  if arguments.kills < 1:
    parser.error(f"expected --kills of at least 1, got {arguments.kills}")
  for name in ("whole", "killed"):
    if (arguments.workdir / name).exists():
      parser.error(f"expected no {name!r} in {arguments.workdir} yet")
  return arguments


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Runs the study; returns what it prints as the last line."""
  arguments = _parse(argv)
  root = arguments.workdir.expanduser().absolute()
  whole, killed, cache = root / "whole", root / "killed", root / "xla"
  config = sa.load_config(arguments.config)

  began = time.monotonic()
  process = _start(arguments.config, whole, cache)
  process.wait()
  _check_ended_well(process, whole)
  print(f"Uninterrupted run: {time.monotonic() - began:.1f} s.", flush=True)
  # Programs are compiled now: how long a start takes from here on.
  began = time.monotonic()
  process = _start(arguments.config, whole, cache)
  process.wait()
  _check_ended_well(process, whole)
  startup_seconds = time.monotonic() - began

  print("| kill | meant for | at step | resumed from | save cut off |")
  print("|---|---|---|---|---|", flush=True)
  met = _run_with_kills(
    arguments.config,
    killed,
    cache,
    kills=arguments.kills,
    total=config.train.num_steps,
    every=config.checkpoint.every_steps,
    startup_seconds=startup_seconds,
    rng=random.Random(arguments.seed),
    number=signal.Signals[f"SIG{arguments.signal}"],
  )
  expected, actual = _arrays(config, whole), _arrays(config, killed)
  same_state = all(
    expected[k].dtype == actual[k].dtype
    and expected[k].tobytes() == actual[k].tobytes()
    for k in expected
  )
  same_rows = _rows(whole) == _rows(killed)
  result = {
    "kills": len(met),
    "identical": same_state and same_rows,
    "identical_state": same_state,
    "identical_metrics": same_rows,
    "step": int(actual[".step"]),
    "arrays": len(expected),
    "rows": len(_rows(whole)),
    "signal": arguments.signal,
    "steps_lost": sum(kill.step - kill.resumed_from for kill in met),
    "saves_cut_off": sum(kill.cut_off for kill in met),
    "at_start": sum(kill.when == "start" for kill in met),
    "seed": arguments.seed,
  }
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  sys.exit(0 if main()["identical"] else 1)
