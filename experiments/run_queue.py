"""Runs what waits for a GPU, in pieces, where one is available for minutes.

  python experiments/run_queue.py --list
  python experiments/run_queue.py --minutes=9 --state_dir=DIR

Takes the first row of the table in `experiments/gpu_queue.md` that is not done
and fits, and updates its status and result there. A training runs until the
minutes are over and leaves in the state directory all that it needs to go on,
on this or another machine (`ID.tar`; the best checkpoint, `ID.best.tar`; the
log, `ID.log`); repeat the command until it is done. Anything else runs as a
whole and leaves its output (`ID.txt`, and its last line of JSON as `ID.json`).

A row that fails says why and is not tried again unless it is asked for, by
`--only=ID`; a training goes on from its last checkpoint then. The last line
printed is JSON; the exit status is 1 if the row failed.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
  sys.path.insert(0, str(ROOT))  # As a script it finds only its own directory.

from experiments import queue_table, run_archive  # noqa: E402

LONGEST_PIECE_MINUTES = 9.0
# Of a piece: the start of Python, the last save and packing.
_AROUND_MINUTES = 1.0
# What a command may take above its piece before it is killed.
GRACE_MINUTES = 0.5


def _call(
  command: str, extra: Sequence[str], output: pathlib.Path, minutes: float
) -> str:
  """Runs commands joined by `&&`; returns why they failed, "" if they did not.

  Args:
    command: the commands; `python` is the one that runs this.
    extra: further arguments of the last one.
    output: file for what they print; what it held is lost.
    minutes: all that is left of them then is killed.
  """
  path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
  deadline = time.monotonic() + 60 * minutes
  commands = [shlex.split(part) for part in command.split("&&")]
  commands[-1] += extra
  with output.open("wb") as file:
    for words in commands:
      words = [sys.executable if word == "python" else word for word in words]
      try:
        process = subprocess.Popen(
          words,
          cwd=ROOT,
          env=os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
          stdout=file,
          stderr=subprocess.STDOUT,
          start_new_session=True,
        )
      except OSError as error:
        return f"cannot run {words[0]}: {error.strerror}"
      try:
        code = process.wait(max(0.0, deadline - time.monotonic()))
      except subprocess.TimeoutExpired:
        return f"killed after {minutes:.1f} min"
      finally:
        if process.poll() is None:
          os.killpg(process.pid, signal.SIGKILL)  # With all that it started.
          process.wait()
      if code:
        return f"exit status {code}: {_last_line(output)}"
  return ""


def _lines(path: pathlib.Path) -> list[str]:
  text = path.read_text(encoding="utf-8", errors="replace")
  return [line for line in text.splitlines() if line.strip()]


def _last_line(path: pathlib.Path) -> str:
  """The last line that names an error, else the last one, shortened."""
  lines = _lines(path) or ["no output"]
  errors = [x for x in lines if re.match(r"[\w.]*(Error|Exception)\b", x)]
  return (errors or lines)[-1].strip()[:200]


def _last_json(path: pathlib.Path) -> Any:
  for line in reversed(_lines(path)):
    try:
      content = json.loads(line)
    except json.JSONDecodeError:
      continue
    if isinstance(content, dict):
      return content
  return None


def _workdir(command: str) -> pathlib.Path:
  words = [x for x in shlex.split(command) if x.startswith("--workdir=")]
  return ROOT / pathlib.Path(words[-1].partition("=")[2]).expanduser()


def _last_evaluation(workdir: pathlib.Path) -> str:
  """What the last evaluation measured, with the name of its data."""
  for line in reversed(_lines(workdir / "metrics.jsonl")):
    row = json.loads(line)
    names = [x for x in row if "/" in x and "/train/" not in x]
    if names:
      data = names[0].rpartition("/")[0]
      numbers = [f"{x.rpartition('/')[2]} {float(row[x]):.4g}" for x in names]
      return f"{data} at step {row['step']}: {', '.join(numbers)}"
  return ""


def _train(row, minutes, state_dir):
  """Runs a piece of a training; returns its status, result and files."""
  workdir, archive = _workdir(row.command), state_dir / row.state
  before = run_archive.latest_step(workdir)
  if archive.exists():
    before = run_archive.unpack(archive, workdir)
  limit = max(minutes - _AROUND_MINUTES, minutes / 2)
  log = state_dir / f"{row.id}.log"
  reason = _call(
    row.command,
    [f"--config.train.max_minutes={limit:g}"],
    log,
    minutes + GRACE_MINUTES,
  )
  step, files, result = run_archive.latest_step(workdir), [log], row.result
  if not step:
    reason = reason or "it left no checkpoint"
    return queue_table.Status("failed", reason=reason), result, files
  files += run_archive.pack(workdir, archive)
  result = _last_evaluation(workdir) or result
  total = run_archive.read_config(workdir)["train"]["num_steps"]
  killed = reason.startswith("killed")
  # One that is killed again and again at the same step would block the queue.
  if step == before < total:
    reason = reason or f"no update done after step {before}"
    killed = False
  if reason and not killed:
    return queue_table.Status("failed", reason=reason), result, files
  if step >= total and not reason:
    return queue_table.Status("done"), result, files
  status = queue_table.Status("at step", step=step, total=total)
  return status, result, files


def _run_whole(row, minutes, state_dir):
  """Runs a command that is no training; returns as `_train` does."""
  output = state_dir / row.state
  reason = _call(row.command, [], output, minutes + GRACE_MINUTES)
  if reason:
    return queue_table.Status("failed", reason=reason), row.result, [output]
  files, content = [output], _last_json(output)
  if content is not None:
    files.append(state_dir / f"{row.id}.json")
    files[-1].write_text(json.dumps(content, indent=2) + "\n")
  names = " and ".join(f"`{path.name}`" for path in files)
  return queue_table.Status("done"), f"in {names}", files


def run_next(
  queue: pathlib.Path,
  minutes: float,
  state_dir: pathlib.Path,
  only: str = "",
) -> dict[str, Any]:
  """Runs the next piece and updates the queue.

  Args:
    queue: the Markdown file.
    minutes: how long the piece may take, at most 9 count.
    state_dir: where states and outputs are kept; made if it does not exist.
    only: id of the row to run, also if it failed before; "": the next one.

  Returns:
    What the last line of the output holds.

  Raises:
    ValueError: if the queue is not as it should be, or there is no row `only`
      that is not done and fits.
  """
  minutes = min(minutes, LONGEST_PIECE_MINUTES)
  rows = queue_table.read(queue)
  if only:
    rows = [row for row in rows if row.id == only]
    if not rows or rows[0].status.kind == "done":
      raise ValueError(
        f"Expected a row of {queue} that is not done, got {only!r}. --list "
        "tells them; to run one anew, set its status to open and remove its "
        "files from the state directory and its --workdir."
      )
    failed = dataclasses.replace(rows[0].status, kind="open")
    rows = [dataclasses.replace(rows[0], status=failed)]
  row = queue_table.choose(rows, minutes)
  if row is None:
    if only:
      raise ValueError(
        f"Expected at least {rows[0].minutes:g} minutes for {only}, which is "
        f"not cut into pieces, got {minutes:g}."
      )
    return {"id": None, "status": f"nothing left that fits {minutes:g} min"}
  state_dir.mkdir(parents=True, exist_ok=True)
  print(f"{row.id}: {row.command}", flush=True)
  began = time.monotonic()
  run = _train if row.training else _run_whole
  status, result, files = run(row, minutes, state_dir)
  took = (time.monotonic() - began) / 60
  status = dataclasses.replace(status, minutes=row.status.minutes + took)
  row = dataclasses.replace(row, status=status, result=result)
  queue_table.update(queue, row)
  print("\n".join(_lines(files[0])[-20:]))
  return {
    "id": row.id,
    "status": str(status),
    "piece_minutes": round(took, 2),
    "result": result,
    "files": [str(path) for path in files],
  }


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Reads the arguments; lists the rows or runs the next piece."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--minutes", type=float, help="for this piece, at most 9")
  parser.add_argument(
    "--queue",
    type=pathlib.Path,
    default=ROOT / "experiments" / "gpu_queue.md",
    help="the table",
  )
  parser.add_argument(
    "--state_dir",
    type=pathlib.Path,
    default=ROOT / "runs" / "queue_state",
    help="where states and outputs are kept",
  )
  parser.add_argument("--only", default="", help="id of the row to run")
  parser.add_argument("--list", action="store_true", help="how the rows stand")
  parser.add_argument(
    "--copy_to",
    type=pathlib.Path,
    help="directory that also gets the table and the files of the row",
  )
  arguments = parser.parse_args(argv)
  if not arguments.list and not (arguments.minutes or 0) > 0:
    parser.error(f"expected --minutes above 0, got {arguments.minutes}")
  try:
    if arguments.list:
      rows = queue_table.read(arguments.queue)
      for row in rows:
        print(f"{row.id:24} {row.minutes:5g} min expected  {row.status}")
      return {"status": f"{len(rows)} rows"}
    report = run_next(
      arguments.queue, arguments.minutes, arguments.state_dir, arguments.only
    )
  except ValueError as error:
    parser.error(str(error))
  if arguments.copy_to:
    arguments.copy_to.mkdir(parents=True, exist_ok=True)
    for path in (arguments.queue, *report.get("files", [])):
      shutil.copy2(path, arguments.copy_to)
  print(json.dumps(report))
  return report


if __name__ == "__main__":
  sys.exit(1 if main()["status"].startswith("failed") else 0)
