"""Estimates the train and evaluation steps on TPUs, without a TPU.

libtpu compiles ahead of time for a described topology, on any machine. This
compiles the package's own steps (`steps.make_train_step`,
`examples.make_eval_step`) for all chips of a topology and prints a JSON line
for each step:

  pip install libtpu
  python -m experiments.tpu.compile_for_tpu --topology=v5e:4x4 \
    --config=configs/clevr_discovery.py --batch_per_chip=16

Keys of a line, all of them of the program that one chip runs:

estimated_cycles: sum of the `estimated_cycles` that XLA:TPU writes beside the
  instructions of the optimized program (`tpu_program.py` adds them up): those
  of the entry computation, those of the body and condition of a loop times its
  trip count, those of called computations, of a conditional's branches the
  dearest. A fusion counts once, as a whole. Instructions without an estimate
  (collectives, some copies) count as nothing, and nothing is taken off for what
  overlaps: the sum measures the work, not the time.
unknown_trips: loops whose trip count the program does not tell, counted as one
  trip (the loops of the matching).
cycles_by_kind: the same sum, by what an instruction holds: convolutions (also
  matrix products), custom calls, everything else.
flops: XLA's `cost_analysis`; a loop's body counts once. A packed convolution
  counts the zeros of its kernel too.
memory_gib: of XLA's `memory_analysis`, arguments, results (less those that take
  an argument's place), temporaries and code, added up.
peak_gib: the most of them that are alive at once, by the same analysis.
hbm_gib: what the chip has.
collectives: instructions by kind, how many of them stand in a loop, and the
  bytes of their results.
compile_seconds: of XLA alone, on this machine.

Every number is the compiler's estimate; nothing runs on a TPU, and no chip has
confirmed them.
"""

import importlib.metadata
import json
import math
import os
import time

# An installed libtpu makes JAX look for TPUs; these describe a host that has
# none of its own. They are read when JAX starts.
os.environ.update(
  JAX_PLATFORMS="cpu",
  TPU_SKIP_MDS_QUERY="1",
  TPU_ACCELERATOR_TYPE="v5litepod-16",
  TPU_WORKER_HOSTNAMES="localhost",
  ALLOW_MULTIPLE_LIBTPU_LOAD="1",
)

import jax
import jax.numpy as jnp
from absl import app, flags
from jax.experimental import topologies  # There is no other way.
from ml_collections import config_flags

from experiments.tpu import tpu_program
from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.data import procedural
from slot_attention_jax.evaluation import examples
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import optimizers, steps

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file; --config.key=value overrides a key."
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", "v5e:4x4", "Generation and shape, as v5e:16x16 or v5p:4x4x4."
)
_STEPS = flags.DEFINE_list("steps", ["train", "eval"], "Steps to compile.")
_BATCH_PER_CHIP = flags.DEFINE_integer(
  "batch_per_chip", 16, "Images per chip, in place of the config's batch sizes."
)
_HLO = flags.DEFINE_string(
  "hlo", "", "Directory for the optimized programs as text; empty: none."
)

# GiB of a chip's memory, by generation.
_HBM = {"v5e": 16, "v5p": 95, "v6e": 32}


def topology_mesh(name: str) -> jax.sharding.Mesh:
  """A one-axis mesh over the chips of a topology."""
  shape = [int(n) for n in name.partition(":")[2].split("x")]
  # A host of v5e, v5p or v6e has 2x2 chips, or one.
  bounds = [2, 2, 1] if math.prod(shape) > 1 else [1, 1, 1]
  topology = topologies.get_topology_desc(
    platform="tpu", topology_name=name, chips_per_host_bounds=bounds
  )
  return jax.make_mesh(
    (len(topology.devices),),
    (mesh_lib.AXIS,),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=topology.devices,
  )


def abstract_batch(config, mesh, *, train: bool):
  """Shapes of a batch of synthetic scenes, and what is known of them.

  Returns:
    A pair (batch of `jax.ShapeDtypeStruct`, the `DatasetInfo`).
  """
  over_batch = mesh_lib.batch_sharding(mesh)
  dataset = procedural.SceneDataset(
    data_lib.create_family(config),
    split="train" if train else "validation",
    batch_size=_BATCH_PER_CHIP.value * mesh.size,
    sharding=over_batch,
    resolution=tuple(config.data.resolution),
    num_examples=None if train else config.data.scenes.num_eval,
  )
  batch = jax.eval_shape(lambda: dataset.batch(0))
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=over_batch), batch
  ), dataset.info


def lower(config, step: str, mesh: jax.sharding.Mesh):
  """Lowers a step of the package for the devices of a mesh."""
  batch, info = abstract_batch(config, mesh, train=step == "train")
  task = tasks.create_task(config, info)
  optimizer, schedule = optimizers.create_optimizer(config.optim)
  state = steps.abstract_state(task, optimizer, mesh)
  if step == "train":
    return steps.make_train_step(task, optimizer, schedule, mesh).lower(
      state, batch
    )
  first = jax.ShapeDtypeStruct((), jnp.int32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  return examples.make_eval_step(task, mesh).lower(
    state.params, batch, key, first
  )


def total_bytes(memory) -> int:
  """Bytes of everything in a `memory_analysis`."""
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.generated_code_size_in_bytes
  )


def main(argv):
  """Prints a JSON line for each step."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  if unknown := set(_STEPS.value) - {"train", "eval"}:
    raise app.UsageError(f"Expected steps train and eval, got {unknown}.")
  # A compilation cache of the environment would hide the time of compiling.
  jax.config.update("jax_enable_compilation_cache", False)
  config, mesh = _CONFIG.value, topology_mesh(_TOPOLOGY.value)
  name = config_flags.get_config_filename(flags.FLAGS["config"])
  for step in _STEPS.value:
    lowered = lower(config, step, mesh)
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - start
    text = compiled.as_text()
    if _HLO.value:
      os.makedirs(_HLO.value, exist_ok=True)
      path = os.path.join(_HLO.value, f"{step}.txt")
      with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    measured = tpu_program.measure(text)
    memory = compiled.memory_analysis()
    line = {
      "topology": _TOPOLOGY.value,
      "config": name,
      "precision": config.model.precision,
      "step": step,
      "batch_per_chip": _BATCH_PER_CHIP.value,
      "cycles_per_image": round(
        measured["estimated_cycles"] / _BATCH_PER_CHIP.value
      ),
      **measured,
      "flops": compiled.cost_analysis()["flops"],
      "memory_gib": round(total_bytes(memory) / 2**30, 3),
      "peak_gib": round(memory.peak_memory_in_bytes / 2**30, 3),
      "hbm_gib": _HBM.get(_TOPOLOGY.value.partition(":")[0]),
      "compile_seconds": round(seconds, 1),
      "jax": jax.__version__,
      "libtpu": importlib.metadata.version("libtpu"),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
