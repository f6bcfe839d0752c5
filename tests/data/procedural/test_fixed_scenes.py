"""Tests of a fixed number of rendered scenes to train on."""

import jax
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax import data as data_lib
from slot_attention_jax.data import cached_dataset, procedural
from slot_attention_jax.data.procedural import fixed_scenes
from slot_attention_jax.runtime import memory
from slot_attention_jax.runtime import mesh as mesh_lib

FAMILY = procedural.Tetrominoes()


def over(num_devices):
  mesh = jax.make_mesh(
    (num_devices,),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:num_devices],
  )
  return mesh_lib.batch_sharding(mesh)


def create(num_devices=1, **options):
  num_scenes = options.pop("num_scenes", 10)
  settings = {"batch_size": 4, "sharding": over(num_devices)}
  batching = cached_dataset.Batching(
    **(settings | {"on_device": False} | options)
  )
  return fixed_scenes.create_fixed_scenes(
    FAMILY, num_scenes, (35, 35), batching
  )


def epoch(data, num_scenes=10):
  """The images of the first epoch, in the order of their bytes."""
  steps = -(-num_scenes // data.batch_size)
  images = np.concatenate([data.batch(i)["image"] for i in range(steps)])
  rows = images[:num_scenes].reshape(num_scenes, -1)
  return rows[np.lexsort(rows.T)]


@pytest.fixture(scope="module")
def scenes():
  return create()


def test_more_scenes_than_memory_are_refused_before_they_are_made(monkeypatch):
  def render(*unused_arguments, **unused_options):
    raise AssertionError("It was rendered.")

  monkeypatch.setattr(procedural, "SceneDataset", render)
  monkeypatch.setattr(fixed_scenes.scenes, "SceneDataset", render)
  with pytest.raises(
    ValueError, match=r"fit into memory, got 1,000,000,000 of 35x35, .* GB"
  ):
    create(num_scenes=10**9)
  # Elsewhere than on Linux it is not known.
  monkeypatch.setattr(memory, "available_bytes", lambda: None)
  with pytest.raises(AssertionError, match="was rendered"):
    create(num_scenes=10**9)


def test_an_epoch_is_the_fixed_list_rounded_to_8_bits(scenes):
  assert scenes.num_batches is None
  assert (scenes.info.split, scenes.info.num_examples) == ("train", 10)
  listed = procedural.SceneDataset(
    FAMILY, split="train", batch_size=10, sharding=over(1), num_examples=10
  ).batch(0)
  images = np.asarray(listed["image"])
  expected = np.round((images + 1) * 127.5) / 127.5 - 1
  rows = expected.reshape(10, -1).astype(np.float32)
  got = epoch(scenes)
  rows = rows[np.lexsort(np.round(rows.T * 1000))]
  got = got[np.lexsort(np.round(got.T * 1000))]
  np.testing.assert_allclose(got, rows, atol=1e-6)
  # Image, masks and properties belong together.
  batch = jax.device_get(scenes.batch(0))
  for image, segmentation, target in zip(
    batch["image"], batch["segmentation"], batch["target"], strict=True
  ):
    distance = np.abs(images - image).max(axis=(1, 2, 3))
    (i,) = np.flatnonzero(distance < 0.005)
    np.testing.assert_array_equal(segmentation, listed["segmentation"][i])
    np.testing.assert_array_equal(target, listed["target"][i])


def test_the_scenes_are_the_same_for_every_seed_in_another_order(scenes):
  other = create(seed=1)
  np.testing.assert_array_equal(epoch(other), epoch(scenes))
  first = (np.asarray(x.batch(0)["image"]) for x in (scenes, other))
  assert not np.array_equal(*first)


@pytest.mark.thorough
def test_fewer_scenes_are_the_first_of_more(scenes, monkeypatch):
  monkeypatch.setattr(fixed_scenes, "_RENDER_BATCH", 3)
  few = create(num_scenes=4)
  rows = {row.tobytes() for row in epoch(scenes)}
  some = {row.tobytes() for row in epoch(few, 4)}
  assert len(some) == 4
  assert some <= rows


@pytest.mark.thorough
@pytest.mark.parametrize("on_device", [False, True])
def test_devices_and_their_memory_change_no_bit(scenes, on_device):
  other = create(4, on_device=on_device)
  assert other.on_device == on_device
  for step in (0, 3):
    for name, values in scenes.batch(step).items():
      np.testing.assert_array_equal(
        values, other.batch(step)[name], err_msg=name
      )


def test_num_train_of_the_config():
  def dataset(config, split="train"):
    return data_lib.create_dataset(
      config, split, batch_size=4, sharding=over(1), warn=False
    )

  config = sa.load_config("tetrominoes:data.scenes.num_train=6")
  training = dataset(config)
  assert isinstance(training, cached_dataset.CachedDataset)
  assert training.info.num_examples == 6
  assert isinstance(dataset(config, "validation"), procedural.SceneDataset)
  with pytest.raises(ValueError, match=r"scenes.num_train of at least 0.*-1"):
    dataset(sa.load_config("tetrominoes:data.scenes.num_train=-1"))
