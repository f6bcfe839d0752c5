"""Tests of batches of CLEVR scenes over devices: bits, programs, bytes."""

import re

import jax
import numpy as np
import pytest

from slot_attention_jax.data.procedural import clevr, scenes
from slot_attention_jax.runtime import mesh as mesh_lib

FAMILY = clevr.Clevr(crop="paper")


# As users have them: the emitters that make tests compile faster round
# differently with the number of scenes in a program.
DEFAULT_EMITTERS = {
  "xla_backend_optimization_level": "0",
  "xla_cpu_use_fusion_emitters": True,
}


def dataset(num_devices, *, split="train", resolution=(24, 32), **options):
  mesh = jax.make_mesh(
    (num_devices,),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:num_devices],
  )
  return scenes.SceneDataset(
    FAMILY,
    split=split,
    sharding=mesh_lib.batch_sharding(mesh),
    resolution=resolution,
    **{"batch_size": 8} | options,
  )


def compiled(data, **options):
  arguments = data._arguments(np.uint32(0))
  return data._program.lower(*arguments).compile(**options)


def with_default_emitters(data):
  """A dataset whose batches are rounded as users have them."""
  data._program = compiled(data, compiler_options=DEFAULT_EMITTERS)
  return data


def geometry(scene, rendering):
  """All but the image: what is seen, without light and shadows."""
  return {
    "target": FAMILY.targets(scene),
    "segmentation": rendering.segmentation,
  }


@pytest.fixture(scope="module")
def on_four():
  return with_default_emitters(dataset(4, seed=3, describe=geometry))


def assert_same_on_one_device(data, monkeypatch, **options):
  batch = data.batch(5)
  assert len(batch["target"].sharding.device_set) == 4
  # On one device in chunks of two scenes, as large batches are rendered.
  monkeypatch.setattr(scenes, "_CHUNK_PIXELS", 2 * 24 * 32)
  single = with_default_emitters(dataset(1, seed=3, **options)).batch(5)
  assert set(single) == set(batch)
  for name, values in single.items():
    np.testing.assert_array_equal(values, batch[name], err_msg=name)


@pytest.mark.thorough
def test_scenes_are_the_same_on_1_and_4_devices_bit_for_bit(
  on_four, monkeypatch
):
  assert_same_on_one_device(on_four, monkeypatch, describe=geometry)
  targets = [on_four.batch(i)["target"] for i in (5, 6)]
  assert not np.array_equal(*targets)


@pytest.mark.slow
def test_images_are_the_same_on_1_and_4_devices_bit_for_bit(monkeypatch):
  data = with_default_emitters(dataset(4, seed=3))
  assert set(data.batch(5)) == {"image", "segmentation", "target"}
  assert_same_on_one_device(data, monkeypatch)


@pytest.mark.thorough
def test_devices_render_without_communication(on_four):
  program = on_four._program.as_text()
  assert "while" in program  # It is the program of the scenes.
  collectives = r"all-reduce|all-gather|all-to-all|collective-permute"
  assert not re.search(collectives, program)


@pytest.mark.slow
def test_evaluation_scenes_do_not_depend_on_seed_or_batch_size():
  def targets(scene, _):
    return {"target": FAMILY.targets(scene)}

  fixed = {"split": "validation", "num_examples": 3, "describe": targets}
  small = dataset(1, batch_size=2, **fixed)
  large = dataset(1, batch_size=4, seed=9, **fixed)
  rows = np.concatenate([small.batch(i)["target"] for i in range(2)])
  whole = large.batch(0)
  np.testing.assert_array_equal(rows, whole["target"])
  np.testing.assert_array_equal(whole["valid"], [True, True, True, False])


@pytest.mark.thorough
def test_512_scenes_take_less_than_1_gib():
  # Compiled, not run. All at once they would take 2 GiB.
  data = dataset(1, batch_size=512, resolution=(128, 128))
  memory = compiled(data).memory_analysis()
  results = 512 * (128 * 128 * (3 + 1) + 10 * 19) * 4
  assert memory.output_size_in_bytes >= results
  assert memory.temp_size_in_bytes > 0
  total = memory.temp_size_in_bytes + memory.output_size_in_bytes
  assert total < 2**30, f"{total / 2**20:.0f} MiB"
