"""Which programs of a run are compiled quickly."""

import jax
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.config import preset
from slot_attention_jax.evaluation import examples
from slot_attention_jax.runtime import compilation
from slot_attention_jax.training import multi_step, prepared_run, steps


@pytest.fixture
def asked(monkeypatch):
  """What the programs that are made ask for, in their order."""
  requests = []
  options = compilation.quick_options

  def record(quick=True, pixels=0):
    requests.append(quick)
    return options(quick, pixels)

  monkeypatch.setattr(compilation, "quick_options", record)
  return requests


def programs_of(config, path):
  """Makes the programs of a run and compiles none."""
  config = preset.resolve(config)
  run = prepared_run.prepare(config, path)
  quick = config.train.quick_compilation
  arguments = (run.task, run.optimizer, run.schedule, run.mesh, run.dataset)
  for per_call in (1, 2):
    multi_step.make_step(*arguments, per_call, quick=quick)
  examples.make_eval_step(run.task, run.mesh, quick)
  return run


# Sizes that no other test has: programs of scenes are kept.
SCENES = "model.preset=auto,data.resolution=({0}, {0})"


def test_debug_compiles_all_programs_quickly(asked, tmp_path):
  config = sa.load_config(f"quickstart:debug,{SCENES.format(22)}")
  programs_of(config, tmp_path)
  # Scenes, once as a part of another program; both kinds of steps; evaluation.
  assert asked == [True, False, True, True, True]


def test_other_runs_do_not(asked, tmp_path):
  config = sa.load_config(f"quickstart:{SCENES.format(26)}")
  run = programs_of(config, tmp_path)
  assert asked
  assert not any(asked)
  # The initial state is made once in any run.
  steps._make_initializer(run.task, run.optimizer, run.mesh)
  assert asked[-1]


def test_quick_programs_compute_the_same():
  x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
  options = compilation.quick_options()
  assert options  # The tests run on CPU.
  quick = jax.jit(lambda x: jax.nn.softmax(x @ x.T), compiler_options=options)
  np.testing.assert_allclose(quick(x), jax.nn.softmax(x @ x.T), rtol=1e-6)
  assert compilation.quick_options(False) is None


def level(config, tmp_path):
  """LLVM's level for the step of a config."""
  config = preset.resolve(sa.load_config(config))
  run = prepared_run.prepare(config, tmp_path)
  options = compilation.quick_options(True, run.task.pixels)
  assert options
  return options["xla_backend_optimization_level"]


@pytest.mark.parametrize(
  ("config", "expected"),
  [
    # Steps of seconds, beside which compiling is little.
    ("clevr_discovery:debug", "1"),
    # As many pixels, and no decoder.
    ("clevr_set:debug", "0"),
    ("multi_dsprites:debug", "0"),
  ],
)
def test_steps_of_many_pixels_are_optimized_a_little(
  config, expected, tmp_path
):
  assert level(config, tmp_path) == expected


def test_scenes_compiled_quickly_are_part_of_other_programs(tmp_path):
  config = preset.resolve(
    sa.load_config(f"quickstart:debug,{SCENES.format(22)}")
  )
  dataset = prepared_run.prepare(config, tmp_path).dataset
  make_batch = dataset.make_batch
  assert make_batch is not None
  # JAX refuses options of a program within another.
  jax.jit(make_batch).lower((), np.uint32(0))
