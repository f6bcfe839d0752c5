"""Tests of the export of rendered scenes."""

import gzip
import importlib
import importlib.util
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import slot_attention_jax as sa
from slot_attention_jax import data, render
from slot_attention_jax.data import procedural, types
from slot_attention_jax.data.multi_object import layouts
from slot_attention_jax.evaluation import visualize
from slot_attention_jax.runtime import files, mesh, signals

NAME = "tetrominoes_scenes_validation"
SCENES = 6


@pytest.fixture(scope="module", autouse=True)
def tfds():
  # Imported once and with its own deprecations let pass, so that the tests
  # below run with every warning an error.
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    importlib.import_module("tensorflow_datasets")
    importlib.import_module("tensorflow_datasets.proto")


def settings(arg=""):
  keys = "data.resolution=(14, 21),eval.batch_size=4,train.batch_size=4"
  config = sa.load_config(f"tetrominoes:{keys},data.scenes.num_eval={SCENES}")
  with config.unlocked():
    for item in filter(None, arg.split(";")):
      key, value = item.split("=")
      config.update_from_flattened_dict({key: value})
  return config


def scenes_of(split, count, batch_size, resolution):
  """Images and segmentations as training and evaluation get them."""
  training = split == "train"
  dataset = procedural.SceneDataset(
    procedural.Tetrominoes(),
    split=split,
    batch_size=batch_size,
    sharding=mesh.batch_sharding(mesh.create_mesh()),
    resolution=resolution,
    num_examples=None if training else count,
  )
  batches = [dataset.batch(i) for i in range(-(-count // batch_size))]
  return [
    np.concatenate([b[key] for b in batches])[:count]
    for key in ("image", "segmentation")
  ]


def read_images(folder):
  paths = sorted(folder.iterdir())
  return [p.name for p in paths], np.stack(
    [np.array(Image.open(p)) for p in paths]
  )


def records(path):
  """Feature lists of each record of a compressed TFRecord file."""
  from tensorflow_datasets.proto import tf_example_pb2

  data, out = gzip.decompress(path.read_bytes()), []
  while data:
    (length,) = struct.unpack("<Q", data[:8])
    example = tf_example_pb2.Example.FromString(data[12 : 12 + length])
    features = example.features.feature
    out.append(
      {
        k: list(getattr(f, f.WhichOneof("kind")).value)
        for k, f in features.items()
      }
    )
    data = data[16 + length :]
  return out


def contents(folder):
  return {
    str(p.relative_to(folder)): p.read_bytes()
    for p in folder.rglob("*")
    if p.is_file()
  }


@pytest.fixture(scope="module")
def export(tmp_path_factory):
  path = tmp_path_factory.mktemp("export") / "new" / "scenes"
  metrics = render.render(settings(), str(path))
  return path, metrics


def test_files_and_metrics(export):
  path, metrics = export
  assert metrics == {
    "tetrominoes_scenes/validation/num_scenes": SCENES,
    "tetrominoes_scenes/validation/num_objects": 3 * SCENES,
  }
  assert {p.name for p in path.iterdir()} == {
    "images",
    "masks",
    "scenes.json",
    f"{NAME}.tfrecords",
    "contact_sheet.png",
    "metadata.json",
    "config.json",
  }


def test_images_are_the_scenes_of_evaluation(export):
  path, _ = export
  images, segmentations = scenes_of("validation", SCENES, 4, (14, 21))
  names, got = read_images(path / "images")
  assert names == [f"{NAME}_{i:06d}.png" for i in range(SCENES)]
  np.testing.assert_array_equal(got, visualize.to_uint8(images))
  mask_names, masks = read_images(path / "masks")
  assert mask_names == names
  assert masks.dtype == np.uint8
  np.testing.assert_array_equal(masks, segmentations)


def test_training_scenes_are_those_of_the_seed_and_the_batches(tmp_path):
  # Fewer than two batches of 4, that is row 1 of step 1 too.
  config = settings()
  config.eval.split = "train"
  config.eval.batch_size = 8
  config.data.scenes.num_eval = 6
  render.render(config, str(tmp_path))
  images, _ = scenes_of("train", 6, 4, (14, 21))
  _, got = read_images(tmp_path / "images")
  np.testing.assert_array_equal(got, visualize.to_uint8(images))
  saved = json.loads((tmp_path / "metadata.json").read_text())
  assert saved["settings"]["batch_size"] == 4


def test_scenes_json(export):
  path, _ = export
  content = json.loads((path / "scenes.json").read_text())
  info = content["info"]
  assert info["split"] == "validation"
  assert info["data"] == "tetrominoes_scenes"
  assert info["package"] == "slot_attention_jax"
  assert info["seed"] == 0
  assert "They are not the images of CLEVR" in info["note"]
  assert [s["image_index"] for s in content["scenes"]] == list(range(SCENES))
  labels = procedural.Tetrominoes.layout["shape"].labels
  for scene in content["scenes"]:
    assert (path / "images" / scene["image_filename"]).is_file()
    assert scene["split"] == "validation"
    mask = np.array(Image.open(path / "masks" / scene["image_filename"]))
    image = np.array(Image.open(path / "images" / scene["image_filename"]))
    assert len(scene["objects"]) == 3
    for i, piece in enumerate(scene["objects"], start=1):
      assert set(piece) == {"x", "y", "shape", "color"}
      assert piece["shape"] in labels
      rows, columns = np.nonzero(mask == i)
      # The center of the bounding box, to half a pixel.
      assert abs((columns.min() + columns.max() + 1) / 2 - piece["x"]) <= 1
      assert abs((rows.min() + rows.max() + 1) / 2 - piece["y"]) <= 1
      np.testing.assert_allclose(
        image[mask == i][0], 255 * np.array(piece["color"])
      )


def test_records_agree_with_the_images(export):
  path, _ = export
  _, images = read_images(path / "images")
  _, masks = read_images(path / "masks")
  content = json.loads((path / "scenes.json").read_text())["scenes"]
  got = records(path / f"{NAME}.tfrecords")
  assert len(got) == SCENES
  for record, image, mask, scene in zip(
    got, images, masks, content, strict=True
  ):
    pixels = np.frombuffer(b"".join(record["image"]), np.uint8)
    np.testing.assert_array_equal(pixels.reshape(14, 21, 3), image)
    entities = np.frombuffer(b"".join(record["mask"]), np.uint8)
    entities = entities.reshape(4, 14, 21)
    np.testing.assert_array_equal(entities.argmax(axis=0), mask)
    assert record["x"] == [0, *(o["x"] for o in scene["objects"])]


def test_the_contact_sheet_shows_every_scene(export):
  path, _ = export
  sheet = np.array(Image.open(path / "contact_sheet.png"))
  _, images = read_images(path / "images")
  _, masks = read_images(path / "masks")
  np.testing.assert_array_equal(sheet, visualize.scene_grid(images, masks))


def test_a_grid_of_scenes():
  images = np.arange(5, dtype=np.uint8)[:, None, None, None]
  images = np.broadcast_to(images, (5, 2, 3, 3))
  masks = np.zeros((5, 2, 3), np.uint8)
  masks[:, 1] = 1
  sheet = visualize.scene_grid(images, masks, columns=4, min_size=2)
  # Two rows of four pairs, gaps of two pixels.
  assert sheet.shape == (2 * 4 + 2, 8 * 5 + 2, 3)
  assert (sheet[2:4, 2:5] == 0).all()
  assert (sheet[6:8, 2:5] == 4).all()
  assert (sheet[2, 7:10] == 0).all()
  assert len(np.unique(sheet[3, 7:10], axis=0)) == 1
  assert sheet[3, 7].any()
  assert (sheet[6:8, 12:] == 255).all()
  with pytest.raises(ValueError, match="Expected segmentations"):
    visualize.scene_grid(images, masks[:4])


def test_metadata_says_the_scenes_are_synthetic(export):
  path, _ = export
  saved = json.loads((path / "metadata.json").read_text())
  assert saved["complete"] is True
  assert saved["data"] == "tetrominoes_scenes"
  assert saved["own_scenes"] is True
  assert "rendered itself" in saved["note"]
  assert saved["tfrecords"]["layout_of"] == "multi_object_datasets.tetrominoes"
  assert saved["tfrecords"]["original_shapes"] is False
  assert saved["tfrecords"]["shapes"]["mask"] == [4, 14, 21, 1]
  config = json.loads((path / "config.json").read_text())
  assert config["data"]["scenes"]["num_eval"] == SCENES


def cut_off(monkeypatch, after):
  """Sends SIGTERM once this many images are written."""
  written = []
  save_png = files.save_png

  def failing(path, image):
    if len(written) == after:
      os.kill(os.getpid(), signal.SIGTERM)
    written.append(path)
    save_png(path, image)

  monkeypatch.setattr(files, "save_png", failing)


def test_an_interrupted_export_is_completed(export, tmp_path, monkeypatch):
  whole, metrics = export
  with monkeypatch.context() as patch:
    cut_off(patch, after=5)
    with pytest.raises(signals.Stopped), signals.handled():
      render.render(settings(), str(tmp_path))
  found = {p.name for p in tmp_path.iterdir()}
  # Nothing that looks whole but is not.
  assert found == {"images", "masks", "metadata.json", "config.json"}
  saved = json.loads((tmp_path / "metadata.json").read_text())
  assert saved["complete"] is False
  assert render.render(settings(), str(tmp_path)) == metrics
  assert contents(tmp_path) == contents(whole)


def test_a_finished_export_is_left_alone(export, monkeypatch):
  path, metrics = export
  before = contents(path)
  with monkeypatch.context() as patch:
    cut_off(patch, after=0)
    assert render.render(settings(), str(path)) == metrics
  assert contents(path) == before


def test_an_export_without_its_report_is_completed(export, tmp_path):
  whole, metrics = export
  shutil.copytree(whole, tmp_path / "copy")
  file = tmp_path / "copy" / "metadata.json"
  saved = json.loads(file.read_text())["settings"]
  file.write_text(json.dumps({"complete": False, "settings": saved}))
  assert render.render(settings(), str(tmp_path / "copy")) == metrics
  assert contents(tmp_path / "copy") == contents(whole)


@pytest.mark.thorough
def test_missing_files_of_an_export_are_restored(tmp_path):
  render.render(settings(), str(tmp_path))
  before = contents(tmp_path)
  (tmp_path / "masks" / f"{NAME}_000004.png").unlink()
  render.render(settings(), str(tmp_path))
  assert contents(tmp_path) == before


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("data.scenes.num_eval", 5),
    ("data.resolution", (35, 35)),
    ("data.scenes.tetrominoes_step", 5),
    ("eval.split", "test"),
    ("seed", 1),
  ],
)
def test_an_export_of_other_settings_is_not_overwritten(export, key, value):
  path, _ = export
  before = contents(path)
  config = settings()
  with config.unlocked():
    config.update_from_flattened_dict({key: value})
  with pytest.raises(ValueError, match=r"same settings(.|\n)*--workdir"):
    render.render(config, str(path))
  assert contents(path) == before


@pytest.mark.parametrize("name", ["metadata.json", "notes.txt"])
def test_directories_with_other_files_are_not_touched(name, tmp_path):
  # A run's metadata has no settings of an export.
  (tmp_path / name).write_text('{"data": "tetrominoes_scenes"}')
  before = contents(tmp_path)
  with pytest.raises(ValueError, match="new, empty or an export"):
    render.render(settings(), str(tmp_path))
  assert contents(tmp_path) == before


def test_directories_that_cannot_be_made_are_errors(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match=r"can be written(.|\n)*--workdir"):
    render.render(settings(), str(tmp_path / "file" / "scenes"))


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("data.scenes.num_eval", 0, "scenes.num_eval: .* from 1 to .*, got 0"),
    ("eval.split", "train_eval", "Expected split 'train' or one of"),
    ("eval.batch_size", 6, "eval.batch_size to be a multiple of the 4"),
    ("data.resolution", (0, 4), "data.resolution: .*, got"),
  ],
)
def test_bad_settings_are_errors_before_anything_is_written(
  key, value, message, tmp_path
):
  config = settings()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(ValueError, match=message):
    render.render(config, str(tmp_path / "new"))
  assert not list(tmp_path.iterdir())


def test_only_the_first_process_works(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  assert render.render(settings(), str(tmp_path / "new")) == {}
  assert not list(tmp_path.iterdir())


class Boxes:
  """Stands for CLEVR: 1 to 3 upright boxes in rows that are not the first."""

  name = "clevr_boxes"
  layout = types.CLEVR_LAYOUT
  resolution = (240, 320)
  max_objects = 4

  def __repr__(self):
    return "Boxes()"

  def sample(self, key):
    count_key, place_key, class_key = jax.random.split(key, 3)
    # The first row is padding: exports put the objects first.
    count = jax.random.randint(count_key, (1,), 1, 4)
    rows = jnp.arange(4)
    return {
      "present": (rows > 0) & (rows <= count),
      "place": jax.random.uniform(place_key, (4, 3), minval=-3, maxval=3),
      "ids": jax.random.randint(
        class_key, (4, 4), 0, jnp.array([[2, 2, 3, 8]])
      ),
      "camera": jnp.array([7.0, -6.5, 5.5]),
    }

  def render(self, scene, resolution):
    h, w = resolution
    column = jnp.arange(w) * 8 // w
    segmentation = jnp.zeros((h, w), jnp.int32)
    for i in range(4):
      inside = (column == 2 * i) & scene["present"][i]
      segmentation = jnp.where(inside[None], i + 1, segmentation)
    image = jnp.repeat(segmentation[..., None] / 2.0 - 1.0, 3, axis=-1)
    return procedural.Rendering(image, segmentation, jnp.zeros((4,), jnp.int32))

  def describe(self, scene, resolution):
    x, y, z = scene["place"].T
    ids = scene["ids"].T.astype(jnp.int32)
    return {
      "present": scene["present"],
      "x": x,
      "y": y,
      "z": z,
      "pixel_coords": scene["place"] + 100.0,
      "rotation": 60.0 * x,
      **dict(zip(("size", "material", "shape", "color"), ids, strict=True)),
    }

  def extras(self, scene):
    lamps = {"Lamp_Key": scene["camera"] + 1.0}
    return {"camera_location": scene["camera"], "lamp_locations": lamps}


def boxes(monkeypatch, resolution, count):
  monkeypatch.setattr(data, "create_family", lambda config: Boxes())
  config = settings()
  config.data.resolution = resolution
  config.data.scenes.num_eval = count
  return config


def test_clevr_scenes(tmp_path, monkeypatch):
  config = boxes(monkeypatch, (12, 16), 9)
  metrics = render.render(config, str(tmp_path))
  scenes = json.loads((tmp_path / "scenes.json").read_text())["scenes"]
  _, masks = read_images(tmp_path / "masks")
  counts = [len(s["objects"]) for s in scenes]
  assert len(set(counts)) > 1, "the seed must draw several counts"
  assert metrics["clevr_boxes/validation/num_objects"] == sum(counts)
  # The original set has an order of its own.
  colors = layouts.get_layout("clevr_with_masks").ids["color"]
  for i, record in enumerate(
    records(tmp_path / "clevr_boxes_validation.tfrecords")
  ):
    scene, count = scenes[i], counts[i]
    # Padding came first in the family's rows, and comes nowhere here.
    assert set(np.unique(masks[i])) == set(range(count + 1))
    assert record["visibility"] == [1] * (1 + count) + [0] * (10 - count)
    entities = np.frombuffer(b"".join(record["mask"]), np.uint8)
    entities = entities.reshape(11, 12, 16)
    np.testing.assert_array_equal(entities.argmax(axis=0), masks[i])
    assert record["color"][1 : 1 + count] == [
      bytes([1 + colors.index(o["color"])]) for o in scene["objects"]
    ]
    assert record["x"][1 : 1 + count] == [
      o["3d_coords"][0] for o in scene["objects"]
    ]
    assert set(scene["relationships"]) == {"left", "right", "front", "behind"}
    assert scene["camera_location"] == [7.0, -6.5, 5.5]
    assert scene["lamp_locations"] == {"Lamp_Key": [8.0, -5.5, 6.5]}
  saved = json.loads((tmp_path / "metadata.json").read_text())
  assert saved["data"] == "clevr_boxes"
  labels = saved["tfrecords"]["labels_of_ids_from_1"]
  assert labels["size"] == ["large", "small"]


@pytest.mark.thorough
@pytest.mark.parametrize(
  ("variant", "entities", "channels"),
  [("binarized", 4, 1), ("colored_on_colored", 5, 3)],
)
def test_multi_dsprites_scenes(
  variant, entities, channels, tmp_path, monkeypatch
):
  family = procedural.MultiDSprites(variant=variant)
  monkeypatch.setattr(data, "create_family", lambda config: family)
  render.render(settings(), str(tmp_path))
  scenes = json.loads((tmp_path / "scenes.json").read_text())["scenes"]
  _, images = read_images(tmp_path / "images")
  _, masks = read_images(tmp_path / "masks")
  got = records(tmp_path / f"{family.name}_validation.tfrecords")
  names = (None, *family.layout["shape"].labels)
  for record, image, mask, scene in zip(
    got, images, masks, scenes, strict=True
  ):
    pixels = np.frombuffer(b"".join(record["image"]), np.uint8)
    pixels = pixels.reshape(14, 21, channels)
    # A binarized image is gray, so one channel is enough.
    np.testing.assert_array_equal(np.broadcast_to(pixels, image.shape), image)
    bits = np.frombuffer(b"".join(record["mask"]), np.uint8)
    bits = bits.reshape(14, 21, entities)
    np.testing.assert_array_equal(bits.argmax(axis=-1), mask)
    count = len(scene["objects"])
    shapes = [names[int(i)] for i in record["shape"][1 : 1 + count]]
    assert shapes == [o["shape"] for o in scene["objects"]]
    assert sum(record["visibility"]) == 1 + count


# As the readers of multi_object_datasets do it, at their own shapes.
READ = """
import json
import sys

import numpy as np
import tensorflow as tf

path, floats, strings = sys.argv[1], *map(json.loads, sys.argv[2:])
features = {
  name: tf.io.FixedLenFeature(shape, kind)
  for kind, group in ((tf.float32, floats), (tf.string, strings))
  for name, shape in group.items()
}
for record in tf.data.TFRecordDataset(path, compression_type="GZIP"):
  example = tf.io.parse_single_example(record, features)
  for name in strings:
    raw = tf.io.decode_raw(example[name], tf.uint8)
    example[name] = tf.squeeze(raw, axis=-1)
  image, mask = example["image"].numpy(), example["mask"].numpy()
  print(json.dumps({
    "image": int(image.astype(np.int64).sum()),
    "mask": mask.reshape(-1)[::97].tolist(),
    "x": example["x"].numpy().tolist(),
  }))
"""


def read_by_tensorflow(path, floats, strings):
  arguments = [str(path), json.dumps(floats), json.dumps(strings)]
  result = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(READ), *arguments],
    env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.thorough
@pytest.mark.skipif(
  importlib.util.find_spec("tensorflow") is None, reason="needs tensorflow"
)
def test_tensorflow_reads_the_records(tmp_path, monkeypatch):
  config = settings()
  config.data.resolution = (35, 35)
  config.data.scenes.num_eval = 2
  render.render(config, str(tmp_path / "tetrominoes"))
  clevr_config = boxes(monkeypatch, (240, 320), 2)
  render.render(clevr_config, str(tmp_path / "clevr"))
  cases = [
    (
      tmp_path / "tetrominoes" / f"{NAME}.tfrecords",
      {"x": [4], "y": [4], "shape": [4], "color": [4, 3], "visibility": [4]},
      {"image": [35, 35, 3], "mask": [4, 35, 35, 1]},
    ),
    (
      tmp_path / "clevr" / "clevr_boxes_validation.tfrecords",
      {
        **{k: [11] for k in ("x", "y", "z", "rotation", "visibility")},
        "pixel_coords": [11, 3],
      },
      {
        "image": [240, 320, 3],
        "mask": [11, 240, 320, 1],
        **{k: [11] for k in ("size", "material", "shape", "color")},
      },
    ),
  ]
  for path, floats, strings in cases:
    got = read_by_tensorflow(path, floats, strings)
    for by_tensorflow, own in zip(got, records(path), strict=True):
      assert by_tensorflow["x"] == own["x"]
      assert by_tensorflow["image"] == sum(b"".join(own["image"]))
      assert by_tensorflow["mask"] == list(b"".join(own["mask"]))[::97]
  # The checksums are read, too.
  damaged = bytearray(gzip.decompress(cases[0][0].read_bytes()))
  damaged[-1] ^= 1
  cases[0][0].write_bytes(gzip.compress(bytes(damaged)))
  with pytest.raises(AssertionError, match="corrupted record"):
    read_by_tensorflow(*cases[0])
