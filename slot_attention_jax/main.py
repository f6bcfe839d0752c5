"""Command line: flags, the cluster, the compile cache, then one call."""

import functools
import os
import pathlib

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from slot_attention_jax import evaluate, render, train
from slot_attention_jax.runtime import processes

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "Config file, as configs/quickstart.py or configs/quickstart.py:debug; "
  "--config.key=value overrides a key.",
  lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Directory of the run; default runs/NAME_OF_THE_CONFIG. A run that is there "
  "already is resumed.",
)
_MODE = flags.DEFINE_enum(
  "mode",
  "train",
  ["train", "evaluate", "render", "export"],
  "What to do; render writes the scenes of eval.split into --workdir as files, "
  "export the examples of eval.split as examples.npz.",
)
_PRETRAINED = flags.DEFINE_string(
  "pretrained",
  "",
  "--mode=evaluate: weights of the package, by name, in place of a run.",
)
_WEIGHTS = flags.DEFINE_string(
  "weights", "", "--mode=evaluate: a file of weights in place of a run."
)
_PREDICTIONS = flags.DEFINE_string(
  "predictions",
  "",
  "--mode=evaluate: an .npz of segments or masks that another program "
  "predicted for the examples that --mode=export writes.",
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Start JAX's multi-process runtime, found from the cluster's environment "
  "(TPU pods, SLURM, Kubernetes); see docs/launch.md.",
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
  "coordinator_address",
  None,
  "HOST:PORT of process 0. With --num_processes and --process_id it starts "
  "the multi-process runtime anywhere.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "How many processes run this program together."
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Which of them this is, from 0."
)
_COMPILATION_CACHE = flags.DEFINE_string(
  "compilation_cache",
  os.path.join("~", ".cache", "slot_attention_jax", "xla"),
  "Directory of compiled programs, kept from run to run; empty: none.",
)


def main(argv: list[str]) -> None:
  """Runs the mode that the flags ask for."""
  if len(argv) > 1:
    raise app.UsageError(f"Expected only flags, got {argv[1:]}.")
  processes.initialize(
    detect=_DISTRIBUTED.value,
    coordinator_address=_COORDINATOR_ADDRESS.value,
    num_processes=_NUM_PROCESSES.value,
    process_id=_PROCESS_ID.value,
  )
  if _COMPILATION_CACHE.value:
    jax.config.update(
      "jax_compilation_cache_dir",
      os.path.expanduser(_COMPILATION_CACHE.value),
    )
  workdir = _WORKDIR.value or str(pathlib.Path("runs") / _config_name())
  if "://" in workdir:
    raise app.UsageError(
      f"Expected a --workdir on a file system, got {workdir}. Mount it on "
      "every host and give the path of the mount, see docs/launch.md."
    )
  logging.info(
    "JAX %s, process %d of %d, devices %s, workdir %s.",
    jax.__version__,
    jax.process_index(),
    jax.process_count(),
    jax.devices(),
    workdir,
  )
  source = evaluate.Source(
    _PRETRAINED.value, _WEIGHTS.value, _PREDICTIONS.value
  )
  if source.kind != "checkpoint" and _MODE.value != "evaluate":
    raise app.UsageError(f"Expected --mode=evaluate for --{source.kind}.")
  run = {
    "train": functools.partial(train.train, command=_recipe()),
    "evaluate": functools.partial(
      evaluate.evaluate_model, source=source, command=_recipe()
    ),
    "render": render.render,
    "export": evaluate.export_split,
  }
  with processes.exit_together_on_error():
    processes.assert_equal_across_processes(
      "mode, workdir and config",
      (_MODE.value, workdir, _CONFIG.value.to_dict()),
      "Start all with the same flags but --process_id.",
    )
    metrics = run[_MODE.value](_CONFIG.value, workdir)
  if jax.process_index() == 0:
    for name, value in metrics.items():
      print(f"{name}: {value:.6g}")


def _config_name() -> str:
  """Name of the config file with its preset, as a directory name."""
  name = config_flags.get_config_filename(flags.FLAGS["config"])
  path, _, preset = name.partition(":")
  return "_".join(filter(None, [pathlib.Path(path).stem, preset]))


def _recipe() -> str:
  """The flags that make the config, without the directories above it."""
  flag = flags.FLAGS["config"]
  path, _, arg = config_flags.get_config_filename(flag).partition(":")
  name = pathlib.PurePath(*pathlib.PurePath(path).parts[-2:]).as_posix()
  overrides = config_flags.get_override_values(flag)
  # Where data lie on one machine is no part of what is done with them.
  places = ("data.data_dir", "data.cache_dir")
  items = [i for i in arg.split(",") if i.strip().split("=")[0] not in places]
  return " ".join(
    [":".join(filter(None, [f"--config={name}", ",".join(items)]))]
    + [f"--config.{k}={v}" for k, v in overrides.items() if k not in places]
  )


def entry_point() -> None:
  """Starts `main` under absl, with log lines on standard error."""
  flags.mark_flag_as_required("config")
  jax.config.config_with_absl()
  logging.set_verbosity(logging.INFO)
  app.run(main)


if __name__ == "__main__":
  entry_point()
