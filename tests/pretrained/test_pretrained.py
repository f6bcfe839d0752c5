"""Tests of the weights that come with the package."""

import pathlib
import shutil

import jax
import numpy as np
import pytest
import scipy.optimize

import slot_attention_jax as sa
from experiments.common import configuration
from slot_attention_jax import data, pretrained, tasks
from slot_attention_jax.config import base
from slot_attention_jax.data import procedural
from slot_attention_jax.models import from_config
from slot_attention_jax.runtime import mesh as mesh_lib

ROOT = pathlib.Path(__file__).parents[2]


def test_an_unknown_name_is_an_error():
  with pytest.raises(
    ValueError, match=r"\[.*'quickstart'.*got 'quick'.*load_w"
  ):
    sa.load_pretrained("quick")
  with pytest.raises(ValueError, match=r"got '\.\./quickstart'"):
    sa.pretrained_metadata("../quickstart")


@pytest.mark.parametrize("name", sa.pretrained_names())
def test_shipped_weights_load_and_are_small(name):
  _, params = sa.load_pretrained(name)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
  path = pathlib.Path(pretrained.__file__).parent / f"{name}.safetensors"
  # It is in every copy of the package.
  assert path.stat().st_size < 5e6
  # This compares shapes, too.
  _, checked = sa.load_weights(path)
  jax.tree.map(np.testing.assert_array_equal, params, checked)


def test_models_of_the_package_are_not_traced_to_load_them():
  traced = []

  def listen(event, *_, **unused_labels):
    if event.endswith("trace_duration"):
      traced.append(event)

  path = pathlib.Path(pretrained.__file__).parent / "quickstart.safetensors"
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    sa.load_pretrained("quickstart")
    assert not traced
    sa.load_weights(path)  # That of a file is.
    assert traced
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


def test_a_changed_file_of_the_package_is_an_error(tmp_path, monkeypatch):
  """Also in metadata, for which these files have no checksum of their own."""
  directory = pathlib.Path(pretrained.__file__).parent
  for name in ("clevr6_small.safetensors", "sha256.json"):
    shutil.copy(directory / name, tmp_path)
  path = tmp_path / "clevr6_small.safetensors"
  old, new = (rf"\"num_iterations\": {t}".encode() for t in (3, 7))
  assert old in path.read_bytes()
  path.write_bytes(path.read_bytes().replace(old, new))
  monkeypatch.setattr(pretrained, "_DIRECTORY", tmp_path)
  with pytest.raises(ValueError, match="SHA-256"):
    sa.pretrained_metadata("clevr6_small")
  with pytest.raises(ValueError, match="SHA-256"):
    sa.load_pretrained("clevr6_small")


@pytest.mark.parametrize("name", sa.pretrained_names())
def test_all_settings_are_known(name):
  settings = from_config.current_settings(sa.pretrained_metadata(name).model)
  assert settings.keys() <= {*base.base_config().model}


def test_model_matches_its_config():
  metadata = sa.pretrained_metadata("quickstart")
  config = sa.load_config("quickstart")
  assert metadata.command.startswith("--config=configs/quickstart.py")
  assert metadata.planned_steps == metadata.steps == config.train.num_steps
  info = _validation(config).info
  model, _ = sa.load_pretrained("quickstart")
  assert model == tasks.create_task(config, info).model


@pytest.mark.parametrize(
  "name",
  [
    pytest.param("quickstart", marks=pytest.mark.thorough),
    pytest.param("clevr6", marks=pytest.mark.slow),
    pytest.param("clevr6_small", marks=pytest.mark.slow),
    pytest.param("multi_dsprites", marks=pytest.mark.slow),
    pytest.param("multi_dsprites_small", marks=pytest.mark.slow),
    pytest.param("tetrominoes_small", marks=pytest.mark.slow),
    pytest.param("tetrominoes", marks=pytest.mark.slow),
  ],
)
def test_autoencoders_reach_the_metrics_of_their_cards(name):
  metadata = sa.pretrained_metadata(name)
  assert metadata.evaluation["num_examples"] == 320
  metrics, info = _measure(name, 320)
  for short, value in metrics.items():
    expected = metadata.metrics[f"{info.name}/{info.split}/{short}"]
    # Other machines round differently, and a mask may win by a hair.
    assert value == pytest.approx(expected, abs=5e-3), short


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clevr_set", "clevr_set_small"])
def test_set_predictors_reach_the_metrics_of_their_cards(name):
  metadata = sa.pretrained_metadata(name)
  metrics, info = _measure(name, 256)
  for short, value in metrics.items():
    # The card is of 15,000 scenes.
    expected = metadata.metrics[f"{info.name}/{info.split}/{short}"]
    assert value == pytest.approx(expected, abs=0.05), short
  assert metrics["ap_inf"] > 0.6


def test_the_readme_example_finds_the_objects():
  section = (ROOT / "README.md").read_text(encoding="utf-8")
  section = section.partition("## Pretrained models")[2]
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


@pytest.mark.thorough
def test_the_readme_example_finds_the_properties():
  section = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
  section = section.partition("## Properties of objects")[2]
  code = section.partition("```python\n")[2].partition("```")[0]
  values = {}
  exec(code, values)
  family = procedural.Clevr(frame=(320, 480))
  scene = family.sample(jax.random.key(0))
  targets = np.asarray(family.targets(scene))
  predictions = np.asarray(values["output"].predictions[0])
  _, order = scipy.optimize.linear_sum_assignment(
    np.square(targets[:, None] - predictions).sum(axis=-1)
  )
  real = targets[:, -1] > 0.5
  truth = sa.CLEVR_LAYOUT.decode(targets)["color"]
  found = np.asarray(values["objects"]["color"])[order]
  assert real.sum() >= 3
  assert (found == truth)[real].mean() > 0.5  # By chance: 1 / 8.


def _measure(name, num_scenes):
  """Metrics of shipped weights on the split of their card, and its info."""
  metadata = sa.pretrained_metadata(name)
  (split,) = {metric.split("/")[1] for metric in metadata.metrics}
  config = configuration.load_command(metadata.command)
  config.eval.batch_size = config.data.scenes.num_eval = num_scenes
  dataset = _validation(config, split)
  task = tasks.create_task(config, dataset.info)
  _, params = sa.load_pretrained(name)
  key = jax.random.key(config.eval.seed)
  results = jax.jit(task.evaluate)(params, dataset.batch(0), key, np.uint32(0))
  return task.summarize(jax.device_get(results)), dataset.info


def _validation(config, split="validation"):
  mesh = jax.make_mesh(
    (1,),
    (mesh_lib.AXIS,),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:1],
  )
  return data.create_dataset(
    config,
    split,
    batch_size=config.eval.batch_size,
    sharding=mesh_lib.batch_sharding(mesh),
  )
