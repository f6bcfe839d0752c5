"""The writers of a run: `metrics.jsonl`, the log and what the config names.

`metrics.jsonl` is the record of a run; `trackers` sends its rows to services.
"""

import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import logging

from slot_attention_jax.runtime import storage
from slot_attention_jax.training import (
  tensorboard_events,
  trackers,
  writers,
)

# Packages that writers need, with the extra that installs them.
_NEEDED = {
  "clu": (("clu", "tensorflow", "tensorboard"), "tf"),
  "wandb": (("wandb",), "wandb"),
  "trackio": (("trackio",), "trackio"),
}


def enabled(settings: Any) -> tuple[str, ...]:
  """Names of the writers that a config asks for.

  Args:
    settings: the `logging` group of a config.

  Returns:
    `settings.writers`, without TensorBoard if the older key `tensorboard` is
    False.
  """
  without = () if settings.tensorboard else ("tensorboard", "clu")
  return tuple(name for name in settings.writers if name not in without)


def check_installed(names: Iterable[str]) -> None:
  """Raises ValueError if a writer needs a package that is not installed.

  Args:
    names: out of `allowed.WRITERS`.
  """
  for name in names:
    packages, extra = _NEEDED.get(name, ((), ""))
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    if missing:
      raise ValueError(
        f"Expected {' and '.join(missing)} for logging.writers={name!r}, which "
        f"is not installed. Install it with pip install "
        f'"slot_attention_jax[{extra}]", or take {name!r} out of '
        "logging.writers."
      )


def check_place(names: Iterable[str], workdir: storage.Path) -> None:
  """Raises ValueError if a writer cannot write to the directory of the run.

  Args:
    names: out of `allowed.WRITERS`.
    workdir: the directory.
  """
  if "clu" in names and storage.is_remote(workdir):
    raise ValueError(
      "Expected a --workdir on a file system for logging.writers='clu', got "
      f"{workdir}. Use 'tensorboard', which writes to buckets too."
    )


def create_writer(
  workdir: str | os.PathLike[str],
  *,
  total_steps: int,
  names: Sequence[str] = (),
  process_index: int = 0,
  resume_step: int = 0,
  began: float | None = None,
  config: Mapping[str, Any] | None = None,
) -> writers.MetricWriter:
  """Makes the writers of a run: `metrics.jsonl`, the log and others.

  Args:
    workdir: directory of the run, local or in a bucket; made if it does not
      exist.
    total_steps: steps of the whole run.
    names: of the other writers, out of `allowed.WRITERS`; `metrics.jsonl` is
      always written.
    process_index: `jax.process_index()`; all but process 0 write nothing.
    resume_step: of the checkpoint that the run resumes from; later rows of
      `metrics.jsonl` are dropped. With 0 the run starts anew: all are.
    began: `time.monotonic()` when this process began the run; None: now.
    config: of the run, nested, for services that keep it.

  Returns:
    The writer; close it when the run ends.

  Raises:
    ValueError: if a package is missing, or W&B cannot start a run.
  """
  if process_index != 0:
    return writers.MultiWriter()
  check_installed(names)
  workdir = storage.to_path(workdir)
  check_place(names, workdir)
  path = workdir / writers.METRICS_FILE
  num_rows = len(writers.complete_rows(path))
  opened: list[writers.MetricWriter] = [writers.LogWriter(total_steps)]
  try:
    opened.append(jsonl := writers.JsonlWriter(path, began))
    # A new run measures step 0 again.
    resume_step = resume_step if resume_step > 0 else -1
    jsonl.truncate_after(resume_step)
    for name in names:
      if name == "tensorboard":
        opened += _tensorboard_writers(workdir, resume_step)
      elif name == "clu":
        opened.append(_clu_writer(os.fspath(workdir)))
      elif name in trackers.TRACKERS:
        record = trackers.Record(workdir, name, num_rows)
        opened.append(
          tracker := trackers.TRACKERS[name](record, dict(config or {}))
        )
        tracker.complete(writers.complete_rows(path))
  except BaseException:
    writers.MultiWriter(opened).close()
    raise
  return writers.MultiWriter(opened)


def _tensorboard_writers(
  workdir: storage.Path, resume_step: int
) -> list[writers.MetricWriter]:
  """One writer; none, and a warning, if tensorboard is not installed."""
  try:
    return [tensorboard_events.TensorBoardWriter(workdir, resume_step)]
  except ImportError as error:
    logging.warning(
      "No files for TensorBoard are written, because it is not installed (%s). "
      "Install it with pip install tensorboard, or take tensorboard out of "
      "logging.writers.",
      error,
    )
    return []


def _clu_writer(workdir: str) -> writers.MetricWriter:
  import tensorflow as tf

  # Otherwise TensorFlow takes the memory of the GPUs that JAX computes on.
  tf.config.set_visible_devices([], "GPU")
  from clu import metric_writers

  return metric_writers.SummaryWriter(workdir)
