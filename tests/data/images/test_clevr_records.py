"""TFDS's files of CLEVR: both formats give the same, with no TensorFlow.

The data is described in test_clevr.py.
"""

import importlib.util
import io
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from slot_attention_jax.data import transforms, types
from slot_attention_jax.data.images import clevr, clevr_records

pytestmark = pytest.mark.usefixtures("tfds")

_ROOT = pathlib.Path(__file__).parents[3]
_ARRAY_RECORD = _ROOT / "tests" / "testdata" / "clevr_array_record"
_TFRECORD = _ROOT / "tests" / "testdata" / "clevr_tfrecord"
_FORMATS = {"array_record": _ARRAY_RECORD, "tfrecord": _TFRECORD}
# Objects of CLEVR_train_000000.png and so on.
_TRAIN_OBJECTS = [7, 5, 9, 6, 10, 9, 8, 3, 10, 5, 10, 10]
_VALIDATION_OBJECTS = [7, 8, 10, 7, 5, 7]


def _load(data_dir, split, cache_dir, crop="paper"):
  cached = clevr_records.load_split(
    clevr.find_builder(data_dir),
    split,
    transforms.ImageSpec((16, 16), crop, cache_dir),
  )
  order = np.argsort(cached.arrays["file_name"])
  return {name: array[order] for name, array in cached.arrays.items()}


@pytest.mark.parametrize("file_format", _FORMATS)
def test_annotations_and_names(file_format, cache_dir):
  arrays = _load(_FORMATS[file_format], "train", cache_dir)
  assert arrays["num_objects"].tolist() == _TRAIN_OBJECTS
  assert arrays["file_name"].tolist() == [
    b"CLEVR_train_%06d.png" % i for i in range(12)
  ]
  # CLEVR_train_000007.png, as in the archive's scenes.json.
  objects = types.CLEVR_LAYOUT.decode(arrays["target"][7])
  real = objects["confidence"] == 1
  assert real.tolist() == [True] * 3 + [False] * 7
  described = [
    [
      types.CLEVR_LAYOUT[key].labels[objects[key][i]]
      for key in ("size", "color", "material", "shape")
    ]
    for i in range(3)
  ]
  assert described == [
    ["small", "purple", "rubber", "sphere"],
    ["small", "green", "metal", "cylinder"],
    ["small", "yellow", "rubber", "sphere"],
  ]
  np.testing.assert_allclose(
    objects["coords"][0], [-2.649315, 0.006751, 0.35], atol=1e-5
  )
  np.testing.assert_array_equal(arrays["target"][7, 3:], np.zeros((7, 19)))


@pytest.mark.parametrize("crop", ["paper", None])
def test_images_equal_tfds_own_decoding(cache_dir, crop):
  arrays = _load(_ARRAY_RECORD, "validation", cache_dir, crop)
  source = clevr.find_builder(_ARRAY_RECORD).as_data_source("validation")
  names = arrays["file_name"].tolist()
  for example in source:
    assert example["image"].shape == (64, 96, 4)  # RGBA, as in the archive.
    expected = transforms.preprocess_image(
      example["image"][..., :3], (16, 16), crop
    )
    row = names.index(example["file_name"])
    actual = transforms.normalize(arrays["image"][row])
    # Rounded to the nearest of 256 levels of [-1, 1].
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1.001 / 255)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_both_formats_give_the_same(split, cache_dir):
  first = _load(_ARRAY_RECORD, split, cache_dir)
  second = _load(_TFRECORD, split, cache_dir)
  for name, array in first.items():
    np.testing.assert_array_equal(array, second[name])


def _copy(tmp_path, data_dir):
  shutil.copytree(data_dir, tmp_path / "data")
  (file,) = (tmp_path / "data").glob("clevr/3.1.0/clevr-validation.*")
  return tmp_path / "data", file


def test_missing_file(tmp_path):
  data_dir, file = _copy(tmp_path, _ARRAY_RECORD)
  file.unlink()
  with pytest.raises(FileNotFoundError, match="1 of the 1 files"):
    _load(data_dir, "validation", tmp_path / "cache")


@pytest.mark.parametrize("lost", [2, 10, 1000])
def test_truncated_tfrecord(tmp_path, lost):
  data_dir, file = _copy(tmp_path, _TFRECORD)
  with file.open("r+b") as opened:
    opened.truncate(file.stat().st_size - lost)
  with pytest.raises(
    ValueError, match=r"clevr-validation.* ends within record"
  ):
    _load(data_dir, "validation", tmp_path / "cache")


@pytest.mark.parametrize("at", [3, 9, -3, -40])
def test_a_flipped_bit_of_a_tfrecord_is_an_error(tmp_path, at):
  # In the length, in its checksum, in the checksum of the data, in the data:
  # near its end are annotations, which no image format checks.
  data_dir, file = _copy(tmp_path, _TFRECORD)
  content = bytearray(file.read_bytes())
  content[at] ^= 1
  file.write_bytes(content)
  message = "Expected .* TFRecord file" if at > 0 else "has the wrong checksum"
  with pytest.raises(ValueError, match=message):
    _load(data_dir, "validation", tmp_path / "cache")


def test_prepared_anew_is_decoded_anew(tmp_path):
  data_dir, file = _copy(tmp_path, _TFRECORD)
  _load(data_dir, "validation", tmp_path / "cache")
  _load(data_dir, "validation", tmp_path / "cache")
  assert len(list((tmp_path / "cache").glob("*/metadata.json"))) == 1
  os.utime(file, (1, 1))
  _load(data_dir, "validation", tmp_path / "cache")
  assert len(list((tmp_path / "cache").glob("*/metadata.json"))) == 2


def test_changed_labels(monkeypatch, cache_dir):
  builder = clevr.find_builder(_ARRAY_RECORD)
  monkeypatch.setattr(
    builder.info.features["objects"].feature["shape"], "_int2str", ["x"] * 3
  )
  with pytest.raises(ValueError, match=r"labels .* of shape"):
    clevr_records.load_split(
      builder, "validation", transforms.ImageSpec((16, 16), None, cache_dir)
    )


def test_decodes_any_image_size():
  feature_image = io.BytesIO()
  Image.new("RGB", (480, 320), (255, 0, 0)).save(feature_image, "PNG")
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example()
  feature = example.features.feature
  feature["image"].bytes_list.value.append(feature_image.getvalue())
  feature["file_name"].bytes_list.value.append(b"a.png")
  images = transforms.ImageSpec((8, 12), "paper")
  out = clevr_records._example(example.SerializeToString(), images)
  assert out["image"].shape == (8, 12, 3)
  assert np.unique(out["image"].reshape(-1, 3), axis=0).tolist() == [
    [255, 0, 0]
  ]
  assert out["num_objects"] == 0


def _run(code, *arguments):
  environment = os.environ | {
    "PYTHONPATH": str(_ROOT),
    "TF_CPP_MIN_LOG_LEVEL": "3",
  }
  return subprocess.run(
    [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize(
  "file_format",
  ["array_record", pytest.param("tfrecord", marks=pytest.mark.thorough)],
)
def test_reads_without_tensorflow(file_format, tmp_path):
  code = """
    import importlib.machinery
    import sys

    find_spec = importlib.machinery.PathFinder.find_spec

    def without_tensorflow(name, *args, **kwargs):
      if name.split(".")[0] == "tensorflow":
        return None
      return find_spec(name, *args, **kwargs)

    importlib.machinery.PathFinder.find_spec = without_tensorflow
    from slot_attention_jax.data import transforms
    from slot_attention_jax.data.images import clevr, clevr_records

    cached = clevr_records.load_split(
      clevr.find_builder(sys.argv[1]), "validation",
      transforms.ImageSpec((16, 16), "paper", sys.argv[2]))
    try:
      import tensorflow
    except ImportError:
      print(sorted(cached.arrays["num_objects"].tolist()))
    """
  result = _run(code, _FORMATS[file_format], tmp_path)
  assert result.returncode == 0, result.stderr
  assert result.stdout.strip() == str(sorted(_VALIDATION_OBJECTS))


@pytest.mark.thorough
@pytest.mark.skipif(
  importlib.util.find_spec("tensorflow") is None,
  reason="compares with TFDS's TensorFlow reader",
)
def test_equals_tensorflows_reader(tmp_path):
  # tf.data, tf.image.resize and the reference's own order of operations.
  code = """
    import sys
    import numpy as np
    import tensorflow as tf
    from slot_attention_jax.data import transforms
    from slot_attention_jax.data.images import clevr, clevr_records

    builder = clevr.find_builder(sys.argv[1])
    cached = clevr_records.load_split(
      builder, "validation",
      transforms.ImageSpec((16, 16), None, sys.argv[2]))
    names = cached.arrays["file_name"].tolist()
    worst, seen = 0.0, 0
    for example in builder.as_dataset("validation"):
      row = names.index(example["file_name"].numpy())
      image = ((tf.cast(example["image"], tf.float32) / 255.0) - 0.5) * 2.0
      image = tf.clip_by_value(tf.image.resize(image, (16, 16)), -1.0, 1.0)
      ours = (cached.arrays["image"][row] / 255.0 - 0.5) * 2.0
      worst = max(worst, np.abs(ours - image.numpy()).max())
      objects = len(example["objects"]["color"])
      assert objects == cached.arrays["num_objects"][row]
      coords = (example["objects"]["3d_coords"].numpy() + 3.0) / 6.0
      target = cached.arrays["target"][row]
      np.testing.assert_allclose(target[:objects, :3], coords, atol=1e-6)
      seen += 1
    print(seen, worst <= 1.001 / 255)
    """
  result = _run(code, _TFRECORD, tmp_path)
  assert result.returncode == 0, result.stderr
  assert result.stdout.split() == ["6", "True"]
