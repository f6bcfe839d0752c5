"""Checks of a config: the best checkpoint's metric, weights to start from."""

import pytest

import slot_attention_jax as sa
from slot_attention_jax.tasks import object_discovery
from slot_attention_jax.training import checks


def task_of(max_objects):
  return object_discovery.ObjectDiscovery(
    model=sa.SlotAttentionAutoEncoder.from_preset("tetrominoes"),
    image_shape=(35, 35, 3),
    max_objects=max_objects,
    num_slots=4,
    num_iterations=3,
  )


@pytest.mark.parametrize(
  ("max_objects", "best"), [(3, ("fg_ari", "max")), (0, ("mse", "min"))]
)
def test_auto_takes_a_metric_that_the_data_allow(max_objects, best):
  config = sa.load_config("clevr_discovery:small")
  chosen = checks.with_best_metric(config, task_of(max_objects)).checkpoint
  assert (chosen.best_metric, chosen.best_mode) == best
  assert config.checkpoint.best_metric == "auto"  # The caller's is not changed.


def test_a_named_metric_that_the_data_do_not_allow_is_an_error():
  config = sa.load_config("quickstart")
  with pytest.raises(
    ValueError, match=r"best_metric out of \('mse',\).*fg_ari"
  ):
    checks.with_best_metric(config, task_of(0))


@pytest.mark.parametrize(
  "name",
  [
    "clevr_discovery:small,enlarged",
    "clevr_discovery:small,background,enlarged",
    "clevr_set:small,enlarged",
    "multi_dsprites:small,background,enlarged",
  ],
)
def test_an_enlarged_model_needs_weights_or_a_word_that_it_does_not(name):
  config = sa.load_config(name)
  message = r"train\.initial_weights=RUN; .* random .*train\.initial_weights= "
  with pytest.raises(ValueError, match=message):
    checks.check(config, 1)
  checks.check_evaluation(config, 1)
  for chosen in ("", "runs/small"):
    with config.unlocked():
      config.train.initial_weights = chosen
    checks.check(config, 1)


def test_weights_named_before_the_variant_stay():
  config = sa.load_config(
    "clevr_discovery:train.initial_weights=runs/a,small,enlarged"
  )
  assert config.train.initial_weights == "runs/a"
