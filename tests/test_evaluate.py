"""Evaluation on its own: of weights, of others' predictions, and what it says.

A checkpoint's is tested with the training that makes it, in test_train.py.
"""

import importlib.metadata
import json
import re

import jax
import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax import data, losses, pretrained
from slot_attention_jax import evaluate as evaluate_lib
from slot_attention_jax.data import cached_dataset, from_config, types
from slot_attention_jax.evaluation import predictions
from slot_attention_jax.runtime import mesh
from slot_attention_jax.tasks import object_discovery, task

DATA = "tetrominoes_scenes/validation"

pytestmark = pytest.mark.usefixtures("shared_programs")


def config_of(arg=""):
  return sa.load_config(f"quickstart:debug,{arg}")


def strict_json(path):
  def refuse(name):
    raise AssertionError(f"{name} is not JSON.")

  return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def of_weights(tmp_path_factory):
  """The package's weights on six scenes, and the directory."""
  path = tmp_path_factory.mktemp("weights")
  # A model that the config does not have: the weights say which it is.
  config = config_of("model.num_slots=3,model.slot_size=8")
  source = evaluate_lib.Source(pretrained="quickstart")
  metrics = evaluate_lib.evaluate_model(
    config, str(path), source, "--config=mine"
  )
  return path, metrics


def test_weights_are_evaluated_with_their_own_model(of_weights):
  path, metrics = of_weights
  assert metrics[f"{DATA}/fg_ari"] > 0.8  # They were trained.
  content = strict_json(path / "evaluation.json")
  assert (content["num_slots"], content["num_iterations"]) == (5, 5)
  assert content["step"] == 8_000
  # That in the header of the file of weights.
  file = pretrained._path_of("quickstart").read_bytes()
  assert f'sha256\\": \\"{content["parameters_sha256"]}'.encode() in file
  assert (path / "images" / "evaluation.png").exists()


def test_the_report_names_all_conditions(of_weights):
  path, metrics = of_weights
  content = strict_json(path / "evaluation.json")
  protocol = content["protocol"]
  assert protocol["model"] == "pretrained quickstart"
  assert protocol["config"] == "--config=mine"
  assert (protocol["data"], protocol["split"]) == tuple(DATA.split("/"))
  assert protocol["own_scenes"] is True
  assert protocol["num_examples"] == 6
  assert (protocol["resolution"], protocol["crop"]) == ([28, 28], "none")
  assert "argmax" in protocol["masks"]
  assert "without an object" in protocol["background"]
  assert protocol["code"].startswith("0.1.0")
  text = (path / "evaluation.md").read_text()
  for name, value in metrics.items():
    short = name.rsplit("/", 1)[1]
    error = content["standard_errors"][name]
    base = short.removesuffix("_attention")
    (row,) = re.findall(rf"^\| {base} \|.*$", text, re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    column = 2 if short.endswith("_attention") else 1
    assert cells[column] == f"{value:.4f} +- {error:.4f}"
    assert cells[3], f"{name} is not explained."
  assert "| K, T | 5, 5 |" in text
  assert "| synthetic scenes | True |" in text
  assert f"| data | {DATA.split('/')[0]} |" in text


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
  path = tmp_path_factory.mktemp("examples")
  metrics = evaluate_lib.export_split(config_of(), str(path))
  assert metrics == {f"{DATA}/num_examples": 6}
  with np.load(path / "examples.npz") as file:
    return dict(file)


def test_exported_examples_are_those_of_the_split(examples):
  assert examples["image"].dtype == np.uint8
  assert examples["image"].shape == (6, 28, 28, 3)
  dataset = data.create_dataset(
    config_of(),
    "validation",
    batch_size=4,
    sharding=mesh.batch_sharding(mesh.create_mesh()),
  )
  batch = dataset.batch(1)
  images = (np.asarray(batch["image"][:2]) + 1) * 127.5
  np.testing.assert_allclose(examples["image"][4:], images, atol=0.51)
  np.testing.assert_array_equal(
    examples["segmentation"][4:], batch["segmentation"][:2]
  )


def evaluate(tmp_path, config=None, **arrays):
  np.savez(tmp_path / "theirs.npz", **arrays)
  source = evaluate_lib.Source(predictions=str(tmp_path / "theirs.npz"))
  config = config or config_of()
  return evaluate_lib.evaluate_model(config, str(tmp_path / "out"), source)


def test_the_true_segments_score_1(examples, tmp_path):
  # Under other names, and with reconstructions that are one gray level off.
  metrics = evaluate(
    tmp_path,
    segments=3 - examples["segmentation"].astype(np.int32),
    reconstruction=examples["image"].astype(np.float32) / 127.5 - 1 + 2 / 255,
  )
  expected = dict.fromkeys((*object_discovery.SCORES, "mbo", "covering"), 1.0)
  expected |= {"slots_in_use": 4.0, "background_split": 0.0}
  short = {k.rsplit("/", 1)[1]: v for k, v in metrics.items()}
  psnr = short.pop("psnr")
  assert short.pop("mse") == pytest.approx((2 / 255) ** 2, rel=0.6)
  assert psnr > 40
  assert short == pytest.approx(expected, abs=1e-5)
  content = strict_json(tmp_path / "out" / "evaluation.json")
  assert content["protocol"]["model"] == "predictions theirs.npz"
  assert (content["num_slots"], content["num_iterations"]) == (4, None)
  assert (content["step"], content["num_examples"]) == (None, 6)
  assert "of the file" in content["protocol"]["masks"]


def test_evaluation_needs_no_installation(examples, tmp_path, monkeypatch):
  version = importlib.metadata.version

  def find(name):
    if name == "slot_attention_jax":
      raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

  monkeypatch.setattr(importlib.metadata, "version", find)
  evaluate(tmp_path, segments=examples["segmentation"].astype(np.int32))
  content = strict_json(tmp_path / "out" / "evaluation.json")
  assert content["metrics"][f"{DATA}/ari"] == pytest.approx(1.0)
  assert content["protocol"]["code"]


def test_masks_and_their_argmax_score_the_same(examples, tmp_path):
  masks = np.random.default_rng(0).random((6, 5, 28, 28, 1), np.float32)
  masks[:, 1:] += (
    0.4 * np.eye(4)[examples["segmentation"]].transpose(0, 3, 1, 2)[..., None]
  )
  one = evaluate(tmp_path, masks=masks)
  two = evaluate(tmp_path, segments=masks[..., 0].argmax(axis=1))
  assert one == two
  assert 0.0 < one[f"{DATA}/ari"] < 1.0


@pytest.mark.thorough
def test_masks_of_a_model_score_like_the_model(of_weights, examples, tmp_path):
  """The scores of a file are those of the model that predicted it."""
  task_noise = task.example_noise(jax.random.key(0), 0, 6, 5, 64)
  model, params = sa.load_pretrained("quickstart")
  output = jax.jit(model.apply)(
    params, examples["image"] / np.float32(127.5) - 1, noise=task_noise
  )
  theirs = evaluate(tmp_path, masks=np.asarray(output.masks))
  for name, value in theirs.items():
    # From images of 256 levels, and by the argmax of others' order of sums.
    assert value == pytest.approx(of_weights[1][name], abs=2e-3), name


IMAGES = (6, 28, 28, 3)


def with_segments(reconstruction):
  segments = np.zeros((6, 28, 28), int)
  return {"segments": segments, "reconstruction": reconstruction}


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"segments": np.zeros((5, 28, 28), int)}, r"\[6, 28, 28\].*got \[5, 28"),
    ({"segments": np.zeros((6, 8, 8), int)}, r"\[6, 28, 28\].*--mode=export"),
    ({"segments": np.zeros((6, 28, 28))}, "integers from 0, got float64"),
    ({"segments": np.full((6, 28, 28), -1)}, "integers from 0, got int64"),
    ({"segments": np.full((6, 28, 28), 256)}, "below 256, got 256.*from 0"),
    ({"masks": np.zeros((6, 28, 28))}, r"\[N, K, H, W\].*got \(6, 28, 28\)"),
    ({"images": np.zeros((6, 28, 28))}, r"'segments', 'masks'.*got \[\]"),
    (
      {"predictions": np.zeros((6, 4, 9))},
      r"'segments' in .*got \['predictions'\]",
    ),
    ({"segments": np.zeros((0, 28, 28), int)}, r"have values, got \(0, 28"),
    ({"masks": np.full((6, 2, 28, 28), np.nan)}, "finite.* 9408 of 9408"),
    ({"predictions": np.full((6, 4, 9), np.inf)}, "predictions.*finite"),
    (with_segments(np.zeros(IMAGES, np.uint8)), r"floats, got uint8.*127\.5"),
    (with_segments(np.full(IMAGES, 255.0)), r"\[-1, 1\].*255 to 255.*127\.5"),
    (with_segments(np.zeros(IMAGES)), r"from 0 on, where .* -1\. .*2 \* x - 1"),
    (with_segments(np.full(IMAGES, -np.inf)), "reconstruction.*finite"),
    (
      with_segments(np.zeros((6, 28, 28))),
      r"reconstruction \[6, 28, 28, 3\]",
    ),
  ],
)
def test_predictions_that_do_not_fit_are_errors(arrays, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    evaluate(tmp_path, **arrays)
  assert not (tmp_path / "out").exists()


def test_files_without_predictions_are_errors(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"found no .*none\.npz"):
    predictions.load_predictions(str(tmp_path / "none.npz"))
  path = tmp_path / "text.npz"
  path.write_text("not an archive")
  with pytest.raises(ValueError, match=r"numpy\.savez writes"):
    predictions.load_predictions(str(path))
  with path.open("wb") as file:
    np.save(file, np.zeros((1, 2, 4, 4)))
  with pytest.raises(ValueError, match="a single array"):
    predictions.load_predictions(str(path))
  np.savez(path, masks=np.zeros((1, 2, 4, 4)))
  path.write_bytes(path.read_bytes()[:-40])
  with pytest.raises(ValueError, match="cannot be read"):
    predictions.load_predictions(str(path))


@pytest.mark.parametrize(
  "source",
  [{"pretrained": "quickstart"}, {"weights": "x"}, {"predictions": "y"}],
)
def test_only_a_run_is_evaluated_into_the_directory_of_a_run(source, tmp_path):
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(ValueError, match="that of a run"):
    evaluate_lib.evaluate_model(
      config_of(), str(tmp_path), evaluate_lib.Source(**source)
    )
  assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_only_one_source_can_be_evaluated():
  with pytest.raises(ValueError, match=r"got \['pretrained', 'weights'\]"):
    evaluate_lib.Source(pretrained="quickstart", weights="x.safetensors")
  assert evaluate_lib.Source().kind == "checkpoint"


@pytest.fixture
def sets():
  """A dataset of eight images with objects, and their targets."""
  rng = np.random.default_rng(0)
  layout = types.CLEVR_LAYOUT
  values = {"coords": rng.uniform(-3, 3, (8, 4, 3))} | {
    p.name: rng.integers(0, p.size, (8, 4))
    for p in layout.of_kind("categorical")
  }
  targets = layout.encode(values, real=rng.random((8, 4)) < 0.7)

  def create(config, split, *, batch_size, sharding):
    info = types.DatasetInfo(
      "sets", split, (8, 8, 3), 8, layout=layout, max_objects=4
    )
    return cached_dataset.CachedDataset(
      {"image": np.zeros((8, 8, 8, 3), np.uint8), "target": targets},
      np.arange(8),
      info,
      batch_size=batch_size,
      sharding=sharding,
      seed=0,
      shuffle=False,
    )

  data.register("sets", create)
  yield targets
  from_config._REGISTERED.clear()


@pytest.mark.thorough
def test_sets_of_objects_are_scored_property_by_property(sets, tmp_path):
  config = sa.load_config("clevr_set:debug,data.name=sets")
  # In another order, and more predictions than objects.
  guesses = np.concatenate([np.zeros((8, 1, 19), np.float32), sets[:, ::-1]], 1)
  exact = evaluate(tmp_path, config, predictions=guesses)
  columns = types.CLEVR_LAYOUT.slice("color")
  guesses[..., columns] = np.roll(guesses[..., columns], 1, axis=-1)
  wrong = evaluate(tmp_path, config, predictions=guesses)
  name = "sets/validation"
  assert exact[f"{name}/ap_0.125"] == 1.0
  assert exact[f"{name}/accuracy_all"] == 1.0
  # The report tells why.
  assert wrong[f"{name}/ap_inf"] < 0.05
  assert wrong[f"{name}/accuracy_color"] == 0.0
  assert wrong[f"{name}/accuracy_shape"] == 1.0
  assert wrong[f"{name}/distance"] == 0.0
  loss = losses.set_prediction_loss(guesses, sets).mean()
  assert wrong[f"{name}/loss"] == pytest.approx(float(loss), rel=1e-5)
  content = strict_json(tmp_path / "out" / "evaluation.json")
  assert set(content["standard_errors"]) == set(wrong)
  text = (tmp_path / "out" / "evaluation.md").read_text()
  rows = re.findall(r"^\| (ap_\S+|loss) \|", text, re.MULTILINE)
  assert rows == ["ap_inf", "ap_1", "ap_0.5", "ap_0.25", "ap_0.125", "loss"]
