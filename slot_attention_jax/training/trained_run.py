"""Reads the checkpoint that is asked for of a run that was trained."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

from slot_attention_jax.runtime import storage
from slot_attention_jax.training import checkpoints, resume, sound_checkpoints

# What an evaluation reads.
_ITEMS = ("params", "config")


@contextlib.contextmanager
def open_run(
  workdir: storage.Path,
  which: str,
  *,
  best_metric: str | None = None,
  best_mode: Literal["max", "min"] = "min",
) -> Iterator[tuple[checkpoints.Checkpointer, int]]:
  """Opens the checkpoints of a run to read one of them.

  Args:
    workdir: directory of the run, absolute.
    which: `"last"` or `"best"`.
    best_metric: short name of the metric that decides the best.
    best_mode: `"min"` or `"max"`.

  Yields:
    A pair (checkpointer, step), with the step that was asked for; where its
    checkpoint is damaged, with a warning, the newest or the best sound one.

  Raises:
    FileNotFoundError: if there is no such run or checkpoint.
    ValueError: on another `which`.
  """
  if which not in ("last", "best"):
    raise ValueError(
      "Expected a checkpoint (eval.checkpoint) of 'last' or 'best', got "
      f"{which!r}."
    )
  path = workdir / "checkpoints"
  if not path.is_dir():
    raise FileNotFoundError(
      f"Expected a trained run in {workdir}, found no 'checkpoints' in it. "
      "Train first, with --mode=train and the same --workdir."
    )
  with checkpoints.Checkpointer(
    path, best_metric=best_metric, best_mode=best_mode
  ) as checkpointer:
    # Not moved: a training may be about to resume from here.
    find = {
      "best": sound_checkpoints.best_sound_step,
      "last": sound_checkpoints.newest_sound_step,
    }
    step = find[which](checkpointer, _ITEMS)
    if step is None:
      raise FileNotFoundError(
        f"Expected a {which} checkpoint in {path}, found none "
        f"(checkpoint.best_metric is {best_metric!r})."
      )
    yield checkpointer, step


def restore_params(
  workdir: storage.Path,
  which: str,
  abstract_params: Any = None,
  *,
  best_metric: str | None = None,
  best_mode: Literal["max", "min"] = "min",
  config: Any = None,
) -> tuple[int, Any]:
  """Restores the parameters of a run: `open_run`, then `restore_params`.

  Args:
    workdir: as for `open_run`, like `which`, `best_metric` and `best_mode`.
    which: `"last"` or `"best"`.
    abstract_params: as for `Checkpointer.restore_params`.
    best_metric: short name of a metric.
    best_mode: `"min"` or `"max"`.
    config: what the model was built from; None: anything.

  Returns:
    A pair (step, params).

  Raises:
    FileNotFoundError: if there is no such run or checkpoint.
    ValueError: on another `which`, or if the config is of another model.
  """
  with open_run(
    workdir, which, best_metric=best_metric, best_mode=best_mode
  ) as (checkpointer, step):
    if config is not None:
      saved = checkpointer.restore_config(step)
      resume.check_same_model(workdir, config, saved)
    return step, checkpointer.restore_params(abstract_params, step)
