"""Compares a train step on a GPU or TPU with the same on the CPU, in float32.

  python -m experiments.benchmarks.devices

For each of `--configs`, with `--batch_size` synthetic scenes of step 0: the
pictures as both devices render them (PSNR in dB), and of one step from the same
state on the CPU's pictures the relative difference of the loss and the largest
difference of a gradient, relative to the largest entry of its array. Products
are taken in float32 (`highest`). It fails if a difference is beyond its bound.
`JAX_PLATFORMS` must leave the CPU in, or be unset. The last line is JSON.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

import slot_attention_jax as sa
from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import steps

CONFIGS = (
  "quickstart",
  "clevr_discovery:small",
  "clevr_set:small",
  "multi_dsprites:small",
)
# Sums are taken in another order.
BOUNDS = {"loss": 1e-5, "gradient": 1e-3}
LEAST_PSNR = 40.0


def _one_step(config: Any, device: jax.Device, images: Any = None):
  """The pictures, the batch, the loss and the gradients on a device."""
  mesh = jax.make_mesh(
    (1,),
    (mesh_lib.AXIS,),
    devices=[device],
    axis_types=(jax.sharding.AxisType.Auto,),
  )
  dataset = data_lib.create_dataset(
    config,
    "train",
    batch_size=config.train.batch_size,
    sharding=mesh_lib.batch_sharding(mesh),
    warn=False,
  )
  rendered = jax.device_get(dataset.batch(0))
  batch = rendered if images is None else images
  task = tasks.create_task(config, dataset.info)
  # The update is the gradient.
  optimizer = optax.sgd(1.0)
  state = steps.create_state(task, optimizer, config.seed, mesh)
  before = jax.device_get(state.params)
  step = steps.make_train_step(task, optimizer, lambda _: 1.0, mesh)
  placed = jax.device_put(batch, mesh_lib.batch_sharding(mesh))
  state, metrics = step(state, placed)
  grads = jax.tree.map(np.subtract, before, jax.device_get(state.params))
  return rendered, float(metrics["loss"]), grads, before


def compare(config: Any) -> dict[str, float]:
  """Differences between the default device and the CPU, by what differs."""
  cpu = jax.devices("cpu")[0]
  batch, expected, expected_grads, params = _one_step(config, cpu)
  rendered, loss, grads, others = _one_step(config, jax.devices()[0], batch)
  error = np.mean(
    (np.float64(rendered["image"]) - np.float64(batch["image"])) ** 2
  )
  relative = jax.tree.map(
    lambda a, b: np.abs(a - b).max() / max(np.abs(b).max(), 1e-6),
    grads,
    expected_grads,
  )
  initial = jax.tree.map(lambda a, b: np.abs(a - b).max(), others, params)
  return {
    "psnr": 99.0 if error == 0 else float(10 * np.log10(4 / error)),
    "loss": abs(loss - expected) / abs(expected),
    "gradient": float(max(jax.tree.leaves(relative))),
    "initial": float(max(jax.tree.leaves(initial))),
  }


def main(argv: Sequence[str] | None = None) -> None:
  """Prints a row for each config, and the JSON."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--configs", nargs="+", default=list(CONFIGS))
  parser.add_argument("--batch_size", type=int, default=8)
  arguments = parser.parse_args(argv)
  jax.config.update("jax_default_matmul_precision", "highest")
  device = jax.devices()[0]
  result: dict[str, Any] = {"device": f"{device.platform}, {device}"}
  print("| config | pictures, dB | loss | gradient | initial values |")
  print("|---|---|---|---|---|")
  failed = []
  for name in arguments.configs:
    config = sa.load_config(name)
    config.train.batch_size = arguments.batch_size
    found = compare(config)
    numbers = [f"{found[k]:.2g}" for k in ("loss", "gradient", "initial")]
    print(
      f"| {name} | {found['psnr']:.1f} | {' | '.join(numbers)} |", flush=True
    )
    result[name] = found
    beyond = [k for k, bound in BOUNDS.items() if found[k] > bound]
    beyond += ["psnr"] if found["psnr"] < LEAST_PSNR else []
    failed += [f"{name}: {k}" for k in beyond]
  print(json.dumps(result | {"failed": failed}))
  if failed:
    raise SystemExit(1)


if __name__ == "__main__":
  main()
