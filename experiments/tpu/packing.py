"""Estimates a convolution of 64 to 64 channels, packed by 0, 2 and 4, on TPUs.

  pip install libtpu
  python -m experiments.tpu.packing --topology=v6e:1x1

A kernel of 5x5 on `--size` x `--size` pixels, stride 1, `--batch_size` images,
forward and backward: the sum of XLA's `estimated_cycles` and the FLOPs, a JSON
line for each packing. See `modules/convolution/packed.py` for what packing is,
and `compile_for_tpu` for what the cycles mean; nothing here runs on a TPU.
"""

import argparse
import json

# First: it describes a host without a TPU before JAX starts.
from experiments.tpu import compile_for_tpu  # isort: skip
import jax
import jax.numpy as jnp

from experiments.tpu import tpu_program
from slot_attention_jax.modules.convolution import packed
from slot_attention_jax.runtime import mesh as mesh_lib

_CHANNELS, _KERNEL = 64, 5


def lower(packing: int, size: int, batch_size: int, dtype, mesh):
  """Lowers the convolution with its gradients."""

  def loss(inputs, kernel):
    outputs = packed.conv2d(inputs, kernel, 1, packing)
    return jnp.sum(jax.nn.relu(outputs).astype(jnp.float32) ** 2)

  columns = max(packing, 1)
  shape = (batch_size, size, size // columns, _CHANNELS * columns)
  place = mesh_lib.replicated(mesh)
  inputs = jax.ShapeDtypeStruct(shape, dtype, sharding=place)
  kernel = jax.ShapeDtypeStruct(
    (_KERNEL, _KERNEL, _CHANNELS, _CHANNELS), dtype, sharding=place
  )
  return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(inputs, kernel)


def main() -> None:
  """Prints a JSON line for each packing."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--topology", default="v6e:1x1")
  parser.add_argument("--size", type=int, default=128)
  parser.add_argument("--batch_size", type=int, default=16)
  parser.add_argument("--packings", type=int, nargs="+", default=[0, 2, 4])
  parser.add_argument("--precision", default="float32")
  arguments = parser.parse_args()
  jax.config.update("jax_enable_compilation_cache", False)
  mesh = compile_for_tpu.topology_mesh(arguments.topology)
  for packing in arguments.packings:
    compiled = lower(
      packing,
      arguments.size,
      arguments.batch_size,
      jnp.dtype(arguments.precision),
      mesh,
    ).compile()
    measured = tpu_program.measure(compiled.as_text())
    line = {
      "topology": arguments.topology,
      "precision": arguments.precision,
      "size": arguments.size,
      "packing": packing,
      "cycles_per_image": round(
        measured["estimated_cycles"] / arguments.batch_size
      ),
      "cycles_by_kind": measured["cycles_by_kind"],
      "gflop_per_image": round(
        compiled.cost_analysis()["flops"] / arguments.batch_size / 1e9, 2
      ),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
  main()
