"""The paper's protocol: trains and evaluates several seeds, writes a row.

  python -m experiments.reproduce --task=tetrominoes --seeds=0,1,2,3,4

Each seed is trained in `WORKDIR/TASK/SEED` and evaluated on fixed scenes of the
split "test", which do not occur in training: 320 scenes, or 15,000 for average
precision. A trained seed is only evaluated, a stopped one resumes. A seed that
fails or runs out of time (`train.max_minutes`) keeps its place in the row, with
the reason. The Markdown row is appended to `--output`, if given; the last line
is JSON. Mean and sample standard deviation are over the seeds that finished;
the row says how many did.

`--set=small,optim.learning_rate=1e-3` selects a variant of the config and
overrides keys. The row shows them in its command, and the runs have a directory
of their own.
"""

import argparse
import datetime
import hashlib
import json
import pathlib
import re
import statistics
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from absl import logging

import slot_attention_jax as sa
from slot_attention_jax import evaluate, train
from slot_attention_jax.training import writers

_AP = tuple(f"ap_{t}" for t in ("inf", "1", "0.5", "0.25", "0.125"))


class Task(NamedTuple):
  """A task of the paper and the paper's results.

  Attributes:
    config: name in `configs/`.
    metrics: short names of the row's metrics, which are in [0, 1].
    paper: the paper's results, in percent.
    num_scenes: number of scenes of the evaluation here.
  """

  config: str
  metrics: tuple[str, ...]
  paper: str
  num_scenes: int = 320


TASKS = {
  "clevr6": Task("clevr_discovery", ("fg_ari",), "98.8 +- 0.3"),
  "multi_dsprites": Task("multi_dsprites", ("fg_ari",), "91.3 +- 0.3"),
  "tetrominoes": Task("tetrominoes", ("fg_ari",), "99.5 +- 0.2 (4 of 5 seeds)"),
  "clevr_set": Task(
    "clevr_set",
    _AP,
    "94.3 +- 1.1 / 86.7 +- 1.4 / 56.0 +- 3.6 / 10.8 +- 1.7 / 0.9 +- 0.2",
    15_000,
  ),
  "quickstart": Task("quickstart", ("fg_ari",), "not in the paper"),
}
HEADER = (
  "| task | paper, % | ours, % | each seed | data | hardware | minutes | "
  "command | date |\n" + "|---" * 9 + "|\n"
)


def load_config(task: Task, seed: int, overrides: str) -> Any:
  """Loads the config of a seed.

  Args:
    task: the task.
    seed: seed of the run.
    overrides: variants and `key=value`, separated by commas; "" for none.

  Returns:
    The config, locked.

  Raises:
    ValueError: on an unknown key.
  """
  config = sa.load_config(f"{task.config}:{overrides}")
  config.seed = seed
  return config


def directory_name(name: str, overrides: str) -> str:
  """Name of the directory of a task's runs, unique to the overrides.

  Example:
    >>> from experiments import reproduce
    >>> reproduce.directory_name("clevr_set", "small,model.num_slots=12")
    'clevr_set-small-model.num_slots-12'
  """
  text = re.sub(r"[^\w.]+", "-", overrides).strip("-")
  if len(text) > 60:
    digest = hashlib.sha256(overrides.encode()).hexdigest()[:8]
    text = f"{text[:50]}-{digest}"
  return "-".join(filter(None, [name, text]))


def make_command(task: Task, seed: int, overrides: str) -> str:
  """Flags of the training program that give the config of `load_config`."""
  name = ":".join(filter(None, [f"configs/{task.config}.py", overrides]))
  return f"--config={name} --config.seed={seed}"


def run_seed(
  task: Task,
  config: Any,
  workdir: pathlib.Path,
  num_scenes: int,
  command: str = "",
) -> dict[str, Any]:
  """Trains, or resumes, and evaluates.

  Args:
    task: the task.
    config: from `load_config`.
    workdir: directory of the run.
    num_scenes: number of scenes of the evaluation.
    command: flags that make the config, recorded in `metadata.json`.

  Returns:
    `metrics` by short name, `data`, `minutes` of training, over all restarts,
    `step`, and `failure`: None, or the reason why there are no metrics.
  """
  result: dict[str, Any] = {"seed": config.seed, "failure": None}
  try:
    train.train(config, str(workdir), command=command)
    result |= _progress(workdir)
    if result["step"] < config.train.num_steps:
      result["failure"] = f"at {result['step']} of {config.train.num_steps}"
      return result
    config = config.copy_and_resolve_references()
    config.data.scenes.num_eval = num_scenes
    config.eval.split = "test"
    metrics = evaluate.evaluate_model(config, str(workdir))
  except Exception as error:  # Whatever it is, the other seeds run.
    logging.error("Seed %d failed.\n%s", config.seed, traceback.format_exc())
    reason = str(error).partition("\n")[0][:100]
    result["failure"] = f"failed: {type(error).__name__}: {reason}"
    return result | _progress(workdir)
  (result["data"],) = {name.rsplit("/", 1)[0] for name in metrics}
  short = {name.rsplit("/", 1)[1]: value for name, value in metrics.items()}
  if missing := set(task.metrics) - set(short):
    result["failure"] = f"failed: {result['data']} has no {sorted(missing)}"
  return result | {"metrics": short}


def _progress(workdir: pathlib.Path) -> dict[str, Any]:
  """Steps done and minutes of wall time, from the metrics of a run."""
  path = workdir / writers.METRICS_FILE
  if not path.exists():
    return {"step": 0, "minutes": 0.0}
  last = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
  return {"step": last["step"], "minutes": last["seconds"] / 60}


def row(
  name: str, results: Sequence[dict[str, Any]], command: str, date: str
) -> str:
  """Formats a row of the Markdown table below `HEADER`.

  Args:
    name: name of the task.
    results: from `run_seed`, at least one.
    command: the command that reproduces the row.
    date: ISO 8601.

  Returns:
    The line, with its newline.
  """
  task = TASKS[name]
  finished = [r for r in results if r["failure"] is None]
  means = []
  for metric in task.metrics if finished else ():
    values = [100 * r["metrics"][metric] for r in finished]
    spread = f" +- {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    means.append(f"{statistics.mean(values):.1f}{spread}")
  ours = " / ".join(means) or "none"
  ours += f" ({len(finished)} of {len(results)} seeds)"
  each = "; ".join(
    f"{r['seed']}: "
    + (
      r["failure"]
      or " / ".join(f"{100 * r['metrics'][m]:.1f}" for m in task.metrics)
    )
    for r in results
  )
  data = ", ".join(sorted({r["data"] for r in finished})) or "none"
  minutes = " / ".join(f"{r['minutes']:.1f}" for r in results)
  device = jax.devices()[0]
  hardware = f"{jax.device_count()} x {device.device_kind}"
  # A reason may contain `|`, which would end the cell.
  cells = [name, task.paper, ours, each, data, hardware, minutes]
  cells += [f"`{command}`", date]
  return "| " + " | ".join(c.replace("|", "/") for c in cells) + " |\n"


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Runs the seeds; prints the row, then JSON, which it returns."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--task", choices=sorted(TASKS), required=True)
  parser.add_argument("--seeds", default="0,1,2,3,4")
  parser.add_argument("--workdir", type=pathlib.Path, default="runs/reproduce")
  parser.add_argument("--set", default="", help="key=value,... of the config")
  parser.add_argument(
    "--num_scenes", type=int, help="number of scenes of the evaluation"
  )
  parser.add_argument("--output", type=pathlib.Path, help="Markdown file")
  arguments = parser.parse_args(argv)
  try:
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
  except ValueError:
    parser.error(f"Expected --seeds as 0,1,2, got {arguments.seeds!r}.")
  task = TASKS[arguments.task]
  configs = [load_config(task, seed, arguments.set) for seed in seeds]
  num_scenes = arguments.num_scenes or task.num_scenes
  directory = directory_name(arguments.task, arguments.set)
  results = [
    run_seed(
      task,
      config,
      arguments.workdir / directory / str(config.seed),
      num_scenes,
      make_command(task, config.seed, arguments.set),
    )
    for config in configs
  ]
  command = f"python -m experiments.reproduce --task={arguments.task}"
  command += f" --seeds={arguments.seeds}"
  if arguments.set:
    command += f' --set="{arguments.set}"'
  if arguments.num_scenes:
    command += f" --num_scenes={arguments.num_scenes}"
  date = datetime.datetime.now(datetime.UTC).date().isoformat()
  line = row(arguments.task, results, command, date)
  print(HEADER + line, end="")
  if arguments.output:
    new = not arguments.output.exists()
    with arguments.output.open("a", encoding="utf-8") as file:
      file.write(HEADER + line if new else line)
  result = {
    "task": arguments.task,
    "command": command,
    "date": date,
    "num_scenes": num_scenes,
    "seeds": results,
  }
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  main()
