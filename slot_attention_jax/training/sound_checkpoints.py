"""Which checkpoints are as they were saved, and what becomes of the others."""

from collections.abc import Iterable, Sequence

import jax
from absl import logging
from etils import epath

from slot_attention_jax.runtime import processes
from slot_attention_jax.training import checkpoints

ASIDE = "damaged_checkpoints"
"""Name of the directory for damaged ones, beside that of the checkpoints."""


def newest_sound_step(
  checkpointer: checkpoints.Checkpointer,
  items: Sequence[str] = checkpoints.ITEMS,
) -> int | None:
  """Finds the last step whose checkpoint is as it was saved.

  Warns of each one after it. All processes must call this.

  Args:
    checkpointer: reads the checkpoints.
    items: which parts must be sound.

  Returns:
    The step; None if there are no checkpoints.

  Raises:
    DamagedCheckpointError: if there are some and none is sound.
  """
  return _first_sound(checkpointer, checkpointer.all_steps()[::-1], items)


def best_sound_step(
  checkpointer: checkpoints.Checkpointer,
  items: Sequence[str] = checkpoints.ITEMS,
) -> int | None:
  """Finds the best one that is sound; otherwise as `newest_sound_step`."""
  return _first_sound(checkpointer, checkpointer.ranked_steps(), items)


def set_damaged_aside(checkpointer: checkpoints.Checkpointer) -> None:
  """Moves the damaged checkpoints after the newest sound one to `ASIDE`.

  A training then resumes from the sound one, and nothing is deleted. All
  processes must call this.

  Args:
    checkpointer: of the run.

  Raises:
    DamagedCheckpointError: if there are checkpoints and none is sound.
  """
  sound = newest_sound_step(checkpointer)
  if sound is None:
    return
  damaged = [s for s in checkpointer.all_steps() if s > sound]
  if not damaged:
    return
  processes.wait_for_all("damaged checkpoints found")
  if jax.process_index() == 0:
    for step in damaged:
      _move_aside(checkpointer.directory / str(step))
  processes.wait_for_all("damaged checkpoints moved")
  checkpointer.reopen()


def _first_sound(
  checkpointer: checkpoints.Checkpointer,
  steps: Iterable[int],
  items: Sequence[str],
) -> int | None:
  damaged = []
  for step in steps:
    problem = ""
    try:
      checkpointer.check(step, items)
    except checkpoints.DamagedCheckpointError as error:
      problem = str(error)
      logging.warning("DAMAGED CHECKPOINT: %s", error)
    if processes.all_agree(not problem):
      if damaged:
        logging.warning("THE CHECKPOINT OF STEP %d IS USED INSTEAD.", step)
      return step
    damaged.append(step)
  if damaged:
    raise checkpoints.DamagedCheckpointError(
      f"Expected a sound checkpoint in {checkpointer.directory}, got "
      f"{damaged}, all damaged; the warnings above say how. Restore them from "
      "a copy, or move them away to start anew."
    )
  return None


def _move_aside(checkpoint: epath.Path) -> None:
  """Moves a checkpoint to the directory of damaged ones, under a free name."""
  aside = checkpoint.parent.parent / ASIDE
  aside.mkdir(parents=True, exist_ok=True)
  target, count = aside / checkpoint.name, 1
  while target.exists():
    target, count = aside / f"{checkpoint.name}-{count}", count + 1
  checkpoint.rename(target)
  logging.warning("Moved the damaged %s to %s.", checkpoint, target)
