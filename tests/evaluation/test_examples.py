"""Tests of evaluation: each example counts once, on any batch and mesh."""

import jax
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax import data, tasks
from slot_attention_jax.data import types
from slot_attention_jax.evaluation import examples
from slot_attention_jax.runtime import mesh
from slot_attention_jax.tasks import object_discovery

# 10 scenes: no batch size below divides it.
TINY = (
  "data.scenes.num_eval=10,model.num_slots=3,model.num_iterations=2,"
  "model.slot_size=16,model.mlp_hidden_size=0,model.encoder_channels=(8,),"
  "model.encoder_kernel_sizes=(5,),model.encoder_strides=(5,),"
  "model.encoder_mlp_sizes=(16,),model.decoder_channels=(),"
  "model.decoder_kernel_sizes=(5,),model.decoder_strides=(5,),"
  "data.resolution=(35, 35),model.broadcast_size=(7, 7),"
  "model.slot_init=shared,"
  "model.head_hidden_size=8,model.unroll=1"
)


def mesh_of(num_devices):
  return jax.make_mesh(
    (num_devices,),
    (mesh.AXIS,),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:num_devices],
  )


class Setting:
  """A tiny model and what evaluates it."""

  def __init__(self, task, num_devices=4):
    self.config = sa.load_config(f"quickstart:{TINY},task={task}")
    self.mesh = mesh_of(num_devices)
    self.task = tasks.create_task(self.config, self.data(4).info)
    # Compiled once for each batch size.
    self.step = examples.make_eval_step(self.task, self.mesh)

  def data(self, batch_size, split="validation"):
    return data.create_dataset(
      self.config,
      split,
      batch_size=batch_size,
      sharding=mesh.batch_sharding(self.mesh),
    )

  def evaluate(self, params, batch_size, seed=0):
    params = jax.device_put(params, mesh.replicated(self.mesh))
    dataset = self.data(batch_size)
    return examples.evaluate(self.task, self.step, params, dataset, seed)


@pytest.fixture(
  scope="module",
  params=[
    "discovery",
    pytest.param("set_prediction", marks=pytest.mark.thorough),
  ],
)
def expected(request):
  """A setting, parameters on the host, and their metrics in batches of 4."""
  setting = Setting(request.param)
  params = jax.device_get(jax.jit(setting.task.init)(jax.random.key(1)))
  return setting, params, setting.evaluate(params, 4)


def assert_close(actual, expected):
  assert actual.keys() == expected.keys()
  for name, value in expected.items():
    assert actual[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_metrics_are_named_after_the_data(expected):
  setting, _, metrics = expected
  prefix = "tetrominoes_scenes/validation/"
  assert set(metrics) == {f"{prefix}{n}" for n in setting.task.metric_names}
  assert all(np.isfinite(list(metrics.values())))


def test_metric_names_include_data_and_split():
  info = Setting("discovery").data(4, "test").info
  assert examples.metric_name(info, "mse") == "tetrominoes_scenes/test/mse"


@pytest.mark.parametrize(
  "batch_size", [8, pytest.param(12, marks=pytest.mark.thorough)]
)
def test_metrics_do_not_depend_on_the_batch_size(expected, batch_size):
  # In batches of 4, 8 and 12 there are 2, 6 and 2 rows of padding.
  setting, params, metrics = expected
  assert_close(setting.evaluate(params, batch_size), metrics)


@pytest.mark.thorough
def test_metrics_are_the_same_on_1_and_4_devices(expected):
  setting, params, metrics = expected
  kind = (
    "discovery"
    if isinstance(setting.task, object_discovery.ObjectDiscovery)
    else "set_prediction"
  )
  assert_close(Setting(kind, num_devices=1).evaluate(params, 5), metrics)


def test_the_seed_determines_the_slot_noise(expected):
  setting, params, metrics = expected
  assert setting.evaluate(params, 4) == metrics
  assert setting.evaluate(params, 4, seed=1) != metrics


class Rows:
  """A task that hands through what it is given."""

  def summarize(self, results):
    return {"sum": float(results["row"].sum()), "count": len(results["row"])}


class Numbers:
  """Rows 0 to 9 in batches of 4; padding has numbers of its own."""

  info = types.DatasetInfo("numbers", "test", (1, 1, 3), 10)
  batch_size = 4
  num_batches = 3

  def batch(self, step):
    row = 4 * step + np.arange(4)
    return {"row": np.where(row < 10, row, 1000), "valid": row < 10}


def test_each_example_counts_once_and_padding_does_not():
  firsts = []

  def eval_step(params, batch, key, first):
    assert set(batch) == {"row"}
    firsts.append(int(first))
    return batch

  metrics = examples.evaluate(Rows(), eval_step, None, Numbers())
  assert list(metrics.values()) == [45.0, 10]
  # The index in the split of each batch's first example.
  assert firsts == [0, 4, 8]


def test_evaluating_an_endless_split_is_an_error():
  setting = Setting("discovery")
  with pytest.raises(ValueError, match=r"evaluation split, got 'train'.*endl"):
    examples.evaluate(setting.task, None, None, setting.data(4, "train"))


class FewImages(Numbers):
  """Three images in a batch of eight; the other rows only fill it up."""

  batch_size = 8
  num_batches = 1

  def batch(self, step):
    numbers = np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1)
    image = np.broadcast_to(numbers, (8, 2, 2, 3))
    return {"image": image, "valid": np.arange(8) < 3}


@pytest.mark.parametrize(("asked", "shown"), [(2, 2), (3, 3), (8, 3)])
def test_rows_that_fill_up_the_batch_are_not_shown(asked, shown):
  def eval_step(params, batch, key, first):
    # The output for as many rows of each of two devices.
    numbers = batch["image"][:, 0, 0, 0].reshape(2, 4)
    output = numbers[:, :asked].reshape(-1)
    return {"row": np.arange(8), tasks.SHOWN: {"number": output}}

  results, found = examples.evaluate_and_show(
    eval_step, None, FewImages(), num_images=asked
  )
  assert results["row"].tolist() == [0, 1, 2]
  assert found is not None
  assert found.images[:, 0, 0, 0].tolist() == list(range(shown))
  assert found.output["number"].tolist() == list(range(shown))


def test_no_images_are_shown_if_none_are_asked_for():
  results = {"row": np.arange(8)}
  found = examples.evaluate_and_show(lambda *_: results, None, FewImages())
  assert found[1] is None


@pytest.mark.thorough
def test_the_output_that_is_shown_is_that_of_the_first_examples():
  setting = Setting("set_prediction")
  params = jax.jit(setting.task.init)(jax.random.key(1))
  step = examples.make_eval_step(setting.task, setting.mesh, num_images=3)
  dataset = setting.data(8)
  key, batch = jax.random.key(2), dataset.batch(0)
  results = step(params, batch, key, 0)
  # Of each of four devices, which have two examples each, both.
  assert results[tasks.SHOWN].predictions.shape[0] == 8
  np.testing.assert_array_equal(
    results[tasks.SHOWN].predictions, results["predictions"]
  )
