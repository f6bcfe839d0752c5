"""Tests of the weights that come with the package."""

import pathlib

import jax
import numpy as np
import pytest

import slot_attention_jax as sa
from configs import quickstart
from slot_attention_jax import data, pretrained, sharding, tasks

ROOT = pathlib.Path(__file__).parents[2]


def test_an_unknown_name_lists_the_known_ones():
  with pytest.raises(ValueError, match=r"\['quickstart'.*got 'quick'.*load_w"):
    sa.load_pretrained("quick")
  with pytest.raises(ValueError, match=r"got '\.\./quickstart'"):
    sa.pretrained_facts("../quickstart")


@pytest.mark.parametrize("name", sa.pretrained_names())
def test_all_that_is_shipped_is_loaded_and_small(name):
  _, params = sa.load_pretrained(name)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
  path = pathlib.Path(pretrained.__file__).parent / f"{name}.safetensors"
  # It is in every copy of the package.
  assert path.stat().st_size < 5e6


def test_the_model_is_that_of_the_config():
  facts = sa.pretrained_facts("quickstart")
  config = quickstart.get_config()
  assert facts.recipe.startswith("--config=configs/quickstart.py")
  assert facts.planned_updates == facts.updates == config.train.num_steps
  info = _validation(config).info
  model, _ = sa.load_pretrained("quickstart")
  assert model == tasks.create_task(config, info).model


def test_quickstart_is_as_good_as_its_card_says():
  facts = sa.pretrained_facts("quickstart")
  assert facts.evaluation["num_examples"] == 320
  (split,) = {name.split("/")[1] for name in facts.metrics}
  config = quickstart.get_config("eval.batch_size=320")
  dataset = _validation(config, split)
  task = tasks.create_task(config, dataset.info)
  _, params = sa.load_pretrained("quickstart")
  key = jax.random.key(config.eval.seed)
  results = jax.jit(task.evaluate)(params, dataset.batch(0), key, np.uint32(0))
  metrics = task.summarize(jax.device_get(results))
  assert metrics["fg_ari"] > 0.9
  for name, value in metrics.items():
    expected = facts.metrics[f"tetrominoes_scenes/{split}/{name}"]
    # Other machines round differently, and a mask may win by a hair.
    assert value == pytest.approx(expected, abs=5e-3), name


def test_the_readme_example_finds_the_objects():
  section = (ROOT / "README.md").read_text(encoding="utf-8")
  section = section.partition("## Pretrained weights")[2]
  code = section.partition("```python\n")[2].partition("```")[0]
  values = {}
  exec(code, values)
  assert values["segmentation"].shape == (28, 28)
  score = sa.adjusted_rand_index(
    values["scene"].segmentation[None],
    values["segmentation"][None],
    num_true_groups=4,
    num_pred_groups=4,
    foreground_only=True,
  )
  assert score[0] > 0.9


def _validation(config, split="validation"):
  mesh = jax.make_mesh(
    (1,),
    (sharding.AXIS,),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:1],
  )
  return data.create_dataset(
    config,
    split,
    batch_size=config.eval.batch_size,
    sharding=sharding.over_batch(mesh),
  )
