"""Does the runs that wait for a GPU, in the order of what they tell.

  python -m experiments.gpu_runs --output=gpu_runs.jsonl

Each has a time limit. Its result is a line of JSON in the output: `name`,
`command`, `goal`, `status` (the exit status; 124: the time was up), `done`,
`seconds`, `device`, `code`, `date`, `result` (the JSON that it printed last, if
any), `seconds_in_metrics` (of a training, in the last row of its metrics) and
`tail`, the end of what it printed. Repeat the command to go on: what is done is
left out, a training goes on where its time was up.

`--list` prints the table of gpu_runs.md. `--dry_run` does everything in a small
size, which a CPU can do too, to see that no command is wrong.
"""

import argparse
import dataclasses
import datetime
import importlib.util
import json
import pathlib
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from slot_attention_jax.runtime import provenance

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 300
# A training saves and ends before that.
_TRAIN_MINUTES = 4
_TAIL = 2500
_TRAIN = "slot_attention_jax.main --config=configs/"
_STEP = "experiments.benchmarks.step --config=configs/"
_PAIR = (
  f"{_TRAIN}tetrominoes.py --config.train.num_steps=2000 "
  "--config.eval.every_steps=2000 --config.checkpoint.every_steps=2000"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """A command with its goal.

  Attributes:
    name: of the run, and of its directory in `runs/gpu`.
    what: what is measured.
    goal: what it should show.
    command: what follows `python -m`.
    small: arguments added in a dry run.
  """

  name: str
  what: str
  goal: str
  command: str
  small: str = ""

  @property
  def trains(self) -> bool:
    """Whether it is a training, which takes several calls."""
    return self.command.startswith(_TRAIN)


def _training(
  name: str, config: str, what: str, goal: str, data: str = ""
) -> Run:
  return Run(name=name, what=what, goal=goal, command=f"{_TRAIN}{config}{data}")


_SCENES = " --config.data.name=clevr_scenes"
_SMALL_STEP = "--batch_size=2 --steps=1 --peer=none --matmul_size=64"
_PAPER = "the paper's {} on synthetic scenes"
RUNS = (
  Run(
    name="devices",
    what="forward, backward, rendering, in float32, beside the CPU",
    goal="loss within 1e-5, gradients within 1e-3, pictures 40 dB",
    command="experiments.benchmarks.devices",
    small="--configs quickstart:debug clevr_set:debug --batch_size=2",
  ),
  Run(
    name="step_discovery",
    what="step of object discovery, bfloat16",
    goal="at most 0.75 times torch.compile (`ratio` 1.33); 45 % of the ceiling "
    "(`step_ceiling_share` 0.45)",
    command=f"{_STEP}clevr_discovery.py --batch_size=64 --precision=bfloat16 "
    "--peer=torch_compile",
    small=_SMALL_STEP,
  ),
  Run(
    name="step_set",
    what="step of set prediction, bfloat16",
    goal="the same",
    command=f"{_STEP}clevr_set.py --batch_size=512 --precision=bfloat16 "
    "--peer=torch_compile",
    small=_SMALL_STEP,
  ),
  Run(
    name="rendering",
    what="rendering, beside the step",
    goal="at most 5 % of the step",
    command="experiments.benchmarks.scenes --batch_size=0",
    small="--configs=clevr_set:debug,tetrominoes:debug --batch_size=2 "
    "--repeats=1 --memory_batch=4",
  ),
  Run(
    name="one_update_a_call",
    what="2,000 steps, one in a call",
    goal="for the next row",
    command=f"{_PAIR} --config.train.steps_per_call=1",
  ),
  Run(
    name="ten_updates_a_call",
    what="2,000 steps, ten in a call",
    goal="fewer `seconds_in_metrics` than the row before; else "
    "`train.steps_per_call` is not worth its code",
    command=f"{_PAIR} --config.train.steps_per_call=10",
  ),
  _training(
    "tetrominoes_fast",
    "tetrominoes.py:fast",
    "Tetrominoes, `fast`, to the end",
    _PAPER.format("FG-ARI, 99.5"),
  ),
  _training(
    "quickstart",
    "quickstart.py:seed=0",
    "`quickstart` to the end",
    "FG-ARI and ARI above 95, as on CPU",
  ),
  _training(
    "clevr6_fast",
    "clevr_discovery.py:fast",
    "CLEVR6, `fast`, to the end",
    _PAPER.format("FG-ARI, 98.8"),
    _SCENES,
  ),
  _training(
    "clevr_set_fast",
    "clevr_set.py:fast",
    "set prediction, `fast`, to the end",
    _PAPER.format("AP, 94.3 / 86.7 / 56.0 / 10.8 / 0.9"),
    _SCENES,
  ),
  _training(
    "multi_dsprites_fast",
    "multi_dsprites.py:fast",
    "Multi-dSprites, `fast`, to the end",
    _PAPER.format("FG-ARI, 91.3"),
  ),
  Run(
    name="step_small",
    what="step of a small model",
    goal="at most 0.75 times torch.compile",
    command=f"{_STEP}tetrominoes.py --batch_size=64 --peer=torch_compile",
    small=_SMALL_STEP,
  ),
  Run(
    name="cold_start",
    what="cold and warm start, by program",
    goal="warm at most a third of cold",
    command="experiments.benchmarks.cold_start "
    "--config=configs/clevr_discovery.py:debug --warm",
    small="--config=configs/quickstart.py:debug",
  ),
  Run(
    name="matching",
    what="matching by subsets, against the Hungarian algorithm",
    goal="at most 5 % of the step",
    command="experiments.benchmarks.matching",
    small="--batch_size=4 --sizes 4 --repeats=1",
  ),
  Run(
    name="tests",
    what="tests of layers, losses and metrics on the device (needs pytest)",
    goal="none fails",
    command="pytest -q -p no:cacheprovider tests/modules tests/metrics "
    "tests/test_matching.py tests/test_losses.py",
    small="--collect-only",
  ),
)


def command(run: Run, directory: pathlib.Path, small: bool) -> list[str]:
  """The arguments of Python that do a run.

  Args:
    run: what is done.
    directory: of the results.
    small: whether for a dry run.

  Returns:
    The arguments, without Python itself.
  """
  text = run.command
  if importlib.util.find_spec("torch") is None:
    # Without its peer, the step still has its share of the ceiling.
    text = re.sub(r"--peer=\w+", "--peer=none", text)
  if small:
    text = re.sub(r"(--config=\S+\.py):?(\S*)", _with_debug, text)
    text = re.sub(r" --config\.(train|eval|checkpoint)\.\S*steps=\S+", "", text)
  arguments = ["-m", *shlex.split(text), *(shlex.split(run.small) * small)]
  if run.trains:
    arguments += [
      f"--config.train.max_minutes={_TRAIN_MINUTES}",
      f"--workdir={directory / run.name}",
    ]
  return arguments


def _with_debug(match: re.Match[str]) -> str:
  variants = [*filter(None, match[2].split(",")), "debug"]
  return f"{match[1]}:{','.join(dict.fromkeys(variants))}"


def do(run: Run, directory: pathlib.Path, limit: float, small: bool) -> dict:
  """Does a run; returns its line."""
  arguments = command(run, directory, small)
  began = time.monotonic()
  try:
    done = subprocess.run(
      [sys.executable, *arguments],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      timeout=limit,
      check=False,
    )
    status, text = done.returncode, done.stdout
  except subprocess.TimeoutExpired as error:
    status, text = 124, error.stdout or b""
  seconds = time.monotonic() - began
  printed = text.decode("utf-8", errors="replace")
  unfinished = "train.max_minutes=" in printed and "Stopped at step" in printed
  line: dict[str, Any] = {
    "name": run.name,
    "command": shlex.join(["python", *arguments]),
    "goal": run.goal,
    "status": status,
    "done": status == 0 and not unfinished,
    "seconds": round(seconds, 1),
    "small": small,
    "device": _device(),
    "code": provenance.code_version(),
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "result": _last_json(printed),
    "tail": printed[-_TAIL:],
  }
  if run.trains and (rows := _rows(directory / run.name / "metrics.jsonl")):
    line["seconds_in_metrics"] = rows[-1].get("seconds")
    line["metrics"] = rows[-1]
  return line


def _device() -> str:
  """The GPU's name; the program that runs has JAX's device to itself."""
  try:
    text = subprocess.run(
      ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
      capture_output=True,
      text=True,
      check=True,
    ).stdout
    return ", ".join(text.split("\n")).strip(", ")
  except (OSError, subprocess.SubprocessError):
    return "no NVIDIA GPU"


def _last_json(text: str) -> Any:
  for line in reversed(text.splitlines()):
    if line.startswith("{"):
      try:
        return json.loads(line)
      except json.JSONDecodeError:
        return None
  return None


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def table() -> str:
  """The list in Markdown."""
  lines = ["| name | what | goal | `python -m` |", "|---|---|---|---|"]
  lines += [f"| {r.name} | {r.what} | {r.goal} | `{r.command}` |" for r in RUNS]
  return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
  """Does what is left of the list."""
  names = [run.name for run in RUNS]
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--output", type=pathlib.Path, default="gpu_runs.jsonl")
  parser.add_argument(
    "--workdir", type=pathlib.Path, default=ROOT / "runs" / "gpu"
  )
  parser.add_argument("--only", nargs="+", choices=names, default=names)
  parser.add_argument(
    "--limit", type=float, default=LIMIT_SECONDS, help="seconds of each"
  )
  parser.add_argument("--dry_run", action="store_true")
  parser.add_argument("--list", action="store_true")
  arguments = parser.parse_args(argv)
  if arguments.list:
    print(table(), end="")
    return
  before = _rows(arguments.output)
  finished = {
    row["name"]
    for row in before
    if row["done"] and row["small"] == arguments.dry_run
  }
  failed = []
  for run in RUNS:
    if run.name not in arguments.only or run.name in finished:
      continue
    print(f"{run.name}: {run.what}", flush=True)
    line = do(
      run, arguments.workdir.absolute(), arguments.limit, arguments.dry_run
    )
    with arguments.output.open("a", encoding="utf-8") as file:
      file.write(json.dumps(line) + "\n")
    print(f"  {line['status']} in {line['seconds']} s", flush=True)
    failed += [run.name] if line["status"] else []
  if failed:
    raise SystemExit(f"Failed: {', '.join(failed)}; see {arguments.output}.")


if __name__ == "__main__":
  main()
