"""Times the train step beside the same model in PyTorch.

  python -m experiments.benchmarks.step --config=clevr_set --batch_size=8

A step is forward pass, backward pass and Adam's update with its schedule, as
`steps.make_train_step` compiles it, on one batch of random arrays with the
shapes of the config's data, which stays on the device. First both sides compute
the loss, the output and all gradients from the same weights, arrays and slot
noise in float32; the benchmark stops if they differ. Then they take turns of
`--turn` steps, each until the device is done. Medians are over the turns. On a
CPU shared with other programs they are unreliable, PyTorch's in particular,
because threads wait for each other: check that the minimum is near the median.

The peer (`torch_peer.py`) is plain PyTorch; `--peer=torch_compile` compiles it
as a whole, `--peer=none` needs no PyTorch.

FLOP/s count the model's operations: twice the multiplications of convolutions,
dense layers and attention in their direct form, times three for a step. A side
that needs fewer, by another algorithm, gets credit for it. The ceiling is the
fastest product of two large square matrices in the step's precision, measured
before and after the steps; on a CPU the faster of JAX's and PyTorch's. Memory
is XLA's planned memory for the step, and PyTorch's peak memory on a GPU.
Compiling uses no cache.

The last line is JSON.
"""

import argparse
import importlib
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

# Room for both sides on one GPU; before the backend starts.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp

import slot_attention_jax as sa
from experiments.benchmarks import batches, flops, step_table
from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.models import from_config
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import optimizers, steps

PEERS = ("torch", "torch_compile", "none")
_MATMUL_SIZE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}


def matmul_seconds(size: int, dtype: Any, repeats: int) -> float:
  """Smallest time of a product of two square matrices, in seconds."""
  a = jax.random.normal(jax.random.key(0), (size, size), dtype)
  multiply = jax.jit(jnp.matmul).lower(a, a).compile()
  times = []
  for _ in range(repeats + 1):
    start = time.perf_counter()
    jax.block_until_ready(multiply(a, a))
    times.append(time.perf_counter() - start)
  return min(times)


class _JaxSide:
  """The package's train step on one batch."""

  def __init__(self, config, task, batch, mesh):
    optimizer, schedule = optimizers.create_optimizer(config.optim)
    self.state = steps.create_state(task, optimizer, config.seed, mesh)
    self.batch = jax.device_put(batch, mesh_lib.batch_sharding(mesh))
    step = steps.make_train_step(task, optimizer, schedule, mesh)
    start = time.perf_counter()
    self.step: Any = step.lower(self.state, self.batch).compile()
    self.compile_seconds = time.perf_counter() - start

  def __call__(self, num_steps):
    metrics = {}
    for _ in range(num_steps):
      self.state, metrics = self.step(self.state, self.batch)
    jax.block_until_ready((self.state, metrics))

  @property
  def peak_memory_bytes(self):
    memory = self.step.memory_analysis()
    return (
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      - memory.alias_size_in_bytes  # The donated state is counted once.
      + memory.temp_size_in_bytes
    )


def _seconds(call, *args):
  start = time.perf_counter()
  call(*args)
  return time.perf_counter() - start


def _settings(
  arguments: argparse.Namespace,
) -> tuple[Any, Any, jax.sharding.Mesh, dict[str, Any]]:
  """What is measured.

  Returns:
    The config, the task, a mesh of one device and what of them is reported.
  """
  config = sa.load_config(arguments.config)
  # The paper's, which the peer has too, whatever the variant's.
  config.optim.name, config.optim.schedule = "adam", "exponential"
  if arguments.precision:
    config.model.precision = arguments.precision
  config.train.batch_size = arguments.batch_size or config.train.batch_size
  if config.data.name == "clevr":
    config.data.name = "clevr_scenes"
  mesh = jax.make_mesh(
    (1,),
    (mesh_lib.AXIS,),
    devices=jax.devices()[:1],
    axis_types=(jax.sharding.AxisType.Auto,),
  )
  info = data_lib.create_dataset(
    config,
    "train",
    batch_size=1,
    sharding=mesh_lib.batch_sharding(mesh),
    warn=False,
  ).info
  backend = jax.default_backend()
  return (
    config,
    tasks.create_task(config, info),
    mesh,
    {
      "config": arguments.config,
      "batch_size": config.train.batch_size,
      "precision": config.model.precision,
      "data": f"random arrays of the shape of {info.name}",
      "work": "forward, backward, Adam",
      "device": f"{backend}, {jax.devices()[0].device_kind}",
      "threads": arguments.threads if backend == "cpu" else None,
      "jax": jax.__version__,
      "peer": arguments.peer,
      "max_objects": info.max_objects,
    },
  )


def _create_peer(arguments, config, task, batch, params):
  """The peer's train step, once it is known to compute the same.

  Returns:
    A pair: the step, and what is reported of the comparison.
  """
  # PyTorch need not be installed where there is no peer.
  torch_peer = importlib.import_module("experiments.benchmarks.torch_peer")
  torch_step = importlib.import_module("experiments.benchmarks.torch_step")
  torch_weights = importlib.import_module(
    "experiments.benchmarks.torch_weights"
  )
  torch_step.configure(arguments.threads)
  peer = torch_peer.Peer(task)
  peer.load_state_dict(torch_weights.to_state_dict(params["params"]))
  differences = torch_step.check_peer(task, params, batch, peer)
  compiled = arguments.peer == "torch_compile"
  step = torch_step.TrainStep(
    peer,
    config.optim,
    *torch_peer.to_tensors(batch),
    (len(batch["image"]), config.model.num_slots, config.model.slot_size),
    bfloat16=config.model.precision == "bfloat16",
    compile_mode=arguments.compile_mode if compiled else None,
  )
  return step, {
    "peer_runs_on": torch_step.describe(),
    "differences": differences,
  }


def _ceilings(arguments, size, *, bfloat16):
  """Functions that time a product of two large matrices of the given size."""
  dtype = jnp.bfloat16 if bfloat16 else jnp.float32
  ceilings = [lambda: matmul_seconds(size, dtype, arguments.steps)]
  if arguments.peer != "none" and jax.default_backend() == "cpu":
    torch_step = importlib.import_module("experiments.benchmarks.torch_step")
    ceilings.append(
      lambda: torch_step.matmul_seconds(
        size, bfloat16=bfloat16, repeats=arguments.steps
      )
    )
  return ceilings


def _time(arguments, sides, ceilings):
  """Lets the sides take turns.

  Returns:
    A triple: seconds of each side's first call, seconds of a step in each turn,
    and the fewest seconds of the ceilings, before and after.
  """
  first = {name: _seconds(side, 1) for name, side in sides.items()}
  for side in sides.values():
    side(arguments.turn)
  fastest = [ceiling() for ceiling in ceilings]
  times: dict[str, list[float]] = {name: [] for name in sides}
  for _ in range(arguments.steps):
    for name, side in sides.items():
      times[name].append(_seconds(side, arguments.turn) / arguments.turn)
  fastest += [ceiling() for ceiling in ceilings]
  return first, times, min(fastest)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
  """Measures; prints a table and returns what the last line holds."""
  # A compilation cache of the environment would hide the time of compiling.
  jax.config.update("jax_enable_compilation_cache", False)
  config, task, mesh, result = _settings(arguments)
  batch = batches.random_batch(
    task, result["batch_size"], result.pop("max_objects")
  )
  ours = _JaxSide(config, task, batch, mesh)
  sides: dict[str, Any] = {"step": ours}
  if arguments.peer != "none":
    params = jax.device_get(ours.state.params)
    sides["peer_step"], told = _create_peer(
      arguments, config, task, batch, params
    )
    result |= told
  size = arguments.matmul_size or _MATMUL_SIZE[jax.default_backend()]
  bfloat16 = config.model.precision == "bfloat16"
  first, times, fastest = _time(
    arguments, sides, _ceilings(arguments, size, bfloat16=bfloat16)
  )
  work = (
    3 * flops.forward_flops(task.model, task.image_shape) * len(batch["image"])
  )
  ceiling = 2 * size**3 / fastest
  for name, values in times.items():
    result[f"{name}_seconds"] = statistics.median(values)
    result[f"{name}_seconds_min"] = min(values)
    rate = work / result[f"{name}_seconds"]
    result[f"{name}_model_flops_per_second"] = rate
    result[f"{name}_ceiling_share"] = rate / ceiling
  result |= {
    "steps": arguments.steps,
    "turn": arguments.turn,
    "model_flops_per_step": work,
    "ceiling_flops_per_second": ceiling,
    "step_compile_seconds": ours.compile_seconds,
    "step_memory_bytes": ours.peak_memory_bytes,
  }
  if "peer_step" in sides:
    result["ratio"] = result["peer_step_seconds"] / result["step_seconds"]
    result["peer_step_compile_seconds"] = max(
      0.0, first["peer_step"] - result["peer_step_seconds"]
    )
    result["peer_step_memory_bytes"] = sides["peer_step"].peak_memory_bytes
  step_table.print_result(result, list(sides))
  return result


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Reads the arguments and measures."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--config", default="clevr_set", help="name or path, with :arguments"
  )
  parser.add_argument(
    "--batch_size", type=int, default=0, help="images; 0: the config's"
  )
  parser.add_argument("--steps", type=int, default=7, help="timed turns")
  parser.add_argument(
    "--turn", type=int, default=1, help="steps of one side in a row"
  )
  parser.add_argument(
    "--precision",
    choices=sorted(from_config.PRECISIONS),
    help="of both sides; default: the config's",
  )
  parser.add_argument("--peer", choices=PEERS, default="torch")
  parser.add_argument(
    "--compile_mode", default="default", help="of torch.compile"
  )
  parser.add_argument(
    "--threads", type=int, default=0, help="cores to use; 0: all"
  )
  parser.add_argument(
    "--matmul_size", type=int, default=0, help="of the ceiling; 0: by device"
  )
  arguments = parser.parse_args(argv)
  for name in ("steps", "turn"):
    if getattr(arguments, name) < 1:
      parser.error(f"Expected --{name} of at least 1.")
  cores = sorted(os.sched_getaffinity(0))
  if arguments.threads > len(cores):
    parser.error(
      f"Expected --threads of at most the {len(cores)} cores at hand, got "
      f"{arguments.threads}."
    )
  if arguments.threads:
    # XLA's threads are as many as the cores that it may use when it starts.
    os.sched_setaffinity(0, cores[: arguments.threads])
  else:
    arguments.threads = len(cores)
  return run(arguments)


if __name__ == "__main__":
  main()
