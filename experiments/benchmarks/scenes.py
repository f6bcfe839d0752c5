"""Times the rendering of training scenes beside the train step on them.

Synthetic scenes are rendered on the devices that train, so rendering takes
time away from training. For each config this compiles the dataset's batch and
the config's real train step, then times the two alternately, each until the
devices are done: render batch k twice, of which the second counts, train on it,
and so on.

  python -m experiments.benchmarks.scenes --batch_size=4

`--batch_size=0` takes each config's own, which asks for an accelerator. The
medians are of `--repeats` pairs, and the share is the median, over the pairs,
of the time of rendering in that of the step. Seconds of compiling are without a
cache. On a CPU that other programs use too, `--clock=cpu` counts CPU seconds in
place of time.

The last column is the memory that XLA plans for a batch of `--memory_batch`
scenes, which is compiled and not run: temporary buffers and results, of one
device, without the program itself and its constants. A device renders
a batch in chunks, so memory grows with the batch only by the results.
"""

import statistics
import time

import jax
import numpy as np
from absl import app, flags

import slot_attention_jax as sa
from slot_attention_jax import data as data_lib
from slot_attention_jax import tasks
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import optimizers, steps

_CONFIGS = flags.DEFINE_list(
  "configs",
  ["clevr_discovery", "clevr_set", "multi_dsprites", "tetrominoes"],
  "Names of configs, with arguments after a colon if any.",
)
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", 4, "Images; 0: the config's own."
)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed pairs.")
_MEMORY_BATCH = flags.DEFINE_integer(
  "memory_batch", 512, "Images of the batch whose memory is told; 0: none is."
)
_CLOCK = flags.DEFINE_enum(
  "clock", "wall", ["wall", "cpu"], "Seconds of time, or of this process' CPUs."
)


def load(name):
  """The config of a name; clevr becomes its scenes, no data are read."""
  config = sa.load_config(name)
  if config.data.name == "clevr":
    config.data.name = "clevr_scenes"
  if _BATCH_SIZE.value:
    config.train.batch_size = _BATCH_SIZE.value
  return config


def create_dataset(config, batch_size, mesh):
  """The training scenes of a config."""
  mesh_lib.check_batch_size("batch_size", batch_size, mesh.size)
  return data_lib.create_dataset(
    config,
    "train",
    batch_size=batch_size,
    sharding=mesh_lib.batch_sharding(mesh),
    warn=False,
  )


def compile_batch(dataset):
  """The program that renders a batch, from the number of its step."""
  make = jax.jit(lambda step: dataset.make_batch((), step))
  return make.lower(np.uint32(0)).compile()


def now():
  """Seconds by the clock of the flag."""
  return time.process_time() if _CLOCK.value == "cpu" else time.perf_counter()


def seconds(call, *args):
  """Result of a call and the time until the devices have it."""
  start = now()
  result = jax.block_until_ready(call(*args))
  return result, now() - start


def compile_both(config, mesh):
  """Data, state, the two programs and the seconds each took to compile."""
  dataset = create_dataset(config, config.train.batch_size, mesh)
  task = tasks.create_task(config, dataset.info)
  optimizer, schedule = optimizers.create_optimizer(config.optim)
  state = steps.create_state(task, optimizer, config.seed, mesh)
  start = now()
  render = compile_batch(dataset)
  middle = now()
  step = steps.make_train_step(task, optimizer, schedule, mesh)
  step = step.lower(state, render(np.uint32(0))).compile()
  end = now()
  return dataset, state, (render, step), (middle - start, end - middle)


def planned_memory(config, mesh):
  """MiB of temporary buffers and of results of a batch of `--memory_batch`."""
  if not _MEMORY_BATCH.value:
    return "", ""
  large = create_dataset(config, _MEMORY_BATCH.value, mesh)
  memory = compile_batch(large).memory_analysis()
  sizes = memory.temp_size_in_bytes, memory.output_size_in_bytes
  return tuple(f"{size / 2**20:.0f}" for size in sizes)


def main(argv):
  """Prints a Markdown row for each config."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  if _REPEATS.value < 1:
    raise app.UsageError(f"Expected repeats >= 1, got {_REPEATS.value}.")
  # A compilation cache of the environment would hide the time of compiling.
  jax.config.update("jax_enable_compilation_cache", False)
  mesh = mesh_lib.create_mesh()
  print(
    f"{jax.default_backend()}, {jax.devices()[0].device_kind}, {mesh.size} "
    f"device(s), jax {jax.__version__}, {_REPEATS.value} pairs, "
    f"{_CLOCK.value} clock"
  )
  print(
    "| config | data | resolution | batch | render, ms per image | "
    "step, ms per image | share | compile, s: render | step | memory of "
    f"{_MEMORY_BATCH.value} scenes, MiB: temporary | results |"
  )
  print("|" + "---|" * 11)
  for name in _CONFIGS.value:
    config = load(name)
    dataset, state, (render, step), compiled = compile_both(config, mesh)
    times = []
    for k in range(_REPEATS.value + 1):
      # Untimed, for the step's buffers may still be given back to the system.
      seconds(render, np.uint32(k))
      batch, rendering = seconds(render, np.uint32(k))
      (state, _), training = seconds(step, state, batch)
      times.append((rendering, training))
    times = times[1:]  # The first calls also load the programs.
    b = config.train.batch_size
    rendering, training = (
      1e3 * statistics.median(t) / b for t in zip(*times, strict=True)
    )
    share = statistics.median(r / t for r, t in times)
    memory = planned_memory(config, mesh)
    h, w, _ = dataset.info.image_shape
    print(
      f"| {name} | {dataset.info.name} | {h}x{w} | {b} | {rendering:.3g} | "
      f"{training:.3g} | {100 * share:.1f} % | {compiled[0]:.1f} | "
      f"{compiled[1]:.1f} | {' | '.join(memory)} |",
      flush=True,
    )


if __name__ == "__main__":
  app.run(main)
