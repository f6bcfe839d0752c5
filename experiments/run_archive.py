"""What a run needs to go on elsewhere, in one `.tar`.

That is its latest checkpoint, `metrics.jsonl` and its config. The best
checkpoint, where it is another one, is packed into a second archive: the run
goes on without it, but the best of the whole run could then not be told.
"""

import json
import os
import pathlib
import shutil
import tarfile
from typing import Any

_FILES = ("config.json", "metadata.json", "metrics.jsonl")


def steps_of(workdir: pathlib.Path) -> list[int]:
  """Steps of the complete checkpoints of a run, in ascending order."""
  directory = workdir / "checkpoints"
  paths = list(directory.iterdir()) if directory.is_dir() else []
  # One that is being written, or was when the run was killed, has another name.
  return sorted(int(path.name) for path in paths if path.name.isdecimal())


def latest_step(workdir: pathlib.Path) -> int:
  """The latest of `steps_of`, 0 if there is none."""
  return max(steps_of(workdir), default=0)


def best_step(workdir: pathlib.Path) -> int | None:
  """The step with the best score, the later one of equals; None if none."""
  config = read_config(workdir)["checkpoint"]
  sign = 1 if config["best_mode"] == "max" else -1
  best = None
  for step in steps_of(workdir):
    path = workdir / "checkpoints" / str(step) / "scores" / "metadata"
    score = json.loads(path.read_text()).get(config["best_metric"])
    if score is not None and (best is None or sign * score >= best[0]):
      best = sign * score, step
  return None if best is None else best[1]


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
  """The config of a run, as JSON has it."""
  return json.loads((workdir / "config.json").read_text(encoding="utf-8"))


def pack(workdir: pathlib.Path, archive: pathlib.Path) -> list[pathlib.Path]:
  """Packs a run; what is in the archive already is replaced, whole or not.

  Args:
    workdir: directory of the run, which nothing writes to now.
    archive: the `.tar`; its directory is made. That of the best checkpoint is
      `.best.tar`, and is removed where the best is the latest.

  Returns:
    The archives there are now.

  Raises:
    ValueError: if the run has no checkpoint yet.
  """
  latest = latest_step(workdir)
  if not latest:
    raise ValueError(
      f"Expected a checkpoint in {workdir / 'checkpoints'}, found none: there "
      "is nothing to go on from."
    )
  archive.parent.mkdir(parents=True, exist_ok=True)
  names = [name for name in _FILES if (workdir / name).exists()]
  _write(archive, workdir, [f"checkpoints/{latest}", *names])
  best_archive, best = _of_best(archive), best_step(workdir)
  if best in (None, latest):
    best_archive.unlink(missing_ok=True)
    return [archive]
  _write(best_archive, workdir, [f"checkpoints/{best}"])
  return [archive, best_archive]


def unpack(archive: pathlib.Path, workdir: pathlib.Path) -> int:
  """Unpacks what `pack` packed, unless the run there is at least as far.

  Args:
    archive: the `.tar`; one of the best checkpoint beside it is unpacked too.
    workdir: directory of the run, made if it does not exist.

  Returns:
    The step that the run goes on from.
  """
  packed = _latest_in(archive)
  present = latest_step(workdir)
  if present >= packed:
    return present
  archives = [path for path in (_of_best(archive), archive) if path.exists()]
  temporary = workdir / ".unpacking"
  shutil.rmtree(temporary, ignore_errors=True)  # Of an unpacking cut off.
  for path in archives:
    with tarfile.open(path) as tar:
      tar.extractall(temporary, filter="data")
  for name in _FILES:
    if (temporary / name).exists():
      os.replace(temporary / name, workdir / name)
  # The latest is last: where it is, everything else is.
  (workdir / "checkpoints").mkdir(exist_ok=True)
  for step in steps_of(temporary):
    if step not in steps_of(workdir):
      name = f"checkpoints/{step}"
      os.replace(temporary / name, workdir / name)
  shutil.rmtree(temporary)
  return packed


def _latest_in(archive: pathlib.Path) -> int:
  with tarfile.open(archive) as tar:
    parts = [name.split("/") for name in tar.getnames()]
  return max(int(p[1]) for p in parts if p[0] == "checkpoints" and p[1:])


def _of_best(archive: pathlib.Path) -> pathlib.Path:
  return archive.with_suffix(".best.tar")


def _write(archive, workdir, names):
  temporary = archive.with_name(f".{archive.name}.tmp")
  with tarfile.open(temporary, "w") as tar:
    for name in names:
      tar.add(workdir / name, name)
  os.replace(temporary, archive)
