"""Weak scaling over processes of one machine, and what they send each step.

  python -m experiments.benchmarks.scaling --processes=1,2,4

Each process has one CPU device, is pinned to one core (process i to core i
modulo the number of cores) and trains on `--images` images of its own, so that
the global batch grows with the number of processes. They are connected like
hosts, by JAX's multi-process runtime, and sum gradients over TCP (gloo). For
each number of processes a table shows the median time of a step, the efficiency
(the time for one process divided by that for n), and the CPU time that all
processes together spend on an image. With more processes than cores they take
turns, and the efficiency reflects that rather than the network.

Communication is counted in the compiled train step: the number of all-reduces
and the bytes of their results on each device, and any other collectives; one in
a loop counts once per iteration. The `--compile_only` configs are compiled for
two devices and not run. The GFLOP of an image are three times those of the
model's forward pass.

The last line is JSON.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
_COMPILE_ONLY = "clevr_discovery;clevr_set"


def work(arguments: argparse.Namespace) -> dict:
  """What one process does: compiles the train step of a config, times it."""
  import jax

  import slot_attention_jax as sa
  from experiments.benchmarks import collectives, flops
  from slot_attention_jax import data as data_lib
  from slot_attention_jax import tasks
  from slot_attention_jax.runtime import mesh as mesh_lib
  from slot_attention_jax.runtime import processes as processes_lib
  from slot_attention_jax.training import optimizers, steps

  if arguments.coordinator:
    processes_lib.initialize(
      coordinator_address=arguments.coordinator,
      num_processes=arguments.count,
      process_id=arguments.process,
    )
  config = sa.load_config(arguments.config)
  if config.data.name == "clevr":
    config.data.name = "clevr_scenes"
  mesh = mesh_lib.create_mesh()
  dataset = data_lib.create_dataset(
    config,
    "train",
    batch_size=arguments.images * mesh.size,
    sharding=mesh_lib.batch_sharding(mesh),
    warn=False,
  )
  task = tasks.create_task(config, dataset.info)
  optimizer, schedule = optimizers.create_optimizer(config.optim)
  state = steps.create_state(task, optimizer, arguments.seed, mesh)
  train_step = steps.make_train_step(task, optimizer, schedule, mesh)
  # The first batch again and again: the scenes are not what is measured.
  batch = jax.block_until_ready(dataset.batch(0))
  lowered = train_step.lower(state, batch)
  compiled = lowered.compile()
  forward_flops = flops.forward_flops(task.model, task.image_shape)
  result = {
    "gflop_per_image": 3e-9 * forward_flops,
    "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
    "collectives": collectives.count_collectives(compiled.as_text()),
  }
  if not arguments.steps:
    return result
  seconds = []
  for step in range(arguments.warmup + arguments.steps):
    if step == arguments.warmup:
      cpu = time.process_time()
    began = time.perf_counter()
    state, metrics = train_step(state, batch)
    jax.block_until_ready(metrics)
    seconds.append(time.perf_counter() - began)
  cpu = time.process_time() - cpu
  return result | {
    "seconds": seconds[arguments.warmup :],
    "cpu_seconds": cpu,
    "loss": float(metrics["loss"]),
  }


def _free_port() -> int:
  with socket.socket() as server:
    server.bind(("localhost", 0))
    return server.getsockname()[1]


def _launch(
  arguments: argparse.Namespace, config: str, count: int, steps: int
) -> list[dict]:
  """Starts so many processes; none of them runs where `steps` is 0."""
  cores = sorted(os.sched_getaffinity(0))
  coordinator = f"localhost:{_free_port()}" if steps else ""
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": os.pathsep.join(
      [str(ROOT), os.environ.get("PYTHONPATH", "")]
    ),
    "XLA_FLAGS": ""
    if steps
    else (
      "--xla_force_host_platform_device_count=2 "
      "--xla_backend_optimization_level=0"
    ),
  }
  processes = []
  for i in range(count):
    command = [sys.executable, "-m", "experiments.benchmarks.scaling"]
    command += [f"--config={config}"]
    command += [f"--images={arguments.images}", f"--steps={steps}"]
    command += [f"--warmup={arguments.warmup}", f"--seed={arguments.seed}"]
    command += [f"--process={i}", f"--count={count}"]
    command += [f"--coordinator={coordinator}"]
    processes.append(
      subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True
      )
    )
    if steps:
      os.sched_setaffinity(processes[-1].pid, {cores[i % len(cores)]})
  results = []
  try:
    for process in processes:
      out, _ = process.communicate()
      if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}.")
      results.append(json.loads(out.splitlines()[-1]))
  finally:
    for process in processes:
      process.kill()
  return results


def _row(results: list[dict], images: int) -> dict:
  """The numbers of so many processes."""
  count, steps = len(results), len(results[0]["seconds"])
  losses = {result["loss"] for result in results}
  if len(losses) != 1:
    raise RuntimeError(f"The processes differ in their loss: {losses}.")
  seconds = statistics.median(results[0]["seconds"])
  return {
    "processes": count,
    "step_seconds": seconds,
    "images_per_second": count * images / seconds,
    "cpu_seconds_per_image": sum(r["cpu_seconds"] for r in results)
    / (count * images * steps),
    "collectives": results[0]["collectives"],
    "loss": losses.pop(),
  }


def _sent(found: dict[str, dict[str, int]]) -> str:
  return (
    ", ".join(
      f"{entry['count']} {name} of {entry['bytes']:,} bytes"
      for name, entry in sorted(found.items())
    )
    or "nothing"
  )


def _parse(argv: list[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--config", default="quickstart", help="NAME or NAME:ARG")
  parser.add_argument("--processes", default="1,2,4")
  parser.add_argument("--images", type=int, default=4, help="of each process")
  parser.add_argument("--steps", type=int, default=40, help="that are timed")
  parser.add_argument("--warmup", type=int, default=5, help="steps before them")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--compile_only", default=_COMPILE_ONLY)
  for name in ("--process", "--count"):
    parser.add_argument(name, type=int, help=argparse.SUPPRESS)
  parser.add_argument("--coordinator", help=argparse.SUPPRESS)
  return parser.parse_args(argv)


def _scale(arguments: argparse.Namespace, cores: int) -> list[dict]:
  """Runs the config on each number of processes; prints the table."""
  counts = [int(count) for count in arguments.processes.split(",")]
  print(
    f"{arguments.config}, {arguments.images} images a process, {cores} cores"
  )
  print(
    "| processes | cores each | step, ms | images/s | efficiency | CPU ms per "
    "image | sent per step |\n|---|---|---|---|---|---|---|"
  )
  rows = []
  for count in counts:
    results = _launch(arguments, arguments.config, count, arguments.steps)
    rows.append(row := _row(results, arguments.images))
    row["efficiency"] = rows[0]["step_seconds"] / row["step_seconds"]
    print(
      f"| {count} | {min(1.0, cores / count):g} "
      f"| {1e3 * row['step_seconds']:.1f} | {row['images_per_second']:.1f} "
      f"| {row['efficiency']:.2f} | {1e3 * row['cpu_seconds_per_image']:.1f} "
      f"| {_sent(row['collectives'])} |",
      flush=True,
    )
  return rows


def _compile(arguments: argparse.Namespace) -> dict[str, dict]:
  """Compiles the `--compile_only` configs; prints a line for each."""
  compiled = {}
  for config in filter(None, arguments.compile_only.split(";")):
    compiled[config] = _launch(arguments, config, 1, 0)[0]
    print(
      f"{config}: {compiled[config]['parameters']:,} parameters, "
      f"{compiled[config]['gflop_per_image']:.1f} GFLOP per image, "
      f"{_sent(compiled[config]['collectives'])}",
      flush=True,
    )
  return compiled


def main(argv: list[str] | None = None) -> dict:
  """Runs the benchmark; prints tables, then JSON, which it returns."""
  arguments = _parse(argv)
  if arguments.process is not None:  # This is one of the processes.
    result = work(arguments)
    print(json.dumps(result), flush=True)
    return result
  cores = len(os.sched_getaffinity(0))
  result = {
    "config": arguments.config,
    "images_per_process": arguments.images,
    "seed": arguments.seed,
    "cores": cores,
    "rows": _scale(arguments, cores),
    "compiled": _compile(arguments),
  }
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  main()
