"""Command line: train, evaluate, render or export, as a config says.

`slot-attention predict --help`, `report --help` and `demo --help` explain the
subcommands, which need no config.
"""

import functools
import gc
import pathlib
import re
import sys
from typing import Any

import jax
from absl import app, flags, logging

from slot_attention_jax import evaluate, render
from slot_attention_jax.config import (
  allowed,
  arguments,
  flag,
  preset,
  run_name,
)
from slot_attention_jax.demo import command_line as demo_command
from slot_attention_jax.predict import command_line as predict_command
from slot_attention_jax.report import command_line as report_command
from slot_attention_jax.runtime import (
  compilation,
  processes,
  program_store,
  signals,
  storage,
  user_errors,
)

_CONFIG = flag.define_config_flag(
  "A config by name, as quickstart or clevr_set:small (variant small), or the "
  "path of a Python file with a function get_config or the directory of a run. "
  "--config.KEY=VALUE overrides a key, as --config.train.num_steps=1000. "
  "Without a config: slot-attention predict --help, report --help and "
  "demo --help.",
)
_PRINT_CONFIG = flags.DEFINE_bool(
  "print_config",
  False,
  "Print the config with all overrides, check it, and exit.",
)
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Directory of the run; default: runs/NAME, where NAME is the config, its "
  "variants, the seed and a hash of other overrides. A run found there is "
  "resumed.",
)
_RESUME_CHANGED = flags.DEFINE_bool(
  "resume_changed",
  False,
  "Resume although keys have changed that may, such as train.num_steps; see "
  "docs/training.md.",
)
_MODE = flags.DEFINE_enum(
  "mode",
  "train",
  ["train", "evaluate", "render", "export"],
  "train: train, or resume. evaluate: score the checkpoint in --workdir on "
  "eval.split. render: write the scenes of eval.split into --workdir as files. "
  "export: write the examples of eval.split as examples.npz.",
)
_PRETRAINED = flags.DEFINE_string(
  "pretrained",
  "",
  "With --mode=evaluate: evaluate these pretrained weights, by name.",
)
_WEIGHTS = flags.DEFINE_string(
  "weights", "", "With --mode=evaluate: evaluate the weights in this file."
)
_PREDICTIONS = flags.DEFINE_string(
  "predictions",
  "",
  "With --mode=evaluate: score an .npz of segments or masks that another "
  "program predicted for the examples that --mode=export wrote.",
)
flags.DEFINE_bool(
  user_errors.FLAG.lstrip("-"),
  False,
  "Show the traceback of a user's error, too.",
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Start JAX's multi-process runtime as the cluster's environment says (TPU "
  "pods, SLURM, Kubernetes); see docs/launch.md.",
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
  "coordinator_address",
  None,
  "HOST:PORT of process 0. Together with --num_processes and --process_id, "
  "starts the multi-process runtime on any machines.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Number of processes that run this command together."
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Which of these processes this is, from 0."
)
_COMPILATION_CACHE = flags.DEFINE_string(
  "compilation_cache",
  compilation.DIRECTORY,
  "Directory in which compiled programs are kept between runs; empty: none.",
)


def main(argv: list[str]) -> None:
  """Runs the mode that the flags ask for."""
  if len(argv) > 1:
    raise ValueError(
      f"Expected only flags, got {argv[1:]}. Subcommands, which come first, "
      f"are {sorted(_SUBCOMMANDS)}."
    )
  config = preset.resolve(_CONFIG.value, flag.overridden_keys())
  if _PRINT_CONFIG.value:
    print(f"# {flag.command()}\n{arguments.to_text(config)}")
    allowed.check_values(config)  # After the print, which shows what is wrong.
    return
  source = _source()
  workdir = _workdir(source)
  _start_jax(workdir, config)
  run = {
    "train": _train,
    "evaluate": functools.partial(
      evaluate.evaluate_model, source=source, command=flag.command()
    ),
    "render": render.render,
    "export": evaluate.export_split,
  }
  with signals.handled(), processes.exit_together_on_error():
    processes.assert_equal_across_processes(
      "mode, workdir and config",
      (
        _MODE.value,
        workdir,
        config.to_dict(),
        _RESUME_CHANGED.value,
      ),
      "Start all with the same flags but --process_id.",
    )
    metrics = run[_MODE.value](config, workdir)
  if jax.process_index() == 0:
    for name, value in metrics.items():
      print(f"{name}: {value:.6g}")


def _train(config: Any, workdir: str) -> dict[str, float]:
  """Trains, or resumes."""
  # It imports orbax, which no other mode needs but to read a run.
  from slot_attention_jax import train

  return train.train(
    config,
    workdir,
    command=flag.command(),
    resume_changed=_RESUME_CHANGED.value,
  )


def _source() -> evaluate.Source:
  """What --mode=evaluate evaluates."""
  source = evaluate.Source(
    _PRETRAINED.value, _WEIGHTS.value, _PREDICTIONS.value
  )
  if source.kind != "checkpoint" and _MODE.value != "evaluate":
    raise ValueError(f"Expected --mode=evaluate for --{source.kind}.")
  return source


def _workdir(source: evaluate.Source) -> str:
  """The directory of the run."""
  workdir = _WORKDIR.value or str(_default_workdir(source))
  storage.to_path(workdir)  # Before JAX starts.
  if _MODE.value == "render" and storage.is_remote(workdir):
    raise ValueError(
      f"Expected a --workdir on a file system for --mode=render, got {workdir}."
      " Render to a disk and copy the directory."
    )
  return workdir


def _default_workdir(source: evaluate.Source) -> pathlib.Path:
  """The directory for what is done, none that holds something else."""
  found = flag.run_directories(_CONFIG.value)
  other = f"runs/{run_name.run_name(_CONFIG.value, *flag.config_file())}"
  if _MODE.value == "render":
    return pathlib.Path(f"{other}_scenes")
  if source.kind != "checkpoint":
    # "hf://owner/name" becomes one part of a path.
    name = re.sub(r"[^\w.-]+", "_", source.name)
    return pathlib.Path(f"{other}_{source.kind}_{name}")
  if _MODE.value != "evaluate":
    return found[0]
  trained = (path for path in found if (path / "checkpoints").is_dir())
  return next(trained, found[0])


def _start_jax(workdir: str, config: Any) -> None:
  """Joins the other processes and sets where programs are kept."""
  processes.initialize(
    detect=_DISTRIBUTED.value,
    coordinator_address=_COORDINATOR_ADDRESS.value,
    num_processes=_NUM_PROCESSES.value,
    process_id=_PROCESS_ID.value,
  )
  compilation.keep_programs(_COMPILATION_CACHE.value)
  program_store.keep(_COMPILATION_CACHE.value, config, *flag.config_file())
  logging.info(
    "JAX %s, process %d of %d, devices %s, workdir %s.",
    jax.__version__,
    jax.process_index(),
    jax.process_count(),
    jax.devices(),
    workdir,
  )


_SUBCOMMANDS = {
  "predict": predict_command.main,
  "report": report_command.main,
  "demo": demo_command.main,
}


def _check_first_word(words: list[str]) -> None:
  """Raises ValueError unless the arguments begin with a flag."""
  if not words or not words[0].startswith("-"):
    raise ValueError(
      "Expected --config=NAME, as --config=quickstart, or one of "
      f"{sorted(_SUBCOMMANDS)}, got "
      f"{words[0] if words else 'no arguments'}. --help explains them."
    )


def _collect_garbage_less_often() -> None:
  """Leaves out what is imported, and lets more objects wait.

  Tracing makes objects by the million; by Python's settings, looking for
  unreachable ones takes a fifth of its time.
  """
  gc.freeze()
  gc.set_threshold(50_000, 20, 20)


def entry_point() -> None:
  """Starts a subcommand, or `main` under absl, with its log on stderr."""
  _collect_garbage_less_often()
  if len(sys.argv) > 1 and sys.argv[1] in _SUBCOMMANDS:
    _SUBCOMMANDS[sys.argv[1]](sys.argv[2:])
    return
  with user_errors.exit_on_user_error():
    _check_first_word(sys.argv[1:])
  # --help shows the flags of the script that was started, by its path.
  for key_flag in flags.FLAGS.get_key_flags_for_module(__name__):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], key_flag)
  flags.mark_flag_as_required("config")
  jax.config.config_with_absl()
  logging.set_verbosity(logging.INFO)
  try:
    with user_errors.exit_on_user_error():
      app.run(main, flags_parser=flags.FLAGS)
  except SystemExit as reason:
    if reason.code == user_errors.EXIT_CODE:
      # Orbax's threads would wait five minutes for a save that failed.
      processes.exit_now(reason)
    raise


if __name__ == "__main__":
  entry_point()
