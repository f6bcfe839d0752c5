"""What a command waits for before its first step: programs, and their seconds.

  python -m experiments.benchmarks.cold_start --config=configs/CONFIG.py:debug

Runs the command line in a process of its own with an empty cache of compiled
programs, prints CPU and wall seconds of the whole command, seconds of tracing,
lowering, compiling, loading (without the former) and keeping each program, and
a line of JSON. `--warm` runs it again with the cache that the first run filled.
`--hlo` also counts the instructions of each program before XLA optimizes it,
which takes time of its own. `--tree=DIR` measures another checkout of the
package by the same script.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from typing import Any

_STAGES = {
  "/jax/core/compile/jaxpr_trace_duration": "tracing",
  "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
  "/jax/core/compile/backend_compile_duration": "compiling",
  "/slot_attention_jax/programs/load_duration": "loading",
  "/slot_attention_jax/programs/keep_duration": "keeping",
}
_ROWS = 20
_ROOT = pathlib.Path(__file__).resolve().parents[2]

Programs = dict[str, dict[str, float]]
"""By name: seconds of each stage, and the number of programs of that name."""


def program_name(name: str) -> str:
  """The function's name, of a traced function or a compiled program.

  Args:
    name: as JAX reports it.

  Returns:
    The name without what JAX adds.

  Example:
    >>> from experiments.benchmarks import cold_start
    >>> cold_start.program_name("jit(update)")
    'update'
  """
  match = re.fullmatch(r"\w+\((.*)\)", name)
  return match[1] if match else name


def measure_here(arguments: list[str], output: str) -> None:
  """Runs the command line in this process, writes what it compiled as JSON."""
  import jax

  programs: Programs = collections.defaultdict(
    lambda: {**dict.fromkeys(_STAGES.values(), 0.0), "count": 0}
  )

  def listen(event: str, seconds: float, fun_name: str = "", **_: Any) -> None:
    if event in _STAGES:
      program = programs[program_name(fun_name)]
      program[_STAGES[event]] += seconds
      program["count"] += _STAGES[event] == "compiling"

  jax.monitoring.register_event_duration_secs_listener(listen)
  sys.argv = ["slot-attention", *arguments]
  try:
    runpy.run_module("slot_attention_jax.main", run_name="__main__")
  finally:
    pathlib.Path(output).write_text(json.dumps(programs), encoding="utf-8")


def run(
  arguments: list[str], tree: pathlib.Path, cache: str, dump: str = ""
) -> dict[str, Any]:
  """Runs the command line in a process of its own.

  Args:
    arguments: of the command, without directories.
    tree: checkout of the package.
    cache: directory of compiled programs.
    dump: directory for the programs as text; "": they are not written.

  Returns:
    `cpu_seconds` and `wall_seconds` of the command, its `programs`, and with
    `dump` the `instructions` of each.

  Raises:
    subprocess.CalledProcessError: if the command fails.
  """
  environment = {**os.environ, "PYTHONPATH": str(tree)}
  environment.pop("JAX_COMPILATION_CACHE_DIR", None)
  if dump:
    flags = f"--xla_dump_to={dump} --xla_dump_hlo_as_text"
    environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}"
  with tempfile.TemporaryDirectory() as directory:
    output = os.path.join(directory, "programs.json")
    command = [sys.executable, __file__, f"--measure_here={output}", "--"]
    command += [*arguments, f"--workdir={directory}/run"]
    command += [f"--compilation_cache={cache}"]
    began, before = time.monotonic(), _cpu_seconds()
    subprocess.run(
      command, env=environment, cwd=tree, check=True, stderr=subprocess.DEVNULL
    )
    result = {
      "cpu_seconds": _cpu_seconds() - before,
      "wall_seconds": time.monotonic() - began,
      "programs": json.loads(pathlib.Path(output).read_text()),
    }
  if dump:
    result["instructions"] = instructions(dump)
  return result


def _cpu_seconds() -> float:
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  return usage.ru_utime + usage.ru_stime


def instructions(dump: str) -> dict[str, int]:
  """Instructions of each program before optimization.

  Args:
    dump: the directory that XLA wrote programs to.

  Returns:
    Counts by the name of the function; programs of one name are added.
  """
  counts: dict[str, int] = collections.Counter()
  for path in pathlib.Path(dump).glob("*.before_optimizations.txt"):
    name = re.sub(r"^module_\d+\.(jit_)?|\..*$", "", path.name)
    counts[name] += path.read_text().count(" = ")
  return dict(counts)


def report(title: str, result: dict[str, Any]) -> str:
  """A table of the programs that took longest.

  Args:
    title: of the table.
    result: of `run`.

  Returns:
    Markdown.
  """
  programs: Programs = result["programs"]
  stages = list(_STAGES.values())
  totals = {s: sum(p[s] for p in programs.values()) for s in stages}
  count = sum(int(p["count"]) for p in programs.values())
  lines = [
    f"{title}: {result['cpu_seconds']:.1f} CPU seconds, "
    f"{result['wall_seconds']:.1f} of wall time, {count} programs; "
    + ", ".join(f"{stage} {totals[stage]:.1f}" for stage in stages),
    "",
    "| program | count | " + " | ".join(stages) + " | instructions |",
    "|---" * (len(stages) + 3) + "|",
  ]
  found = result.get("instructions", {})
  by_time = sorted(
    programs.items(), key=lambda item: -sum(item[1][s] for s in stages)
  )
  for name, program in by_time[:_ROWS]:
    seconds = " | ".join(f"{program[stage]:.2f}" for stage in stages)
    number = found.get(name, "")
    lines.append(f"| {name} | {int(program['count'])} | {seconds} | {number} |")
  return "\n".join(lines)


def main() -> None:
  """Measures as the arguments say."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--config", default="quickstart:debug")
  parser.add_argument("--tree", type=pathlib.Path, default=_ROOT)
  parser.add_argument("--warm", action="store_true")
  parser.add_argument("--hlo", action="store_true")
  parser.add_argument("--measure_here", default="", help=argparse.SUPPRESS)
  parser.add_argument("rest", nargs="*", help="other flags, after --")
  args = parser.parse_args()
  if args.measure_here:
    measure_here(args.rest, args.measure_here)
    return
  flags = [f"--config={args.config}", *args.rest]
  tree = args.tree.resolve()
  summary = {"config": args.config, "tree": str(args.tree)}
  with tempfile.TemporaryDirectory() as cache:
    for name in ("cold", "warm") if args.warm else ("cold",):
      with tempfile.TemporaryDirectory() as dump:
        result = run(flags, tree, cache, dump if args.hlo else "")
      print(report(f"{args.config}, {name}", result), end="\n\n")
      for key in ("cpu_seconds", "wall_seconds"):
        summary[f"{name}_{key}"] = round(result[key], 2)
      summary[f"{name}_programs"] = sum(
        int(p["count"]) for p in result["programs"].values()
      )
  print(json.dumps(summary))


if __name__ == "__main__":
  main()
