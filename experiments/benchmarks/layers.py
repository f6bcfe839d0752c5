"""Times each part of the set-prediction step on its own.

  python -m experiments.benchmarks.layers --config=clevr_set --batch_size=8

A part is a layer of the encoder, what follows its convolutions, slot attention,
head with loss, or the optimizer. Each is compiled alone: its forward pass, and
that with the gradients of its parameters and, but for the first layer, its
inputs. First the benchmark checks that the parts, one after the other, give the
loss of the task. Alone, a part reads its arguments from memory and writes all
of its results there, so that their sum is not the time of the whole step.

Times are CPU seconds, which other programs disturb less than those of a clock,
of the fastest of `--calls` calls in turn. FLOP/s count the direct form of the
products, as in `step.py`, and are per core if all cores are busy. The ceiling
is the fastest product of two large square matrices in the same turns.

The last line is JSON.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import slot_attention_jax as sa
from experiments.benchmarks import batches, flops
from slot_attention_jax import losses, tasks
from slot_attention_jax.config import base
from slot_attention_jax.data import types
from slot_attention_jax.modules import convolution, position
from slot_attention_jax.training import optimizers

_MATMUL_SIZE = 2048
_MAX_OBJECTS = 10


class Part:
  """A compiled function and the fewest CPU seconds that it took.

  Attributes:
    name: what the table calls it.
    flop: floating-point operations of a call.
    seconds: of the fastest call.
    temp_bytes: memory that XLA plans beside arguments and results.
  """

  def __init__(self, name: str, flop: float, function: Callable, *args: Any):
    compiled = jax.jit(function).lower(*args).compile()
    self.name, self.flop, self.seconds = name, flop, float("inf")
    self.temp_bytes = compiled.memory_analysis().temp_size_in_bytes
    self._call = lambda: jax.block_until_ready(compiled(*args))
    self.result: Any = self._call()

  def time(self) -> None:
    """Calls it once more."""
    start = time.process_time()
    self._call()
    self.seconds = min(self.seconds, time.process_time() - start)


def encoder_layers(model: Any) -> dict[str, Callable]:
  """Functions of (parameters of the encoder, inputs) by the layer's name."""
  encoder = model.encoder

  def convolve(i, params, x):
    weights = params[f"conv_{i}"]["kernel"], params[f"conv_{i}"]["bias"]
    return convolution.conv_stack(x, [weights], [encoder.strides[i]])

  def mlp(params, x):
    x = position.SoftPositionEmbed().apply({"params": params["position"]}, x)
    x = x.reshape(x.shape[0], -1, x.shape[-1])  # [B, N, C]
    norm = nn.LayerNorm(encoder.layer_norm_epsilon, use_fast_variance=False)
    x = norm.apply({"params": params["norm"]}, x)
    for i, width in enumerate(encoder.mlp_sizes):
      x = nn.relu(x) if i else x
      x = nn.Dense(width).apply({"params": params[f"mlp_{i}"]}, x)
    return x  # [B, N, F]

  layers: dict[str, Callable] = {
    f"encoder/conv_{i}": lambda params, x, i=i: convolve(i, params, x)
    for i in range(len(encoder.strides))
  }
  return layers | {"encoder/mlp": mlp}


def model_parts(task: Any, params: Any, batch: Any, noise: Any) -> list[Part]:
  """Each part of the model, forwards and with its gradients.

  Args:
    task: set prediction.
    params: parameters of the model.
    batch: the batch.
    noise: [B, K, D] of the slots.

  Returns:
    Two parts for each, the first of which is the forward pass alone. The last
    one's result begins with the loss.
  """
  model, size = task.model, len(batch["image"])
  counts = flops.flops_by_layer(model, task.image_shape)
  functions = encoder_layers(model)

  def attend(params, x):
    return model.slot_attention.apply({"params": params}, x, noise=noise)[0]

  def loss(params, slots):
    predictions = model.head.apply({"params": params}, slots)
    return losses.set_prediction_loss(
      predictions, batch["target"], weights=task.weights
    ).mean()

  functions |= {"slot_attention": attend, "head": loss}
  parts, x, params = [], jnp.asarray(batch["image"]), params["params"]
  for i, (name, function) in enumerate(functions.items()):
    flop, own = counts[name] * size, params[name.split("/")[0]]
    forward = Part(f"{name} forward", flop, function, own, x)

    def with_gradients(own, x, cotangent, function=function, first=i == 0):
      if first:  # Nobody needs the gradient of the images.
        outputs, pull = jax.vjp(lambda own: function(own, x), own)
      else:
        outputs, pull = jax.vjp(function, own, x)
      return outputs, pull(cotangent)

    cotangent = jnp.ones_like(forward.result)
    flop *= 3 if i else 2
    parts += [forward, Part(name, flop, with_gradients, own, x, cotangent)]
    x = forward.result
  return parts


def step_parts(task: Any, params: Any, batch: Any, noise: Any) -> list[Part]:
  """The optimizer, and the whole loss with its gradients."""
  config = base.base_config().optim
  config.name = "adam"
  optimizer, _ = optimizers.create_optimizer(config)
  size, counts = (
    len(batch["image"]),
    flops.flops_by_layer(task.model, task.image_shape),
  )

  def update(grads, state, params):
    updates, state = optimizer.update(grads, state, params)
    norm = optax.tree.norm(grads)
    return optax.apply_updates(params, updates), state, norm

  return [
    Part("optimizer", 0, update, params, optimizer.init(params), params),
    Part(
      "all but the optimizer",
      (3 * sum(counts.values()) - counts["encoder/conv_0"]) * size,
      jax.value_and_grad(task.loss),
      params,
      batch,
      noise,
    ),
  ]


def check_loss(parts: Sequence[Part], whole: Part) -> None:
  """Raises ValueError if the last part's loss is not that of the whole."""
  loss, expected = parts[-1].result[0], whole.result[0]
  if abs(loss - expected) > 1e-5 * abs(expected):
    raise ValueError(
      f"Expected the task's loss {expected} of its parts, got {loss}. Compare "
      "`encoder_layers` with the encoder."
    )


def print_table(parts: Sequence[Part], ceiling: float) -> None:
  """Prints a row for each part; shares are of what was compiled as a whole."""
  forward = {p.name: p.seconds for p in parts if p.name.endswith(" forward")}
  rows = [p for p in parts if p.name not in forward]
  whole = rows[-1].seconds
  print(
    "| part | forward, ms | with gradients, ms | of the whole | GFLOP "
    "| GFLOP/s | of the ceiling | temporary, MiB |\n" + "|---" * 8 + "|"
  )
  for p in rows:
    alone = forward.get(f"{p.name} forward")
    rate = p.flop / p.seconds
    print(
      f"| {p.name} | {'' if alone is None else f'{1e3 * alone:.1f}'} "
      f"| {1e3 * p.seconds:.1f} | {100 * p.seconds / whole:.0f} % "
      f"| {p.flop / 1e9:.3g} | {rate / 1e9:.3g} "
      f"| {100 * rate / ceiling:.0f} % | {p.temp_bytes / 2**20:.0f} |"
    )


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
  """Reads the arguments, measures, prints, and returns the last line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--config", default="clevr_set", help="name or path")
  parser.add_argument("--batch_size", type=int, default=8)
  parser.add_argument("--calls", type=int, default=5)
  parser.add_argument("--matmul_size", type=int, default=_MATMUL_SIZE)
  arguments = parser.parse_args(argv)
  # A program of the cache may have been compiled for other options.
  jax.config.update("jax_enable_compilation_cache", False)
  config = sa.load_config(arguments.config)
  if config.task != "set_prediction":
    parser.error(f"Expected set prediction, got {config.task}.")
  info = types.DatasetInfo(
    name="random arrays",
    split="train",
    image_shape=(*config.data.resolution, 3),
    num_examples=None,
    layout=sa.CLEVR_LAYOUT,
    max_objects=_MAX_OBJECTS,
  )
  task = tasks.create_task(config, info)
  batch = batches.random_batch(task, arguments.batch_size, _MAX_OBJECTS)
  params = jax.jit(task.init)(jax.random.key(0))
  noise = task.draw_noise(params, arguments.batch_size, jax.random.key(1))
  size = arguments.matmul_size
  square = jnp.ones((size, size))
  product = Part("product", 2 * size**3, jnp.matmul, square, square)
  parts = model_parts(task, params, batch, noise)
  rest = step_parts(task, params, batch, noise)
  check_loss(parts, rest[-1])
  parts += rest
  for _ in range(arguments.calls):
    for part in (product, *parts):
      part.time()
  ceiling = product.flop / product.seconds
  print(
    f"{arguments.config}, batch of {arguments.batch_size}, float32, "
    f"{len(os.sched_getaffinity(0))} cores, jax {jax.__version__}; ceiling: "
    f"{ceiling / 1e9:.3g} GFLOP/s."
  )
  print_table(parts, ceiling)
  result = {
    "config": arguments.config,
    "batch_size": arguments.batch_size,
    "ceiling_flops_per_second": ceiling,
    "cpu_seconds": {p.name: p.seconds for p in parts},
    "flop": {p.name: p.flop for p in parts},
    "temp_bytes": {p.name: p.temp_bytes for p in parts},
  }
  print(json.dumps(result))
  return result


if __name__ == "__main__":
  main()
