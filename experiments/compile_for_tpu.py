"""Compiles the train and evaluation steps for TPUs, without a TPU.

libtpu compiles ahead of time for a described topology, on any machine. This
compiles the package's own steps (`steps.make_train_step`,
`steps.make_eval_step`) for all chips of a topology and prints a JSON line for
each step:

  pip install libtpu
  python experiments/compile_for_tpu.py --topology=v5e:4x4 \
    --config=configs/clevr_discovery.py --batch_per_chip=16

Keys of a line, all of them of the program that one chip runs:

estimated_cycles: sum of the `estimated_cycles` that XLA:TPU writes beside its
  instructions in the optimized program: instructions of the entry computation,
  those of the body and condition of a loop times its trip count, those of
  called computations, of a conditional's branches the dearest. A fusion
  counts once, as a whole. Instructions without an estimate (collectives, some
  copies) count as nothing, so does the overlap of copies with computation:
  the sum is a measure of the work, not of the time.
unknown_trips: loops whose trip count the program does not tell, counted as one
  trip (the loops of the matching).
cycles_by_kind: the same sum, by what an instruction holds: convolutions (also
  matrix products), custom calls, everything else.
flops: XLA's `cost_analysis`; a loop's body counts once. A packed convolution
  counts the zeros of its kernel too.
memory_gib, hbm_gib: peak of XLA's `memory_analysis` (arguments, results,
  temporaries and code together) and what the chip has.
collectives: instructions by kind, with the bytes they move in and
  whether they stand in a loop.
compile_seconds: of XLA alone, on this machine.

Every number is the compiler's; nothing runs.
"""

import collections
import importlib.metadata
import json
import math
import os
import re
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
from jax.experimental import topologies
from ml_collections import config_flags

from slot_attention_jax import data as data_lib
from slot_attention_jax import optimizers, sharding, steps, tasks
from slot_attention_jax.data import procedural

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
_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
  "collective-broadcast",
)
_BYTES = {"pred": 1, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}


class Program:
  """An optimized program as text, taken apart.

  Attributes:
    computations: lines of each computation, by name.
    entry: name of the entry computation.
  """

  def __init__(self, text: str):
    """Takes apart what `compiled.as_text()` returns."""
    self.computations: dict[str, list[str]] = {}
    self.entry = ""
    lines: list[str] = []
    for line in text.splitlines():
      head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
      if head:
        lines = self.computations.setdefault(head[2], [])
        self.entry = head[2] if head[1] else self.entry
      elif " = " in line:
        lines.append(line)

  def walk(self, name: str | None = None, trips: int = 1, looped: bool = False):
    """Yields (line, times it runs, whether in a loop), fusions as one line.

    Loops of unknown trip count yield their lines as run once.
    """
    for line in self.computations[name or self.entry]:
      yield line, trips, looped
      op = opcode(line)
      if op == "while":
        times = trips * (self.trip_count(line) or 1)
        for key in ("body", "condition"):
          yield from self.walk(called(line, key)[0], times, True)
      elif op in ("call", "async-start"):
        for key in ("to_apply", "calls"):
          for callee in called(line, key):
            yield from self.walk(callee, trips, looped)
      elif op == "conditional":
        branches = called(line, "branch_computations") or [
          *called(line, "true_computation"),
          *called(line, "false_computation"),
        ]
        listed = [list(self.walk(b, trips, looped)) for b in branches]
        yield from max(
          listed, key=lambda b: sum(cycles(x) * n for x, n, _ in b)
        )

  def trip_count(self, line: str) -> int | None:
    """Trip count of a loop, None if it is not known.

    XLA:TPU does not write it down. A loop that runs as long as a counter is
    less than a constant is taken to count from 0 by 1, as JAX's scan does.
    """
    match = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
    if match:
      return int(match[1])
    condition = self.computations[called(line, "condition")[0]]
    values = dict(
      x.strip().removeprefix("ROOT ").split(" = ", 1) for x in condition
    )
    root = next(x for x in condition if x.strip().startswith("ROOT "))
    match = re.search(
      r"compare\((%[\w.\-]+), (%[\w.\-]+)\), direction=LT", root
    )
    if not match or "get-tuple-element(" not in values.get(match[1], ""):
      return None
    limit = re.search(r"constant\((\d+)\)", values.get(match[2], ""))
    return int(limit[1]) if limit else None

  def kind(self, line: str) -> str:
    """What an instruction's estimate is for."""
    op = opcode(line)
    if op == "fusion":
      inner = self.computations[called(line, "calls")[0]]
      if any(self.kind(x) == "convolution" for x in inner):
        return "convolution"
    if op in ("convolution", "dot"):
      return "convolution"
    return "custom_call" if op == "custom-call" else "other"


def opcode(line: str) -> str:
  """Name of an instruction's operation."""
  # After the result's shape, whose layout holds brackets too: `{0:T(8,128)}`.
  rest = re.sub(r"\{[^{}]*\}", "", line.split(" = ", 1)[1])
  match = re.search(r"(?:^|[\s)])([a-z][\w\-]*)\(", rest)
  return match[1] if match else ""


def called(line: str, key: str) -> list[str]:
  """Computations that an instruction names under a key."""
  match = re.search(rf"\b{key}=(\{{[^}}]*\}}|%?[\w.\-]+)", line)
  return re.findall(r"[\w.\-]+", match[1]) if match else []


def cycles(line: str) -> int:
  """Estimated cycles of an instruction, 0 without an estimate."""
  match = re.search(r'"estimated_cycles":"(\d+)"', line)
  return int(match[1]) if match else 0


def result_bytes(line: str) -> int:
  """Bytes of an instruction's result, without padding."""
  shapes = line.split(" = ", 1)[1].split(f" {opcode(line)}(", 1)[0]
  total = 0
  for dtype, sizes in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shapes):
    count = math.prod(int(n) for n in sizes.split(",") if n)
    total += count * _BYTES.get(dtype, 4)
  return total


def measure(text: str) -> dict:
  """The entries of a line that come from the program's text."""
  program = Program(text)
  kinds: collections.Counter[str] = collections.Counter()
  collectives: dict[str, dict] = {}
  unknown = 0
  for line, times, looped in program.walk():
    kinds[program.kind(line)] += times * cycles(line)
    op = opcode(line).removesuffix("-start")
    unknown += op == "while" and program.trip_count(line) is None
    if op in _COLLECTIVES:
      entry = collectives.setdefault(
        op, {"count": 0, "in_loops": 0, "bytes": 0}
      )
      entry["count"] += 1
      entry["in_loops"] += looped
      entry["bytes"] += times * result_bytes(line)
  return {
    "estimated_cycles": sum(kinds.values()),
    "cycles_by_kind": dict(sorted(kinds.items())),
    "unknown_trips": unknown,
    "collectives": collectives,
  }


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
    (sharding.AXIS,),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=topology.devices,
  )


def abstract_batch(config, mesh, *, train: bool):
  """Shapes of a batch of the package's own scenes, and what is known of them.

  Returns:
    A pair (batch of `jax.ShapeDtypeStruct`, the `DatasetInfo`).
  """
  over_batch = sharding.over_batch(mesh)
  dataset = procedural.SceneDataset(
    data_lib.create_family(config),
    split="train" if train else "validation",
    batch_size=_BATCH_PER_CHIP.value * mesh.size,
    sharding=over_batch,
    resolution=tuple(config.data.resolution),
    num_examples=None if train else config.data.num_scenes,
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
  return steps.make_eval_step(task, mesh).lower(state.params, batch, key, first)


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
    measured = measure(text)
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
      "memory_gib": round(memory.peak_memory_in_bytes / 2**30, 3),
      "hbm_gib": _HBM.get(_TOPOLOGY.value.partition(":")[0]),
      "compile_seconds": round(seconds, 1),
      "jax": jax.__version__,
      "libtpu": importlib.metadata.version("libtpu"),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  app.run(main)
