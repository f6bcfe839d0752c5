"""What the log says before the first step and after the last one."""

import os
import pathlib
import shlex
import time
from collections.abc import Callable
from typing import Any

from absl import logging

from slot_attention_jax.runtime import progress, storage


def announce_compilation(
  step: Callable[..., Any], bar: progress.Progress, start: int
) -> Callable[..., Any]:
  """Says that the first call compiles, and keeps that out of the time left.

  Or it loads what an earlier run has compiled.

  Args:
    step: a compiled function.
    bar: the progress bar of the steps, which begins anew after the first call.
    start: steps done before.

  Returns:
    The function.
  """
  called = False

  def call(*args: Any) -> Any:
    nonlocal called
    if called:
      return step(*args)
    called = True
    logging.info(
      "Compiling the training step, or loading it: a minute or so the first "
      "time, seconds once --compilation_cache has it."
    )
    began = time.monotonic()
    result = step(*args)
    bar.restart(start)
    logging.info("Compiled or loaded in %.1f s.", time.monotonic() - began)
    return result

  return call


def log(
  path: storage.Path,
  config: Any,
  command: str,
  last: int | None,
  best: int | None,
) -> None:
  """Logs `describe` of a run, if it has a checkpoint.

  Args:
    path: directory of the run.
    config: of the run.
    command: the flags that make it.
    last: step of the last checkpoint.
    best: step of the best one.
  """
  if last is None:
    return
  text = describe(
    path,
    command,
    step=last,
    total=config.train.num_steps,
    best=best if config.checkpoint.best_metric else None,
    data_dir=config.data.data_dir,
  )
  logging.info("%s", text)


def describe(
  path: storage.Path,
  command: str,
  *,
  step: int,
  total: int,
  best: int | None,
  data_dir: str = "",
) -> str:
  """Says where a run's results are and what to do with them.

  Args:
    path: directory of the run.
    command: flags that make its config, needed for a run in a bucket; "": not
      known.
    step: of the last checkpoint.
    total: steps that the config asks for.
    best: step of the best checkpoint; None if no metric decides.
    data_dir: `data.data_dir` of the config, which is not in the command.

  Returns:
    A text of some lines.

  Example:
    >>> import pathlib
    >>> from slot_attention_jax.training import next_steps
    >>> run = pathlib.Path("/no/such/run")
    >>> text = next_steps.describe(
    ...   run, "--config=quickstart", step=9, total=9, best=6)
    >>> print(text.splitlines()[0])
    Step 9 of 9 in /no/such/run: last checkpoint 9, best 6.
  """
  where = shlex.quote(_short(path))
  checkpoints = f"last checkpoint {step}"
  checkpoints += "" if best is None else f", best {best}"
  lines = [f"Step {step} of {total} in {_short(path)}: {checkpoints}."]
  pictures = sorted((path / "figures").glob("[0-9]*.png"))
  pictures = pictures or sorted((path / "images").glob("[0-9]*.png"))
  if pictures:
    lines.append(f"  look at   {_short(pictures[-1])}")
  if step < total:
    lines.append("  go on     the same command resumes")
  if not storage.is_remote(path) and (path / "config.json").is_file():
    # A file, so that a directory named as a config of the package is found.
    command = f"--config={shlex.quote(_short(path / 'config.json'))}"
  elif command and data_dir:
    command += f" --config.data.data_dir={shlex.quote(data_dir)}"
  if command:
    lines.append(
      f"  evaluate  slot-attention --mode=evaluate {command} --workdir={where}"
    )
  lines += [
    f"  report    slot-attention report {where}",
    f"  predict   slot-attention predict --model={where} --images=DIR "
    "--output=predictions",
    f"  load      sa.predict(images, model={_short(path)!r})",
    f"  share     python -m slot_attention_jax.export_weights "
    f"--workdir={where} --name=NAME (evaluate first)",
  ]
  return "\n".join(lines)


def _short(path: storage.Path) -> str:
  """A path, relative to the working directory if it is in it."""
  try:
    return os.fspath(path.relative_to(pathlib.Path.cwd()))
  except ValueError:
    return os.fspath(path)
