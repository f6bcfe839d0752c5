"""Times the train step beside the same model in PyTorch.

  python -m experiments.benchmarks.step --config=clevr_set --batch_size=8

A step is forward pass, backward pass and Adam's update with its schedule, as
`steps.make_train_step` compiles it, on one batch of random arrays in the shape
of the config's data that stays on the device. First both sides compute the
loss, the output and all gradients from the same weights, arrays and slot noise
in float32, and the benchmark stops if they differ. Then they take turns of
`--turn` steps, each until the device is done. Medians are over the turns; on a
CPU that other programs use too, threads that wait for each other make them
useless, PyTorch's above all: see that the least is near the median.

The peer (`torch_peer.py`) is plain PyTorch, compiled as a whole
with `--peer=torch_compile`. `--peer=none` needs no PyTorch.

FLOP/s are those of the model: twice the multiplications of its convolutions,
dense layers and attention in their plain form, times three for a step. What a
side saves by rearranging them counts for it. The ceiling is the best product of
two large square matrices in the step's precision, on a CPU the better of JAX's
and PyTorch's, before and after the steps. Memory is what XLA plans for the step
and what PyTorch held at most on a GPU. Compiling uses no cache.

The last line is JSON.
"""

import argparse
import dataclasses
import importlib
import json
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

# Room for both sides on one GPU; before the backend starts.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import configuration
from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.models import from_config
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.tasks import set_prediction
from slot_attention_jax.training import optimizers, steps

PEERS = ("torch", "torch_compile", "none")
# Largest differences from the peer. Gradients are relative to the norm of each
# parameter's; at the start of a training those of the encoder are the sum of
# terms a thousand times as large, which rounds them.
_BOUNDS = {
  "output": 1e-4,
  "loss": 1e-4,
  "gradient norm": 1e-3,
  "gradient": 1e-2,
}
_MATMUL_SIZE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}


def random_batch(task: Any, batch_size: int, max_objects: int) -> dict:
  """Random arrays in the shape of a training batch, NumPy.

  Args:
    task: the task, which knows the images' shape and the targets' layout.
    batch_size: B.
    max_objects: O, rows of a target.

  Returns:
    `image` and, for set prediction, `target`; the number of real objects and
    their properties are uniform.
  """
  rng = np.random.default_rng(0)
  shape = (batch_size, *task.image_shape)
  batch = {"image": rng.uniform(-1, 1, shape).astype(np.float32)}
  if isinstance(task, set_prediction.SetPrediction):
    rows, values = (batch_size, max_objects), {}
    for prop in task.layout.of_kind("continuous"):
      values[prop.name] = rng.uniform(prop.low, prop.high, (*rows, prop.size))
    for prop in task.layout.of_kind("categorical"):
      values[prop.name] = rng.integers(0, prop.size, rows)
    count = rng.integers(1, max_objects + 1, (batch_size, 1))
    real = np.arange(max_objects)[None] < count
    batch["target"] = np.asarray(task.layout.encode(values, real))
  return batch


def forward_flops(model: Any, image_shape: Sequence[int]) -> int:
  """Floating-point operations of a forward pass of one image.

  Twice the multiplications of convolutions, dense layers and attention as the
  paper words the model (every slot's grid goes through the whole decoder);
  position embeddings, norms and other elementwise operations are left out.

  Args:
    model: a model of the package.
    image_shape: (H, W, 3).

  Returns:
    The count.
  """
  k, d = model.num_slots, model.slot_size
  (h, w, channels), products = image_shape, 0
  for features, size, stride in zip(
    model.encoder_channels,
    model.encoder_kernel_sizes,
    model.encoder_strides,
    strict=True,
  ):
    h, w = -(-h // stride), -(-w // stride)
    products += h * w * size**2 * channels * features
    channels = features
  n = h * w
  for width in (*model.encoder_mlp_sizes,):
    products += n * channels * width
    channels = width
  products += 2 * n * channels * d  # Keys and values.
  # Queries and the GRU's two products with three gates; logits and updates.
  iteration = k * d * (d + 6 * d) + 2 * k * n * d
  iteration += 2 * k * d * (model.mlp_hidden_size or 0)
  products += model.num_iterations * iteration
  if hasattr(model, "broadcast_size"):
    (h, w), channels = model.broadcast_size, d
    for features, size, stride in zip(
      (*model.decoder_channels, 4),
      model.decoder_kernel_sizes,
      model.decoder_strides,
      strict=True,
    ):
      products += k * h * w * size**2 * channels * features
      h, w, channels = h * stride, w * stride, features
  else:
    products += k * model.head_hidden_size * (d + model.num_properties)
  return 2 * products


def check_peer(task: Any, params: Any, batch: dict, peer: Any) -> dict:
  """Compares losses, outputs and gradients of both sides in float32.

  Args:
    task: the task.
    params: its parameters.
    batch: a NumPy batch, of which at most two examples are used.
    peer: the peer, which holds the same weights.

  Returns:
    The largest differences by the names of `_BOUNDS`.

  Raises:
    ValueError: if the two do not compute the same.
  """
  from experiments.benchmarks import torch_peer

  batch = {name: x[:2] for name, x in batch.items()}
  model = task.model.clone(dtype=None)
  shape = (len(batch["image"]), model.num_slots, model.slot_size)
  noise = np.random.default_rng(1).normal(size=shape).astype(np.float32)

  def loss(params):
    exact = dataclasses.replace(task, model=model)
    output = model.apply(params, batch["image"], noise=noise)
    outputs = getattr(output, "reconstruction", None)
    if outputs is None:
      outputs = output.predictions
    return exact.loss(params, batch, noise), outputs

  with jax.default_matmul_precision("float32"):
    (value, output), gradients = jax.device_get(
      jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    )
  value_of_peer, output_of_peer, theirs = torch_peer.loss_and_gradients(
    peer, *torch_peer.to_tensors(batch), noise
  )
  ours = torch_peer.to_state_dict(gradients["params"])
  whole = np.sqrt(sum(np.sum(x.numpy() ** 2) for x in ours.values()))
  differences = dict.fromkeys(_BOUNDS, 0.0)
  differences["output"] = float(np.max(np.abs(output - output_of_peer)))
  differences["loss"] = abs(float(value) - value_of_peer) / abs(float(value))
  for name, tensor in ours.items():
    mine, other = tensor.numpy(), theirs[name]
    if name.endswith("bias_hh"):  # Its other gates are those of bias_ih.
      other = np.where(mine == 0, 0, other)
    norms = np.linalg.norm(mine), np.linalg.norm(other)
    # One is zero but for rounding: a bias of all queries changes nothing.
    scale = max(norms[0], 1e-3 * whole)
    for key, difference in (
      ("gradient norm", abs(norms[0] - norms[1])),
      ("gradient", np.linalg.norm(mine - other)),
    ):
      differences[key] = max(differences[key], float(difference / scale))
  for name, difference in differences.items():
    if not difference <= _BOUNDS[name]:
      raise ValueError(
        f"Expected the peer to compute the same, got a difference of the "
        f"{name} of {difference:.1e} where {_BOUNDS[name]:g} is allowed: it is "
        "another model, and its time says nothing."
      )
  return differences


def matmul_seconds(size: int, dtype: Any, repeats: int) -> float:
  """Fewest seconds of a product of two square matrices."""
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


def run(arguments: argparse.Namespace) -> dict[str, Any]:
  """Measures; prints a table and returns what the last line holds."""
  config = configuration.load_config(arguments.config)
  # The paper's, which the peer has too, whatever the recipe's.
  config.optim.name, config.optim.schedule = "adam", "exponential"
  if arguments.precision:
    config.model.precision = arguments.precision
  batch_size = arguments.batch_size or config.train.batch_size
  if config.data.name == "clevr":
    config.data.name = "clevr_scenes"
  # A compilation cache of the environment would hide the time of compiling.
  jax.config.update("jax_enable_compilation_cache", False)
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
  task = tasks.create_task(config, info)
  batch = random_batch(task, batch_size, info.max_objects)
  ours = _JaxSide(config, task, batch, mesh)
  bfloat16 = config.model.precision == "bfloat16"
  backend = jax.default_backend()
  size = arguments.matmul_size or _MATMUL_SIZE[backend]
  sides: dict[str, Any] = {"step": ours}
  ceilings = [
    lambda: matmul_seconds(
      size, jnp.bfloat16 if bfloat16 else jnp.float32, arguments.steps
    )
  ]
  result: dict[str, Any] = {
    "config": arguments.config,
    "batch_size": batch_size,
    "precision": config.model.precision,
    "data": f"random arrays of the shape of {info.name}",
    "work": "forward, backward, Adam",
    "device": f"{backend}, {jax.devices()[0].device_kind}",
    "threads": arguments.threads if backend == "cpu" else None,
    "jax": jax.__version__,
    "peer": arguments.peer,
  }
  torch_peer: Any = None
  if arguments.peer != "none":
    torch_peer = importlib.import_module("experiments.benchmarks.torch_peer")
    torch_peer.configure(arguments.threads)
    result["peer_runs_on"] = torch_peer.describe()
    params = jax.device_get(ours.state.params)
    peer = torch_peer.Peer(task)
    peer.load_state_dict(torch_peer.to_state_dict(params["params"]))
    result["differences"] = check_peer(task, params, batch, peer)
    theirs = torch_peer.TrainStep(
      peer,
      config.optim,
      *torch_peer.to_tensors(batch),
      (batch_size, config.model.num_slots, config.model.slot_size),
      bfloat16=bfloat16,
      compile_mode=arguments.compile_mode
      if arguments.peer == "torch_compile"
      else None,
    )
    sides["peer_step"] = theirs
    if backend == "cpu":
      ceilings.append(
        lambda: torch_peer.matmul_seconds(
          size, bfloat16=bfloat16, repeats=arguments.steps
        )
      )
  first = {name: _seconds(side, 1) for name, side in sides.items()}
  for side in sides.values():
    side(arguments.turn)
  fastest = [ceiling() for ceiling in ceilings]
  times: dict[str, list[float]] = {name: [] for name in sides}
  for _ in range(arguments.steps):
    for name, side in sides.items():
      times[name].append(_seconds(side, arguments.turn) / arguments.turn)
  fastest += [ceiling() for ceiling in ceilings]
  flops = 3 * batch_size * forward_flops(task.model, task.image_shape)
  ceiling = 2 * size**3 / min(fastest)
  for name, values in times.items():
    result[f"{name}_seconds"] = statistics.median(values)
    result[f"{name}_seconds_min"] = min(values)
    rate = flops / result[f"{name}_seconds"]
    result[f"{name}_model_flops_per_second"] = rate
    result[f"{name}_ceiling_share"] = rate / ceiling
  result |= {
    "steps": arguments.steps,
    "turn": arguments.turn,
    "model_flops_per_step": flops,
    "ceiling_flops_per_second": ceiling,
    "step_compile_seconds": ours.compile_seconds,
    "step_memory_bytes": ours.peak_memory_bytes,
  }
  if torch_peer is not None:
    result["ratio"] = result["peer_step_seconds"] / result["step_seconds"]
    result["peer_step_compile_seconds"] = max(
      0.0, first["peer_step"] - result["peer_step_seconds"]
    )
    result["peer_step_memory_bytes"] = torch_peer.peak_memory_bytes()
  _print(result, sides)
  return result


def _print(result, sides):
  """The table, and the line of JSON."""
  print(
    f"{result['config']}, batch of {result['batch_size']}, "
    f"{result['precision']}, {result['data']}, {result['device']}, jax "
    f"{result['jax']}; peer: {result.get('peer_runs_on', 'none')}\n"
    f"A step: {result['work']}, "
    f"{result['model_flops_per_step'] / 1e9:.4g} GFLOP of the model. Ceiling: "
    f"{result['ceiling_flops_per_second'] / 1e9:.4g} GFLOP/s."
  )
  if "differences" in result:
    listed = (f"{k} {v:.1e}" for k, v in result["differences"].items())
    print(f"Both compute the same; largest differences: {', '.join(listed)}.")
  print(
    "| side | step, ms: median | least | GFLOP/s | of the ceiling | memory, "
    "MiB | compile, s |\n" + "|---" * 7 + "|"
  )
  for name in sides:
    memory = result[f"{name}_memory_bytes"]
    print(
      f"| {'JAX' if name == 'step' else result['peer']} | "
      f"{1e3 * result[f'{name}_seconds']:.4g} | "
      f"{1e3 * result[f'{name}_seconds_min']:.4g} | "
      f"{result[f'{name}_model_flops_per_second'] / 1e9:.4g} | "
      f"{100 * result[f'{name}_ceiling_share']:.1f} % | "
      f"{'-' if memory is None else round(memory / 2**20)} | "
      f"{result[f'{name}_compile_seconds']:.1f} |"
    )
  if "ratio" in result:
    print(f"The peer takes {result['ratio']:.2f} times as long.")
  print(json.dumps(result))


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
