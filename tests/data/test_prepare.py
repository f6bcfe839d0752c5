"""Sets with masks, from a file to a TFDS dataset, or to nothing at all."""

import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from slot_attention_jax.data import prepare, procedural, tfrecord, types
from slot_attention_jax.data.export import scene_tfrecord
from slot_attention_jax.data.multi_object import (
  conversion,
  files,
  layouts,
  remote_file,
)
from slot_attention_jax.runtime import progress
from tests.data.multi_object import masks_files

pytestmark = pytest.mark.usefixtures("tfds")


@pytest.fixture(autouse=True)
def quiet(recwarn):
  """TFDS and its threads warn of things of their own."""


def examples(path):
  """All examples of a prepared dataset, decoded by TFDS."""
  import tensorflow_datasets as tfds

  builder = tfds.builder_from_directory(path)
  (split,) = builder.info.splits
  return list(builder.as_data_source(split)), builder


def left_in(directory):
  """Names of all files, but for the locks, which stay."""
  paths = pathlib.Path(directory).rglob("*")
  return sorted(p.name for p in paths if not p.match(".*.lock"))


def test_clevr_is_prepared_with_tfds_s_labels(tmp_path):
  report = prepare.prepare(
    "clevr_with_masks", source=str(masks_files.CLEVR), data_dir=tmp_path
  )
  assert report.pop("seconds") > 0
  assert report == {
    "name": "clevr_with_masks",
    "variant": "",
    "path": str(tmp_path / "clevr_with_masks" / "1.0.0"),
    "source": "clevr_with_masks_train.tfrecords",
    "source_bytes": 188_586,
    "max_records": None,
    "num_records": 3,
    "num_objects": {"3": 1, "5": 1, "7": 1},
    "num_at_most_6_objects": 2,
    "pixels_in_no_mask": 0,
    "pixels_in_several_masks": 0,
    "complete": False,
  }
  rows, builder = examples(report["path"])
  assert [r["index"] for r in rows] == [0, 1, 2]
  assert [r["num_objects"] for r in rows] == masks_files.CLEVR_OBJECTS
  layout = types.CLEVR_LAYOUT
  features = builder.info.features["objects"].feature
  for name in ("size", "material", "shape", "color"):
    assert tuple(features[name].names) == layout[name].labels
  first = rows[0]["objects"]
  # Of the original: sizes small, large, ..., colors purple, brown, ...
  named = [layout["color"].labels[i] for i in first["color"]]
  assert named == ["purple", "brown", "gray", "gray", "blue", "gray", "cyan"]
  assert [layout["size"].labels[i] for i in first["size"]][:2] == [
    "small",
    "large",
  ]
  assert list(first["entity"]) == [1, 2, 3, 4, 5, 6, 7]
  for row in rows:
    assert row["image"].shape == (240, 320, 3)
    assert row["segmentation"].shape == (240, 320, 1)
    seen = set(np.unique(row["segmentation"])) - {0}
    assert seen == set(row["objects"]["entity"])
    assert row["visibility"].tolist() == [
      i <= row["num_objects"] for i in range(11)
    ]
    for coords, size in zip(
      row["objects"]["3d_coords"], row["objects"]["size"], strict=True
    ):
      assert coords[2] == pytest.approx((0.35, 0.7)[size], abs=1e-4)


@pytest.mark.parametrize(
  ("name", "variant"),
  [
    ("multi_dsprites", "colored_on_grayscale"),
    ("multi_dsprites", "binarized"),
    ("tetrominoes", ""),
    ("objects_room", "train"),
    ("objects_room", "six_objects"),
  ],
)
def test_other_datasets_are_prepared_as_they_were_written(
  name, variant, tmp_path
):
  counts = [2, 0, 3]
  file = tmp_path / "x.tfrecords"
  scenes = masks_files.write_scenes(file, name, variant, counts)
  report = prepare.prepare(
    name, variant=variant, source=str(file), data_dir=tmp_path / "data"
  )
  rows, builder = examples(report["path"])
  assert list(builder.info.splits) == [
    "test" if variant == "six_objects" else "train"
  ]
  parts = layouts.get_layout(name, variant).background_parts
  for row, (arrays, ids) in zip(rows, scenes, strict=True):
    np.testing.assert_array_equal(row["segmentation"][..., 0], ids)
    np.testing.assert_array_equal(
      row["image"], np.broadcast_to(arrays["image"], row["image"].shape)
    )
    visible = np.unique(ids[ids >= parts])
    assert set(visible) <= set(row["objects"]["entity"])
    for key in layouts.get_layout(name, variant).floats:
      for i, values in zip(
        row["objects"]["entity"], row["objects"][key], strict=True
      ):
        np.testing.assert_array_equal(
          values, np.broadcast_to(arrays[key][i], np.shape(values))
        )
  if name != "objects_room":
    assert report["num_objects"] == {"0": 1, "2": 1, "3": 1}


def test_the_file_is_found_by_its_own_name(tmp_path):
  folder = tmp_path / "bucket"
  for name, variant, file in (
    ("multi_dsprites", "binarized", "multi_dsprites_binarized"),
    ("objects_room", "empty_room", "objects_room_test_empty_room"),
    ("objects_room", "train", "objects_room_train"),
    ("tetrominoes", "", "tetrominoes_train"),
  ):
    path = folder / name / f"{file}.tfrecords"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    for source in (folder, folder / name, path):
      assert files.locate(name, variant, str(source)) == str(path)
    bucket = f"gs://multi-object-datasets/{name}/{file}.tfrecords"
    assert files.locate(name, variant, "") == bucket
    assert files.locate(name, variant, bucket) == bucket
  with pytest.raises(FileNotFoundError, match="clevr_with_masks_train"):
    files.locate("clevr_with_masks", "", str(folder))
  with pytest.raises(FileNotFoundError, match="found no"):
    files.locate("clevr_with_masks", "", str(folder / "none"))


def test_prepared_data_are_left_alone(tmp_path):
  file = tmp_path / "x.tfrecords"
  masks_files.write_scenes(file, "tetrominoes", "", [3, 3])
  first = prepare.prepare("tetrominoes", source=str(file), data_dir=tmp_path)
  before = {
    p: p.stat().st_mtime_ns for p in (tmp_path / "tetrominoes").rglob("*")
  }
  again = prepare.prepare("tetrominoes", source=str(file), data_dir=tmp_path)
  assert again == first
  with pytest.raises(ValueError, match=r"max_records=1; there are .*=None"):
    prepare.prepare(
      "tetrominoes", source=str(file), data_dir=tmp_path, max_records=1
    )
  other = tmp_path / "y.tfrecords"
  shutil.copy(file, other)
  with pytest.raises(ValueError, match=r"some of 'x\.tfrecords'.*Remove"):
    prepare.prepare("tetrominoes", source=str(other), data_dir=tmp_path)
  # A part of the set has the whole's name.
  size = file.stat().st_size
  masks_files.write_scenes(file, "tetrominoes", "", [3])
  with pytest.raises(ValueError, match=rf"some of .*\({size} bytes\).*Remove"):
    prepare.prepare("tetrominoes", source=str(file), data_dir=tmp_path)
  after = {
    p: p.stat().st_mtime_ns for p in (tmp_path / "tetrominoes").rglob("*")
  }
  assert after == before


def test_a_part_can_be_prepared(tmp_path):
  report = prepare.prepare(
    "clevr_with_masks",
    source=str(masks_files.CLEVR),
    data_dir=tmp_path,
    max_records=2,
  )
  assert (report["num_records"], report["complete"]) == (2, False)
  assert len(examples(report["path"])[0]) == 2


@pytest.mark.parametrize("known", [(3, 2), (3, 1), (2, 2), (4, 2)])
def test_counts_are_checked(known, tmp_path, monkeypatch):
  monkeypatch.setitem(files._KNOWN, "clevr_with_masks", known[0])
  monkeypatch.setattr(files, "_CLEVR_SIX", known[1])

  def run():
    return prepare.prepare(
      "clevr_with_masks", source=str(masks_files.CLEVR), data_dir=tmp_path
    )

  if known == (3, 2):
    assert run()["complete"] is True
  elif known == (4, 2):  # A file on disk may be a part of the set.
    assert run()["complete"] is False
  else:
    with pytest.raises(ValueError, match="Expected a whole clevr_with_masks"):
      run()
    assert left_in(tmp_path) == []


def test_the_bucket_must_have_the_whole_dataset(tmp_path, monkeypatch):
  class Local:
    def __init__(self, url):
      assert url.startswith("gs://multi-object-datasets/clevr_with_masks/")
      self._file = masks_files.CLEVR.open("rb")
      self.size, self.position = 188_586, 0
      self.read, self.close = self._file.read, self._file.close

  monkeypatch.setattr(remote_file, "RemoteFile", Local)
  with pytest.raises(ValueError, match=r"got 3 records, where .* 100,000"):
    prepare.prepare("clevr_with_masks", data_dir=tmp_path)
  assert left_in(tmp_path) == []


def test_a_part_is_not_taken_for_the_whole_of_the_bucket(tmp_path, monkeypatch):
  opened = []

  class Bucket(io.BytesIO):
    def __init__(self, url):
      opened.append(url)
      super().__init__(masks_files.CLEVR.read_bytes())
      self.size = len(self.getbuffer()) + 1
      self.position = 0

  monkeypatch.setattr(remote_file, "RemoteFile", Bucket)
  arguments = {"source": str(masks_files.CLEVR), "data_dir": tmp_path}
  prepare.prepare("clevr_with_masks", **arguments)
  with pytest.raises(ValueError, match=r"188587 bytes.*\(188586 bytes\)"):
    prepare.prepare("clevr_with_masks", data_dir=tmp_path)
  assert len(opened) == 1
  # The whole is known without a look at the bucket.
  shutil.rmtree(tmp_path / "clevr_with_masks")
  monkeypatch.setitem(files._KNOWN, "clevr_with_masks", 3)
  monkeypatch.setattr(files, "_CLEVR_SIX", 2)
  whole = prepare.prepare("clevr_with_masks", **arguments)
  assert prepare.prepare("clevr_with_masks", data_dir=tmp_path) == whole
  assert len(opened) == 1


class _Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.mark.parametrize("max_records", [None, 2, 9])
def test_the_bar_on_a_terminal_is_one_line(max_records, tmp_path, monkeypatch):
  terminal = _Terminal()
  monkeypatch.setattr(progress.sys, "stderr", terminal)
  # As slow as a record that is larger than what the bar counts in.
  monkeypatch.setattr(prepare, "_MEGABYTE", 100_000)
  arguments = {"data_dir": tmp_path, "max_records": max_records}
  prepare.prepare(
    "clevr_with_masks", source=str(masks_files.CLEVR), **arguments
  )
  lines = terminal.getvalue().split("\n")
  assert lines.pop() == ""
  assert len(lines) == 1
  last = lines[0].split("\r")[-1]
  assert {None: " 2/2 [", 2: " 2/2 [", 9: " 3/9 ["}[max_records] in last


def test_an_error_is_on_a_line_of_its_own(tmp_path, monkeypatch):
  terminal = _Terminal()
  monkeypatch.setattr(progress.sys, "stderr", terminal)
  file = tmp_path / "x.tfrecords"
  file.write_bytes(masks_files.CLEVR.read_bytes()[:-9])
  with pytest.raises(ValueError, match="ends within its compressed data"):
    prepare.prepare(
      "clevr_with_masks", source=str(file), data_dir=tmp_path / "new"
    )
  assert "0/1" in terminal.getvalue()
  assert terminal.getvalue().endswith("\n")


def test_synthetic_scenes_survive_export_and_preparation(tmp_path):
  family = procedural.Tetrominoes()
  layout = scene_tfrecord.get_layout(family)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (4, 35, 35, 3), np.uint8)
  ids = rng.integers(0, 4, (4, 35, 35)).astype(np.uint8)
  objects = {
    "x": rng.uniform(0, 34, (4, 3)).astype(np.float32),
    "y": rng.uniform(0, 34, (4, 3)).astype(np.float32),
    "shape": rng.integers(0, 19, (4, 3)),
    "color": rng.integers(0, 2, (4, 3, 3)).astype(np.float32),
  }
  file = tmp_path / "own.tfrecords"
  masks_files.write(
    file,
    (
      scene_tfrecord.serialize(
        layout,
        images[i],
        ids[i],
        {k: v[i] for k, v in objects.items()},
        family.layout,
      )
      for i in range(4)
    ),
  )
  report = prepare.prepare("tetrominoes", source=str(file), data_dir=tmp_path)
  rows, _ = examples(report["path"])
  for i, row in enumerate(rows):
    np.testing.assert_array_equal(row["image"], images[i])
    np.testing.assert_array_equal(row["segmentation"][..., 0], ids[i])
    for name, values in objects.items():
      np.testing.assert_array_equal(row["objects"][name], values[i])


def test_tfds_finds_prepared_data_and_says_how_to_prepare(tmp_path):
  import tensorflow_datasets as tfds

  from slot_attention_jax.data.multi_object import tfds_builders

  assert tfds_builders.MultiDsprites.name == "multi_dsprites"
  builder = tfds.builder("multi_dsprites/binarized", data_dir=tmp_path)
  with pytest.raises(
    ValueError, match=r"--name=multi_dsprites --variant=binarized --data_dir"
  ):
    builder.download_and_prepare()
  assert left_in(tmp_path) == []
  file = tmp_path / "x.tfrecords"
  masks_files.write_scenes(file, "multi_dsprites", "binarized", [3, 2])
  prepare.prepare(
    "multi_dsprites", variant="binarized", source=str(file), data_dir=tmp_path
  )
  builder = tfds.builder("multi_dsprites/binarized", data_dir=tmp_path)
  builder.download_and_prepare()  # There they are.
  rows = list(builder.as_data_source("train"))
  assert [r["num_objects"] for r in rows] == [3, 2]
  assert builder.info.metadata["complete"] is False


def test_order_and_contents_are_kept_over_several_shards(tmp_path, monkeypatch):
  from slot_attention_jax.data.multi_object import tfds_builders

  monkeypatch.setattr(tfds_builders.Tetrominoes, "SHARD", 7)
  file = tmp_path / "x.tfrecords"
  scenes = masks_files.write_scenes(file, "tetrominoes", "", [3] * 30)
  report = prepare.prepare("tetrominoes", source=str(file), data_dir=tmp_path)
  rows, builder = examples(report["path"])
  assert builder.info.splits["train"].shard_lengths == [7, 7, 7, 7, 2]
  assert [r["index"] for r in rows] == list(range(30))
  for row, (arrays, _) in zip(rows, scenes, strict=True):
    np.testing.assert_array_equal(row["image"], arrays["image"])


def test_few_scenes_are_in_memory_at_once(tmp_path, monkeypatch):
  """As many as the threads are ahead, whatever the length of the file."""
  read, written, most = 0, 0, 0
  parse = tfrecord.read_records
  convert = conversion.ConversionStats.add

  def reading(*args):
    nonlocal read, most
    for record in parse(*args):
      read += 1
      most = max(most, read - written)
      yield record

  def adding(self, *args):
    nonlocal written
    written += 1
    convert(self, *args)

  monkeypatch.setattr(tfrecord, "read_records", reading)
  monkeypatch.setattr(conversion.ConversionStats, "add", adding)
  file = tmp_path / "x.tfrecords"
  masks_files.write_scenes(file, "tetrominoes", "", [3] * 100)
  prepare.prepare("tetrominoes", source=str(file), data_dir=tmp_path)
  assert (read, written) == (100, 100)
  assert most <= 4 * max(2, os.cpu_count()) + 2 < 100


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"name": "clevr"}, r"out of \['clevr_with_masks', .*got 'clevr'"),
    ({"variant": "red"}, r"variant of clevr_with_masks .*got 'red'"),
    ({"max_records": 0}, "at least 1, got 0"),
    (
      {"name": "multi_dsprites", "variant": "binarized"},
      "Expected multi_dsprites_binarized.* that of --name=clevr_with_masks",
    ),
  ],
)
def test_what_cannot_be_prepared_is_an_error(arguments, message, tmp_path):
  arguments = {"name": "clevr_with_masks", **arguments}
  with pytest.raises(ValueError, match=message):
    prepare.prepare(
      source=str(masks_files.CLEVR), data_dir=tmp_path / "new", **arguments
    )
  assert left_in(tmp_path) == []


def test_files_that_are_not_what_their_name_says_are_errors(tmp_path):
  # Both tests have the same layout.
  one = tmp_path / "objects_room_test_six_objects.tfrecords"
  masks_files.write_scenes(one, "objects_room", "six_objects", [6])
  with pytest.raises(ValueError, match=r"Expected .*_identical_color\..* got"):
    prepare.prepare(
      "objects_room",
      variant="identical_color",
      source=str(one),
      data_dir=tmp_path / "new",
    )
  other = tmp_path / "multi_dsprites_binarized.tfrecords"
  shutil.copy(masks_files.CLEVR, other)
  with pytest.raises(ValueError, match="It fits --name=clevr_with_masks"):
    prepare.prepare(
      "multi_dsprites",
      variant="binarized",
      source=str(other),
      data_dir=tmp_path / "new",
    )
  assert left_in(tmp_path / "new") == []


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
  leftover = tmp_path / "clevr_with_masks" / "incomplete.ABC_1.0.0"
  leftover.mkdir(parents=True)
  (leftover / "part").touch()
  prepare.prepare(
    "clevr_with_masks", source=str(masks_files.CLEVR), data_dir=tmp_path
  )
  assert not leftover.exists()


def test_two_processes_do_not_prepare_the_same(tmp_path):
  directory = tmp_path / "clevr_with_masks"
  arguments = {"source": str(masks_files.CLEVR), "data_dir": tmp_path}
  with (
    prepare._locked(tmp_path, ["clevr_with_masks"]),
    pytest.raises(ValueError, match="Another process is preparing"),
  ):
    prepare.prepare("clevr_with_masks", **arguments)
  assert not directory.exists()
  # The lock keeps its file: whoever waits for it waits for this one.
  (lock,) = tmp_path.iterdir()
  before = lock.stat().st_ino
  prepare.prepare("clevr_with_masks", **arguments)
  assert lock.stat().st_ino == before


def test_a_bucket_is_no_place_to_write_to():
  with pytest.raises(ValueError, match=r"file system, got gs://bucket"):
    prepare.prepare("tetrominoes", data_dir="gs://bucket")
  assert not pathlib.Path("gs:").exists()


def command(*arguments):
  module = [sys.executable, "-m", "slot_attention_jax.data.prepare"]
  root = pathlib.Path(__file__).parents[2]
  return {"args": [*module, *arguments], "cwd": root, "text": True}


@pytest.mark.thorough
def test_the_command_ends_with_a_line_of_json(tmp_path):
  run = command(
    "--name=clevr_with_masks",
    f"--source={masks_files.CLEVR}",
    f"--data_dir={tmp_path}",
  )
  done = subprocess.run(**run, capture_output=True)
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout.splitlines()[-1])["num_records"] == 3
  assert "where clevr_with_masks has 100,000" in done.stderr
  # And an error with a line that is no traceback.
  file = tmp_path / "page.tfrecords"
  file.write_text("<!DOCTYPE html>")
  run = command(
    "--name=tetrominoes", f"--source={file}", f"--data_dir={tmp_path}"
  )
  done = subprocess.run(**run, capture_output=True)
  assert done.returncode == 2
  assert "Traceback" not in done.stderr
  assert done.stderr.splitlines()[-1].startswith("Error: Expected page.")
  assert not (tmp_path / "tetrominoes").exists()


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch, caplog):
  file = tmp_path / "x.tfrecords"
  masks_files.write_scenes(file, "tetrominoes", "", [3] * 200)
  read = tfrecord.read_records

  def interrupted(*args):
    for i, record in enumerate(read(*args)):
      if i == 150:
        assert list(tmp_path.glob("d/*/incomplete.*/**/*.array_record*"))
        os.kill(os.getpid(), signal.SIGTERM)
      yield record

  monkeypatch.setattr(tfrecord, "read_records", interrupted)
  with pytest.raises(SystemExit) as ended:
    prepare.main(
      ["--name=tetrominoes", f"--source={file}", f"--data_dir={tmp_path / 'd'}"]
    )
  assert ended.value.code == 143
  assert "Ended by SIGTERM. What was being done is left out" in caplog.text
  assert left_in(tmp_path / "d") == []


def damaged(data, rng):
  """A truncation or a flip of some bits of one byte."""
  at = int(rng.integers(0, len(data)))
  if rng.random() < 0.5:
    return data[:at]
  flip = int(rng.integers(1, 256))
  return data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]


def fuzz(data, name, tmp_path, count, seed):
  """Prepares damaged files: each is an error or what was written."""
  whole = tmp_path / f"{name}_train.tfrecords"
  whole.write_bytes(data)
  path = prepare.prepare(name, source=str(whole), data_dir=tmp_path / "right")[
    "path"
  ]
  expected = {
    p.name: p.read_bytes()
    for p in pathlib.Path(path).iterdir()
    if "array_record" in p.name
  }
  assert expected
  rng = np.random.default_rng(seed)
  outcomes = {"error": 0, "read": 0}
  for _ in range(count):
    whole.write_bytes(damaged(data, rng))
    try:
      report = prepare.prepare(
        name, source=str(whole), data_dir=tmp_path / "out"
      )
    except ValueError as error:
      outcomes["error"] += 1
      if whole.name not in str(error) or left_in(tmp_path / "out"):
        pytest.fail(f"{error}; left: {left_in(tmp_path / 'out')}")
    else:
      outcomes["read"] += 1
      for file, content in expected.items():
        assert (pathlib.Path(report["path"]) / file).read_bytes() == content
      shutil.rmtree(tmp_path / "out")
  return outcomes


@pytest.mark.thorough
def test_200_damaged_files_are_errors_or_read_right(tmp_path):
  masks_files.write_scenes(tmp_path / "x", "tetrominoes", "", [3, 2, 1])
  data = (tmp_path / "x").read_bytes()
  outcomes = fuzz(data, "tetrominoes", tmp_path, 200, seed=0)
  # Flips in parts of the header that say nothing are read.
  assert outcomes["error"] > 150


@pytest.mark.slow
def test_200_damaged_files_of_clevr_are_errors_or_read_right(tmp_path):
  data = masks_files.CLEVR.read_bytes()
  outcomes = fuzz(data, "clevr_with_masks", tmp_path, 200, seed=1)
  assert outcomes["error"] > 150


@pytest.mark.slow
def test_the_original_reader_s_values(tmp_path):
  """Against TensorFlow's parsing, as multi_object_datasets does it."""
  tf = pytest.importorskip("tensorflow")
  layout = layouts.get_layout("clevr_with_masks")
  floats = {*layout.floats, "visibility"}
  features = {
    name: tf.io.FixedLenFeature(
      shape, tf.float32 if name in floats else tf.string
    )
    for name, shape in layout.shapes(layout.resolution).items()
  }
  path = prepare.prepare(
    "clevr_with_masks", source=str(masks_files.CLEVR), data_dir=tmp_path
  )["path"]
  rows, _ = examples(path)
  records = tf.data.TFRecordDataset(os.fspath(masks_files.CLEVR), "GZIP")
  for row, record in zip(rows, records, strict=True):
    parsed = tf.io.parse_single_example(record, features)

    def pixels(name, parsed=parsed):
      return tf.squeeze(tf.io.decode_raw(parsed[name], tf.uint8), -1).numpy()

    np.testing.assert_array_equal(row["image"], pixels("image"))
    masks = pixels("mask")[..., 0]
    np.testing.assert_array_equal(
      row["segmentation"][..., 0], masks.argmax(axis=0)
    )
    np.testing.assert_array_equal(
      row["visibility"], parsed["visibility"].numpy() == 1
    )
