"""The loss with a foreground weight and iterations drawn for each example."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from slot_attention_jax import tasks
from slot_attention_jax.config import base
from slot_attention_jax.data import types
from slot_attention_jax.metrics import ari, contingency
from slot_attention_jax.training import optimizers, steps

INFO = types.DatasetInfo(
  name="toys",
  split="train",
  image_shape=(8, 8, 3),
  num_examples=None,
  layout=None,
  max_objects=2,
  has_segmentation=True,
)


def create(eval_num_slots=0, **changes):
  config = base.base_config()
  config.eval.num_slots = eval_num_slots
  config.model.update(
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
    **changes,
  )
  return tasks.create_task(config, INFO)


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_iterations(num_iterations):
  task = create()
  return dataclasses.replace(
    task, model=task.model.clone(num_iterations=num_iterations)
  )


BATCH = {"image": normal(0, 4, 8, 8, 3)}


@functools.cache
def initial(background_grid):
  """Parameters; the number of iterations does not change them."""
  task = create(background_grid=background_grid)
  return jax.jit(task.init)(jax.random.key(0))


def params_of(task):
  return initial(int(task.model.background is not None))


def loss_of(task, noise=None, batch=BATCH):
  params = params_of(task)
  if noise is None:
    noise = task.draw_noise(params, len(batch["image"]), jax.random.key(1))

  @jax.jit
  def loss_and_output(params, noise):
    output = task.apply_in_training(params, batch["image"], noise)
    return task.loss(params, batch, noise), output

  loss, output = loss_and_output(params, noise)
  return float(loss), output, noise


def test_the_foreground_is_what_slot_0_leaves_to_the_others():
  plain, output, _ = loss_of(create(background_grid=1))
  loss, _, _ = loss_of(create(background_grid=1, foreground_weight=0.5))
  covered = np.asarray(output.masks)[:, 1:].sum(axis=1).mean()
  np.testing.assert_allclose(loss, plain + 0.5 * covered, rtol=1e-5)


def test_the_background_is_compared_with_the_whole_image():
  plain, output, _ = loss_of(create(background_grid=1))
  loss, _, _ = loss_of(create(background_grid=1, background_weight=0.5))
  painted = np.asarray(output.images)[:, 0]
  difference = np.abs(painted - np.asarray(BATCH["image"])).mean()
  assert difference > 0.01
  np.testing.assert_allclose(loss, plain + 0.5 * difference, rtol=1e-5)


@pytest.mark.parametrize(
  "options",
  [{}, pytest.param({"background_grid": 1}, marks=pytest.mark.thorough)],
)
def test_the_overlap_is_that_of_the_slots_without_the_background(options):
  plain, output, _ = loss_of(create(**options))
  loss, _, _ = loss_of(create(**options, overlap_weight=0.5))
  masks = np.asarray(output.masks)[:, 1 if options else 0 :]
  overlap = sum(
    (masks[:, k] * masks[:, j]).mean()
    for k in range(masks.shape[1])
    for j in range(masks.shape[1])
    if j != k
  )
  assert overlap > 0.01
  np.testing.assert_allclose(loss, plain + 0.5 * overlap, rtol=1e-5)


@pytest.mark.parametrize(
  ("step", "weight"),
  [
    (15, 0.25),
    *(
      pytest.param(*case, marks=pytest.mark.thorough)
      for case in ((0, 0), (10, 0), (20, 0.5), (30, 0.5), (35, 0.25), (99, 0))
    ),
  ],
)
@pytest.mark.parametrize(
  "options",
  [
    {},
    pytest.param({"train_iterations": (2, 3)}, marks=pytest.mark.thorough),
  ],
)
def test_the_weight_of_the_foreground_rises_and_falls(step, weight, options):
  task = create(
    background_grid=1,
    foreground_weight=0.5,
    foreground_ramp=(10, 20),
    foreground_fall=(30, 40),
    **options,
  )
  params, key = params_of(task), jax.random.key(1)
  drawn = jax.jit(lambda step: task.draw_noise(params, 4, key, step))(step)
  np.testing.assert_allclose(drawn[1]["foreground"], [weight] * 4, rtol=1e-6)
  plain, output, noise = loss_of(create(background_grid=1, **options))
  jax.tree.map(np.testing.assert_array_equal, drawn[0], noise)
  loss, _, _ = loss_of(task, drawn)
  covered = np.asarray(output.masks)[:, 1:].sum(axis=1).mean()
  np.testing.assert_allclose(loss, plain + weight * covered, rtol=1e-5)


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"foreground_ramp": (10, 20)}, [0, 0.5, 0.5]),
    ({"foreground_fall": (10, 20)}, [0.5, 0, 0]),
  ],
)
def test_the_weight_of_the_foreground_rises_or_falls(changes, expected):
  task = create(background_grid=1, foreground_weight=0.5, **changes)
  params, key = params_of(task), jax.random.key(1)
  drawn = [task.draw_noise(params, 1, key, s)[1] for s in (0, 20, 99)]
  np.testing.assert_allclose([d["foreground"][0] for d in drawn], expected)


def test_the_weight_of_the_overlap_rises_and_that_of_the_foreground_stays():
  options = {"background_grid": 1, "foreground_weight": 0.5}
  task = create(**options, overlap_weight=0.8, overlap_ramp=(10, 20))
  params, key = params_of(task), jax.random.key(1)
  drawn = [task.draw_noise(params, 4, key, s) for s in (10, 15, 99)]
  weights = [float(d[1]["overlap"][0]) for d in drawn]
  np.testing.assert_allclose(weights, [0, 0.4, 0.8], rtol=1e-6)
  expected, _, _ = loss_of(create(**options, overlap_weight=0.4))
  loss, _, _ = loss_of(task, drawn[1])
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.thorough
def test_iterations_are_drawn_for_each_example_beside_the_noise():
  task, plain = create(train_iterations=(2, 5)), create()
  _, _, expected = loss_of(plain)
  loss, output, (noise, counts) = loss_of(task)
  np.testing.assert_array_equal(noise, expected)
  assert output.attention.shape[1] == 5
  drawn = task.draw_noise(params_of(task), 200, jax.random.key(2))[1]
  assert set(np.asarray(drawn).tolist()) == {2, 3, 4, 5}
  # Example by example, the loss of the model with as many iterations.
  alone = [
    loss_of(
      with_iterations(int(t)),
      noise[b : b + 1],
      {"image": BATCH["image"][b : b + 1]},
    )[0]
    for b, t in enumerate(counts)
  ]
  np.testing.assert_allclose(loss, np.mean(alone), rtol=1e-5)


@pytest.mark.parametrize(
  ("step", "expected"),
  [
    (9, {1, 2}),
    (10, {3, 4}),
    *(
      pytest.param(*case, marks=pytest.mark.thorough)
      for case in ((0, {1, 2}), (99, {3, 4}))
    ),
  ],
)
def test_the_first_steps_draw_other_iterations(step, expected):
  task = create(
    train_iterations=(3, 4), early_iterations=(1, 2), early_steps=10
  )
  params, key = params_of(task), jax.random.key(1)
  noise, counts = task.draw_noise(params, 100, key, step)
  assert set(np.asarray(counts).tolist()) == expected
  plain, _ = create(train_iterations=(3, 4)).draw_noise(params, 100, key)
  np.testing.assert_array_equal(noise, plain)


def test_the_most_iterations_of_any_step_are_run():
  task = create(
    train_iterations=(1, 2), early_iterations=(1, 4), early_steps=10
  )
  params = params_of(task)
  output = jax.eval_shape(
    lambda key: task.apply_in_training(
      params, BATCH["image"], task.draw_noise(params, 4, key)
    ),
    jax.random.key(1),
  )
  assert output.attention.shape[1] == 4


def test_iterations_are_split_over_the_devices_as_the_noise_is():
  mesh = jax.make_mesh(
    (4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  task = create(
    train_iterations=(1, 3),
    early_iterations=(1, 2),
    early_steps=5,
    background_grid=1,
    foreground_weight=0.1,
    foreground_ramp=(5, 10),
  )
  optimizer, schedule = optimizers.create_optimizer(base.base_config().optim)
  step = steps.make_train_step(task, optimizer, schedule, mesh)
  # Lowering fails unless each device gets the counts of its own examples.
  lowered = step.lower(steps.abstract_state(task, optimizer, mesh), BATCH)
  state, metrics = lowered.out_info
  assert state.params.keys() == {"params"}
  assert metrics["loss"].shape == ()


@pytest.mark.parametrize(
  "key",
  [
    "train_iterations",
    "early_iterations",
    "foreground_ramp",
    "foreground_fall",
    "overlap_ramp",
  ],
)
@pytest.mark.parametrize("given", [(-1, 3), (3, 2)])
def test_pairs_that_cannot_be(key, given):
  with pytest.raises(ValueError, match=rf"model\.{key} to be \(0, 0\) or"):
    create(**{key: given})


def test_a_slot_for_the_background_leaves_the_number_of_slots_free():
  assert create(slot_init="background", eval_num_slots=5).num_slots == 5


def test_all_is_off_by_default():
  task = create()
  assert task.model.background is None
  assert task.foreground_weight == 0
  assert task.train_iterations == (0, 0)
  assert task.early_steps == 0


@pytest.mark.thorough
def test_all_scores_come_from_one_table_of_counts(monkeypatch):
  table, tables = contingency.contingency_table, []

  def count(*arguments):
    tables.append(table(*arguments))
    return tables[-1]

  monkeypatch.setattr(contingency, "contingency_table", count)
  task = dataclasses.replace(create(), extended=True)
  h, w = task.image_shape[:2]
  rng = np.random.default_rng(0)
  # -1 and 3 are left out of the ground truth, and not out of the slots.
  true_ids = rng.integers(-1, 4, (2, h, w))
  pred_ids = np.zeros((2, h, w), np.int32)
  pred_ids[:, 0] = 1
  true_ids[0, 0], true_ids[1, 0] = -1, 3
  scores = task.score({"segments": pred_ids}, {"segmentation": true_ids})
  assert len(tables) == 1
  assert tables[0].sum() == true_ids.size
  assert scores["slots_in_use"].tolist() == [2, 2]
  expected = ari.adjusted_rand_index(
    true_ids, pred_ids, num_true_groups=3, num_pred_groups=task.num_slots
  )
  np.testing.assert_array_equal(scores["ari"], expected)
