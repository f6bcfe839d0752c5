import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from slot_attention_jax import tasks
from slot_attention_jax.config import base
from slot_attention_jax.data import types

LAYOUT = types.PropertyLayout(
  name="toys",
  properties=(
    types.Property("coords", 2, "continuous", low=0.0, high=8.0),
    types.Property("kind", 3, "categorical"),
    types.Property("confidence", 1, "confidence"),
  ),
)


def info(**changes):
  values = {
    "name": "toys",
    "split": "train",
    "image_shape": (8, 8, 3),
    "num_examples": None,
    "layout": LAYOUT,
    "max_objects": 2,
    "has_segmentation": True,
  }
  return types.DatasetInfo(**(values | changes))


def config(task, **changes):
  """A tiny model; keys of `eval.` are written `eval_...`."""
  new = base.base_config()
  new.task = task
  new.model.update(
    num_slots=3,
    num_iterations=2,
    slot_size=4,
    mlp_hidden_size=0,
    encoder_channels=(4,),
    encoder_kernel_sizes=(3,),
    encoder_strides=(2,),
    encoder_mlp_sizes=(4,),
    broadcast_size=(4, 4),
    decoder_channels=(4,),
    decoder_kernel_sizes=(3, 3),
    decoder_strides=(2, 1),
    head_hidden_size=4,
  )
  for key, value in changes.items():
    if key.startswith("eval_"):
      new.eval[key.removeprefix("eval_")] = value
    else:
      new.model[key] = value
  return new


def random_params(task):
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda p: rng.normal(size=p.shape).astype(np.float32),
    jax.eval_shape(task.init, jax.random.key(0)),
  )


def batch(size=4):
  rng = np.random.default_rng(1)
  values = {
    "coords": rng.uniform(0, 8, size=(size, 2, 2)),
    "kind": rng.integers(0, 3, size=(size, 2)),
  }
  real = np.arange(2) < rng.integers(1, 3, size=(size, 1))
  return {
    "image": rng.uniform(-1, 1, size=(size, 8, 8, 3)).astype(np.float32),
    "segmentation": rng.integers(0, 3, size=(size, 8, 8)).astype(np.int32),
    "target": LAYOUT.encode(values, real),
  }


class Evaluated:
  """A task, its random parameters and its compiled functions."""

  def __init__(self, name, **changes):
    self.task = tasks.create_task(config(name, **changes), info())
    self.params = random_params(self.task)
    self.evaluate = jax.jit(self.task.evaluate)
    self.apply = jax.jit(self.task.apply)
    self.key = jax.random.key(3)

  def results(self, data, first=0):
    return jax.device_get(
      self.evaluate(self.params, data, self.key, np.uint32(first))
    )


@pytest.fixture(scope="module")
def discovery():
  # Other K and T than in training.
  return Evaluated("discovery", eval_num_slots=5, eval_num_iterations=3)


@pytest.fixture(scope="module")
def prediction():
  return Evaluated(
    "set_prediction",
    eval_num_slots=4,
    eval_num_iterations=3,
    eval_thresholds=(float("inf"), 0.5),
  )


# Creating.


def test_without_thresholds_the_loss_decides_which_is_best(prediction):
  assert prediction.task.best_metric == ("ap_inf", "max")
  task = dataclasses.replace(prediction.task, thresholds=())
  assert task.best_metric == ("loss", "min")


def test_fields_of_the_tasks(discovery, prediction):
  for task in (discovery.task, prediction.task):
    assert task.image_shape == (8, 8, 3)
    assert (task.model.num_slots, task.model.num_iterations) == (3, 2)
    assert task.num_iterations == 3
    assert task.model.dtype is None
  assert discovery.task.num_slots == 5
  assert discovery.task.max_objects == 2
  assert discovery.task.metric_names == ("mse", "fg_ari", "ari", "miou")
  assert prediction.task.num_slots == 4
  assert prediction.task.model.num_properties == LAYOUT.size
  assert prediction.task.weights is None
  assert prediction.task.metric_names == ("loss", "ap_inf", "ap_0.5")


def test_k_and_t_of_evaluation_default_to_those_of_training():
  for name in ("discovery", "set_prediction"):
    task = tasks.create_task(config(name), info())
    assert (task.num_slots, task.num_iterations) == (3, 2)


def test_discovery_without_segmentation_scores_the_images_only():
  task = tasks.create_task(
    config("discovery"), info(has_segmentation=False, layout=None)
  )
  assert task.max_objects == 0
  assert task.metric_names == ("mse",)
  results = jax.eval_shape(
    task.evaluate,
    random_params(task),
    {"image": jnp.zeros((2, 8, 8, 3))},
    jax.random.key(0),
    0,
  )
  assert set(results) == {"mse"}


def test_precision():
  task = tasks.create_task(config("discovery", precision="bfloat16"), info())
  assert task.model.dtype == jnp.bfloat16
  with pytest.raises(ValueError, match=r"'bfloat16', 'float32'.*'float16'"):
    tasks.create_task(config("discovery", precision="float16"), info())


def test_position_weight():
  task = tasks.create_task(
    config("set_prediction", position_weight=3.0), info()
  )
  assert task.weights == (3.0, 3.0, 1.0, 1.0, 1.0, 1.0)


def test_create_errors():
  with pytest.raises(ValueError, match=r"'discovery' or .*got 'tracking'"):
    tasks.create_task(config("tracking"), info())
  with pytest.raises(ValueError, match=r"annotated objects.*'test' of 'toys'"):
    tasks.create_task(config("set_prediction"), info(layout=None, split="test"))
  for changes in ({"num_slots": 1}, {"eval_num_slots": 1}):
    with pytest.raises(ValueError, match=r"slots as the 2 objects.*got 1"):
      tasks.create_task(config("set_prediction", **changes), info())
  fixed = {"num_slots": 4, "slot_init": "per_slot"}
  tasks.create_task(config("discovery", **fixed), info())
  with pytest.raises(ValueError, match=r"eval.num_slots 0 or 4.*got 5"):
    tasks.create_task(config("discovery", **fixed, eval_num_slots=5), info())
  # Fewer slots than objects are no error where nothing is matched.
  tasks.create_task(config("discovery", num_slots=1), info())


# Object discovery.


def test_mse_of_each_image(discovery):
  data = batch()
  results = discovery.results(data)
  output = discovery.apply(discovery.params, data["image"], discovery.key, 0)
  assert output.masks.shape == (4, 5, 8, 8, 1)
  assert output.attention.shape == (4, 3, 5, 16)
  error = np.asarray(output.reconstruction, np.float64) - data["image"]
  expected = (error**2).mean(axis=(1, 2, 3))
  assert len(set(expected)) == 4
  np.testing.assert_allclose(results["mse"], expected, rtol=1e-5)
  assert {k: v.shape for k, v in results.items()} == dict.fromkeys(
    discovery.task.metric_names, (4,)
  )
  summary = discovery.task.summarize(results)
  assert set(summary) == set(discovery.task.metric_names)
  assert summary["mse"] == pytest.approx(expected.mean(), rel=1e-5)
  assert isinstance(summary["mse"], float)


def test_segmentation_metrics_read_the_largest_mask(discovery):
  data = batch()
  output = discovery.apply(discovery.params, data["image"], discovery.key, 0)
  predicted = np.asarray(output.masks)[..., 0].argmax(axis=1)
  # Truth that agrees with the masks of each image, as far as 3 groups can.
  groups = np.minimum(predicted, 2).astype(np.int32)
  results = discovery.results(data | {"segmentation": groups})
  for b in range(4):
    if groups[b].max() == predicted[b].max() and len(np.unique(groups[b])) > 1:
      assert results["ari"][b] == pytest.approx(1, abs=1e-5)
  assert (results["ari"] > discovery.results(data)["ari"]).all()


# Set prediction.


def test_loss_of_each_set(prediction):
  data = batch()
  results = prediction.results(data)
  np.testing.assert_array_equal(results["targets"], data["target"])
  assert results["predictions"].shape == (4, 4, LAYOUT.size)
  expected = []
  for p, t in zip(results["predictions"], data["target"], strict=True):
    cost = 0.5 * ((p[:, None] - t[None]) ** 2).mean(axis=-1)
    expected.append(cost[optimize.linear_sum_assignment(cost)].sum())
  np.testing.assert_allclose(results["loss"], expected, rtol=1e-5)
  summary = prediction.task.summarize(results)
  assert list(summary) == ["loss", "ap_inf", "ap_0.5"]
  assert summary["loss"] == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.thorough
def test_position_weight_raises_the_loss_by_the_position_only():
  heavy = Evaluated("set_prediction", position_weight=2.0)
  data = batch()
  # One object: the best of all slots is its match.
  data["target"] = data["target"][:, :1]
  results = heavy.results(data)
  error = (results["predictions"] - data["target"]) ** 2 / 2
  error[..., :2] *= 2
  np.testing.assert_allclose(
    results["loss"], error.mean(axis=-1).min(axis=1), rtol=1e-5
  )


def test_average_precision_of_perfect_and_moved_predictions(prediction):
  # Of two kinds, so that at threshold inf each object is told from the other.
  values = {
    "coords": np.random.default_rng(0).uniform(0, 8, size=(4, 2, 2)),
    "kind": np.array([[0, 1], [1, 2], [2, 0], [1, 0]]),
  }
  targets = LAYOUT.encode(values, np.array([[1, 1], [1, 0], [1, 1], [1, 0]]))
  results = {
    "predictions": targets,
    "targets": targets,
    "loss": np.zeros(4, np.float32),
  }
  summary = prediction.task.summarize(results)
  assert summary == {
    "loss": 0,
    "ap_inf": pytest.approx(1, abs=1e-6),
    "ap_0.5": pytest.approx(1, abs=1e-6),
  }
  moved = targets.copy()
  moved[..., :2] += 1  # By 8 units of the data.
  summary = prediction.task.summarize(results | {"predictions": moved})
  assert summary["ap_inf"] == pytest.approx(1, abs=1e-6)
  assert summary["ap_0.5"] == 0


def test_extended_evaluation_counts_at_finite_thresholds_only(prediction):
  # -1 is the reference's sign for no threshold.
  task = dataclasses.replace(
    prediction.task, extended=True, thresholds=(-1.0, float("inf"), 0.5)
  )
  targets = jnp.asarray(batch()["target"])
  predicted, data = {"predictions": targets}, {"target": targets}
  results = jax.device_get(jax.jit(task.score)(predicted, data))
  summary = task.summarize(results)
  assert {k for k in summary if k.startswith("within")} == {"within_0.5"}
  assert summary["within_0.5"] == summary["accuracy_all"] == 1.0
  assert summary["ap_-1"] == summary["ap_inf"] > 0


# Noise.


@pytest.mark.parametrize(
  "name", ["discovery", pytest.param("prediction", marks=pytest.mark.thorough)]
)
def test_results_of_an_example_do_not_depend_on_its_batch(name, request):
  run = request.getfixturevalue(name)
  data = batch()
  whole = run.results(data)
  # Two batches of the same size: rolled by 2, with examples 2 and 3 first.
  rolled = run.results({k: np.roll(v, -2, axis=0) for k, v in data.items()}, 2)
  part = run.results({k: v[2:] for k, v in data.items()}, 2)
  metric = "mse" if name == "discovery" else "predictions"
  for other in (rolled[metric][:2], part[metric]):
    np.testing.assert_allclose(other, whole[metric][2:], rtol=1e-5, atol=1e-6)
  # Rows 2 and 3 of the rolled batch are examples 4 and 5: other noise.
  assert np.abs(rolled[metric][2:] - whole[metric][:2]).max() > 1e-5


@pytest.mark.parametrize("name", ["discovery", "prediction"])
def test_loss_of_a_training_batch(name, request):
  run = request.getfixturevalue(name)
  data = batch()

  @jax.jit
  def loss(params, key):
    return run.task.loss(params, data, run.task.draw_noise(params, 4, key))

  a, b, c = (
    float(loss(run.params, jax.random.key(seed))) for seed in (0, 0, 1)
  )
  assert a == b != c
  output = jax.jit(run.task.model.apply)(
    run.params, data["image"], rngs={"slots": jax.random.key(0)}
  )
  if name == "discovery":
    expected = ((output.reconstruction - data["image"]) ** 2).mean()
    assert output.slots.shape == (4, 3, 4)
    np.testing.assert_allclose(a, expected, rtol=1e-5)
  else:
    total = 0
    for p, t in zip(
      np.asarray(output.predictions), data["target"], strict=True
    ):
      cost = 0.5 * ((p[:, None] - t[None]) ** 2).mean(axis=-1)
      total += cost[optimize.linear_sum_assignment(cost)].sum()
    np.testing.assert_allclose(a, total / 4, rtol=1e-5)
