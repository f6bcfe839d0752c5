"""Tests of models trained on synthetic CLEVR scenes, on Blender's images."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import slot_attention_jax as sa
from experiments.blender import blender_images, evaluate_transfer
from experiments.common import configuration
from slot_attention_jax import tasks
from slot_attention_jax.data import procedural, transforms, types
from slot_attention_jax.data.procedural.clevr import annotations, scene
from slot_attention_jax.metrics import ari, overlap
from slot_attention_jax.metrics import average_precision as ap
from slot_attention_jax.pretrained import weights_file
from slot_attention_jax.runtime import files
from slot_attention_jax.training import checkpoints
from slot_attention_jax.training import state as state_lib

# Three scenes, of 3, 10 and 9 objects: on 4 devices a batch needs padding.
DATA = pathlib.Path(__file__).parents[2] / "testdata/clevr_render"
SIZE, FRAME = (16, 16), (240, 320)
MODEL = (
  "data.resolution=(16, 16),data.max_objects=0,model.slot_size=4,"
  "model.mlp_hidden_size=0,model.encoder_channels=(4,),"
  "model.encoder_kernel_sizes=(3,),model.encoder_strides=(2,),"
  "model.encoder_mlp_sizes=(4,),model.num_iterations=2,model.unroll=1"
)
CONFIGS = {
  "discovery": (
    f"configs/clevr_discovery.py:{MODEL},model.num_slots=4,"
    "model.broadcast_size=(8, 8),model.decoder_channels=(),"
    "model.decoder_kernel_sizes=(4,),model.decoder_strides=(2,)"
  ),
  "set_prediction": f"configs/clevr_set.py:{MODEL},model.head_hidden_size=4",
}


@pytest.fixture(scope="module")
def content():
  """The arrays of an IMAGES.npz file."""
  items = json.loads((DATA / "scenes.json").read_text())["scenes"]
  scenes = [annotations.parse_scene(item) for item in items]
  arrays = {
    name: np.stack([np.asarray(Image.open(DATA / f)) for f in files])
    for name, files in (
      ("image", [f"image_{i}.png" for i in range(3)]),
      ("mask", [f"mask_{i}.png" for i in range(3)]),
    )
  }
  arrays["num_objects"] = np.array([len(item["objects"]) for item in items])
  for name in ("coords", "size", "material", "shape", "color"):
    arrays[name] = np.stack([getattr(s, name) for s in scenes])
  for name in ("size", "material", "shape", "color"):
    padding = np.arange(10) >= arrays["num_objects"][:, None]
    arrays[name] = np.where(padding, -1, arrays[name])
    arrays[f"{name}_names"] = np.array(types.CLEVR_LAYOUT[name].labels)
  return arrays


@pytest.fixture(scope="module")
def images(content, tmp_path_factory):
  path = tmp_path_factory.mktemp("images") / "images.npz"
  np.savez(path, **content)
  return path


def write(path, content, **changes):
  np.savez(path, **(content | changes))
  return path


def create(task):
  info = types.DatasetInfo(
    "scenes", "test", (*SIZE, 3), 3, types.CLEVR_LAYOUT, 10, True, True
  )
  config = sa.load_config(CONFIGS[task])
  return config, tasks.create_task(config, info)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Directories and parameters of untrained runs, by task."""
  created = {}
  for name in CONFIGS:
    config, task = create(name)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
      lambda x, rng=rng: jnp.asarray(rng.normal(size=x.shape), jnp.float32),
      jax.eval_shape(task.init, jax.random.key(0)),
    )
    # The optimizer's state is not read.
    state = state_lib.create(params, optax.sgd(1.0), jax.random.key(0))
    path = tmp_path_factory.mktemp(name)
    with checkpoints.Checkpointer(path / "checkpoints") as checkpointer:
      checkpointer.save(
        state.replace(step=jnp.int32(5)), files.jsonable(config.to_dict())
      )
    created[name] = path, params
  return created


def evaluate(capsys, *arguments):
  """Returns the result and the lines of the table."""
  result = evaluate_transfer.main(["--num_scenes=3", *map(str, arguments)])
  lines = capsys.readouterr().out.splitlines()
  assert json.loads(lines[-1]) == json.loads(json.dumps(result))
  return result, lines[:-1]


def evaluate_run(runs, task, images, capsys, *arguments):
  return evaluate(
    capsys,
    f"--config={CONFIGS[task]}",
    f"--workdir={runs[task][0]}",
    f"--data={images}",
    *(arguments or ("--batch_size=4",)),
  )


def by_data(result):
  return {row["data"]: row for row in result["rows"]}


SCENES_FLAG = f"--scenes={DATA / 'scenes.json'}"


def score_alone(task, params, content):
  """Metrics of each of Blender's images, computed one image at a time."""
  values = {name: [] for name in task.metric_names}
  for n in range(3):
    image = content["image"][n]
    image = transforms.preprocess_image(image, SIZE, "paper")
    image = np.round((image + 1) * 127.5) / 127.5 - 1
    image = image[None].astype(np.float32)
    mask = transforms.preprocess_segmentation(content["mask"][n], SIZE, "paper")
    output = task.apply(params, image, jax.random.key(0), n)
    square = np.square(np.asarray(output.reconstruction) - image)
    values["mse"].append(square.mean())
    found = output.masks[..., 0].argmax(axis=1)
    groups = {"num_true_groups": 11, "num_pred_groups": 4}
    score = ari.adjusted_rand_index
    values["ari"].append(score(mask[None], found, **groups)[0])
    values["fg_ari"].append(
      score(mask[None], found, foreground_only=True, **groups)[0]
    )
    values["miou"].append(overlap.mean_iou(mask[None], found, **groups)[0])
  return values


@pytest.mark.slow
def test_discovery_equals_one_image_at_a_time(
  runs, images, content, capsys, tmp_path
):
  sheet = tmp_path / "figures" / "sheet.png"
  result, lines = evaluate_run(
    runs,
    "discovery",
    images,
    capsys,
    "--batch_size=4",
    SCENES_FLAG,
    f"--figure={sheet}",
    "--figure_scenes=2",
  )
  rows = by_data(result)
  assert list(rows)[:4] == [
    "clevr_scenes/test",
    "clevr_calibration_own_renderer/3_to_10_objects",
    "clevr_calibration_own_renderer_resized/3_to_10_objects",
    "clevr_calibration_blender/3_to_10_objects",
  ]
  assert len(rows) == 6
  assert result["step"] == 5
  _, task = create("discovery")
  values = score_alone(task, runs["discovery"][1], content)
  row = rows["clevr_calibration_blender/3_to_10_objects"]
  for name, each in values.items():
    assert row["metrics"][name] == pytest.approx(
      np.mean(each, dtype=np.float64), rel=1e-6, abs=1e-5
    )
    error = np.std(each, ddof=1, dtype=np.float64) / 3**0.5
    assert row["standard_errors"][name] == pytest.approx(
      error, rel=1e-5, abs=1e-5
    )
  assert row["num_scenes"] == 3
  cell = f"{100 * np.mean(values['fg_ari']):.1f} +- "
  assert lines[5].split(" | ")[3].startswith(cell)
  assert lines[0] == "| data | scenes | mse | fg_ari, % | ari, % | miou, % |"

  same = rows["clevr_calibration_own_renderer/3_to_10_objects"]
  gap = rows["gap: Blender - own renderer"]
  for name in values:
    difference = row["metrics"][name] - same["metrics"][name]
    assert gap["metrics"][name] == pytest.approx(difference)
  # Of paired differences: scenes differ more than the two renderings of one.
  assert 0 < gap["standard_errors"]["mse"] < row["standard_errors"]["mse"]
  with Image.open(sheet) as image:
    # Two rows for each scene, of three images and four slots, upscaled by 6.
    assert image.size == (7 * 98 + 2, 4 * 98 + 2)


@pytest.mark.slow
def test_images_of_the_package_have_no_gap(runs, content, tmp_path, capsys):
  items = json.loads((DATA / "scenes.json").read_text())["scenes"]
  family = procedural.Clevr()
  render = jax.jit(lambda s: family.render(s, (240, 320)))
  renderings = [
    jax.device_get(render(annotations.parse_scene(item))) for item in items
  ]
  image = np.stack([r.image for r in renderings])
  path = write(
    tmp_path / "own.npz",
    content,
    image=np.round((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8),
    mask=np.stack([r.segmentation for r in renderings]).astype(np.uint8),
  )
  result, _ = evaluate_run(
    runs, "discovery", path, capsys, "--batch_size=4", SCENES_FLAG, "--name=own"
  )
  rows = by_data(result)
  resized = rows["gap: Blender - own renderer, both resized"]
  assert resized["metrics"] == dict.fromkeys(resized["metrics"], 0.0)
  assert resized["standard_errors"] == resized["metrics"]
  # The effect of resizing alone is small, but not zero.
  gap = rows["gap: Blender - own renderer"]["metrics"]["mse"]
  assert (
    0 < abs(gap) < 0.1 * rows["own_blender/3_to_10_objects"]["metrics"]["mse"]
  )


@pytest.mark.slow
def test_set_prediction_equals_average_precision(
  runs, images, content, tmp_path, capsys
):
  sheet = tmp_path / "sheet.png"
  result, lines = evaluate_run(
    runs,
    "set_prediction",
    images,
    capsys,
    "--batch_size=4",
    f"--figure={sheet}",
  )
  items = json.loads((DATA / "scenes.json").read_text())["scenes"]
  family = procedural.Clevr()
  targets = jnp.stack(
    [family.targets(annotations.parse_scene(item)) for item in items]
  )
  config, task = create("set_prediction")
  assert not config.data.crop
  # The model's frame is 320x480, so it sees fewer rows.
  assert tuple(config.data.scenes.frame) == (320, 480)
  seen = content["image"][:, 13:-13]
  seen = [transforms.preprocess_image(x, SIZE, None) for x in seen]
  seen = np.round((np.stack(seen) + 1) * 127.5) / 127.5 - 1
  output = task.apply(
    runs["set_prediction"][1], seen.astype(np.float32), jax.random.key(0)
  )
  expected = ap.average_precision(
    output.predictions, targets, types.CLEVR_LAYOUT, thresholds=task.thresholds
  )
  row = by_data(result)["clevr_calibration_blender/3_to_10_objects"]
  names = [f"ap_{t:g}" for t in task.thresholds]
  got = [row["metrics"][name] for name in names]
  np.testing.assert_allclose(got, expected, atol=1e-5)
  assert list(row["standard_errors"]) == ["loss"]
  assert "| ap_inf, % |" in lines[0]
  assert sheet.exists()


def test_rows_of_a_frame_with_another_aspect_ratio():
  """Cut to 320x480's aspect ratio, images of 240x320 show the same region."""
  view = blender_images.View(SIZE, (320, 480), None, (3, 10))
  rows = view.frame_rows(240, 320)
  assert (rows.start, rows.stop) == (13, 227)
  item = json.loads((DATA / "scenes.json").read_text())["scenes"][1]
  objects = annotations.parse_scene(item)
  tall, wide = (
    np.asarray(scene.project(objects.camera, objects.coords, frame))
    for frame in ((240, 320), (320, 480))
  )
  size = np.array([320 / 480, 214 / 320, 1])
  corner = np.array([0, 13, 0])
  np.testing.assert_allclose(wide * size + corner, tall, atol=0.5)
  same = blender_images.View(SIZE, (240, 320), "paper", (3, 10))
  assert same.frame_rows(240, 320) == slice(0, 240)
  assert same.frame_rows(480, 640) == slice(0, 480)
  with pytest.raises(ValueError, match=r"as 240x320.* got 320x480\. Set"):
    same.frame_rows(320, 480)
  literal = blender_images.View(SIZE, (240, 320), "literal", (3, 10))
  with pytest.raises(ValueError, match=r"crop 'literal', got 480x640"):
    literal.frame_rows(480, 640)


def test_targets_equal_those_of_synthetic_scenes(images):
  view = blender_images.View(SIZE, FRAME, None, (3, 10))
  blender = blender_images.BlenderImages(images, view)
  items = json.loads((DATA / "scenes.json").read_text())["scenes"]
  for target, item in zip(blender.arrays()["target"], items, strict=True):
    expected = procedural.Clevr().targets(annotations.parse_scene(item))
    np.testing.assert_allclose(target, expected, atol=1e-6)


@pytest.mark.slow
def test_scenes_outside_the_configs_range_are_left_out(
  runs, images, content, tmp_path, capsys
):
  config = CONFIGS["discovery"].replace("max_objects=0", "max_objects=9")
  result, lines = evaluate(
    capsys,
    f"--config={config}",
    f"--workdir={runs['discovery'][0]}",
    f"--data={images}",
    "--batch_size=4",
  )
  rows = by_data(result)
  # Without --scenes there are no gaps.
  assert list(rows) == [
    "clevr_scenes_3_to_9/test",
    "clevr_calibration_blender/3_to_9_objects",
  ]
  assert [row["num_scenes"] for row in rows.values()] == [3, 2]
  assert len(lines) == 4
  # The scenes of 3 and 9 objects.
  alone = {
    name: array if name.endswith("_names") else array[[0, 2]]
    for name, array in content.items()
  }
  again, _ = evaluate_run(
    runs, "discovery", write(tmp_path / "two.npz", alone), capsys
  )
  row = by_data(again)["clevr_calibration_blender/3_to_10_objects"]
  assert row["metrics"] == list(rows.values())[1]["metrics"]


@pytest.mark.slow
def test_weights_are_evaluated_with_their_config(
  runs, images, tmp_path, capsys
):
  config, _ = create("discovery")
  metadata = weights_file.WeightsMetadata(
    task="discovery",
    model=files.jsonable(config.model.to_dict()),
    resolution=SIZE,
    layout=None,
    command=(
      "--config=configs/clevr_discovery.py:debug --config.data.max_objects=0 "
      "'--config.data.resolution=(32, 32)'"
    ),
    data="clevr_scenes",
    synthetic_scenes=True,
    seed=0,
    steps=5,
    planned_steps=5,
    hardware="",
    minutes=None,
    evaluation={},
    metrics={},
    date="",
    license="",
    versions={},
    notes="",
  )
  path = tmp_path / "toy.safetensors"
  weights_file.save_weights(path, runs["discovery"][1], metadata)
  arguments = (f"--weights={path}", f"--data={images}", "--batch_size=4")
  result, _ = evaluate(capsys, *arguments)
  expected, _ = evaluate_run(runs, "discovery", images, capsys)
  assert result["rows"] == expected["rows"]
  assert (result["step"], result["checkpoint"]) == (5, None)


def test_load_command():
  config = configuration.load_command(
    "--config=configs/clevr_set.py:debug,model.slot_size=8 --config.seed=3 "
    "'--config.data.resolution=(32, 48)' --workdir=x"
  )
  assert (config.task, config.seed) == ("set_prediction", 3)
  assert config.train.num_steps == 2
  assert config.model.slot_size == 8
  assert config.data.resolution == (32, 48)
  alone = configuration.load_command("--config=configs/clevr_set.py")
  assert alone.data.resolution == (128, 128)
  with pytest.raises(ValueError, match="a command with --config=FILE, got 'x'"):
    configuration.load_command("x")


@pytest.mark.thorough
def test_invalid_models_raise(runs, images, content, tmp_path):
  data = f"--data={images}"
  with pytest.raises(
    ValueError, match=r"of CLEVR scenes.* got 'tetrominoes_scenes'"
  ):
    evaluate_transfer.main(["--pretrained=quickstart", data])
  with pytest.raises(ValueError, match="Expected --config with --workdir"):
    evaluate_transfer.main([f"--workdir={tmp_path}", data])
  with pytest.raises(
    FileNotFoundError, match=r"no 'checkpoints' in it\. Train"
  ):
    evaluate_transfer.main(
      [f"--config={CONFIGS['discovery']}", f"--workdir={tmp_path}", data]
    )
  command = [
    f"--config={CONFIGS['discovery']}",
    f"--workdir={runs['discovery'][0]}",
  ]
  with pytest.raises(ValueError, match="multiple of the 4 devices, got 3"):
    evaluate_transfer.main([*command, data, "--batch_size=3"])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"mask": None}, "none named mask"),
    ({"image": np.zeros((3, 4, 4, 3))}, r"uint8 in .*, got .* float64"),
    ({"color": np.zeros((3, 9), int)}, r"Expected color \(3, 10\)"),
    ({"color": np.full((3, 10), 8)}, r"ids of color in \[0, 8\)"),
    ({"color": np.full((3, 10), -1)}, r"got -1 to -1\. Only padding"),
    ({"size_names": np.array(["large", "small"])}, "the labels"),
    ({"num_objects": np.array([3, 2, 9])}, "no more than num_objects"),
    ({"num_objects": np.array([3, 11, 9])}, "at most 10 objects"),
  ],
)
def test_invalid_files_raise(content, tmp_path, changes, message):
  changed = {k: v for k, v in (content | changes).items() if v is not None}
  path = write(tmp_path / "images.npz", changed)
  view = blender_images.View(SIZE, FRAME, "paper", (3, 10))
  with pytest.raises(ValueError, match=message):
    blender_images.BlenderImages(path, view)


def test_no_scene_in_the_range_raises(images):
  view = blender_images.View(SIZE, FRAME, "paper", (4, 6))
  with pytest.raises(ValueError, match=r"of 4 to 6 objects .* got 3 to 10"):
    blender_images.BlenderImages(images, view)


def test_scenes_of_other_images_raise(images, tmp_path):
  view = blender_images.View(SIZE, FRAME, "paper", (3, 10))
  blender = blender_images.BlenderImages(images, view)
  items = json.loads((DATA / "scenes.json").read_text())["scenes"]
  path = tmp_path / "scenes.json"
  path.write_text(json.dumps(items[:2]))
  with pytest.raises(ValueError, match=r"Expected 3 scenes .* got 2"):
    blender.render_scenes(path)
  path.write_text(json.dumps([items[0], items[2], items[1]]))
  with pytest.raises(ValueError, match="objects of image 1 in scene 1"):
    blender.render_scenes(path)
  other = json.loads(json.dumps(items))
  other[2]["objects"][4]["color"] = "cyan"
  other[2]["objects"][5]["color"] = "cyan"
  path.write_text(json.dumps(other))
  with pytest.raises(ValueError, match="objects of image 2 in scene 2"):
    blender.render_scenes(path)
  del items[1]["camera_location"]
  path.write_text(json.dumps(items))
  with pytest.raises(ValueError, match=r"\['camera_location'\] in scene 1"):
    blender.render_scenes(path)
