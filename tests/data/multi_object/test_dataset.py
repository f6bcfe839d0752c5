"""Batches of prepared multi-object datasets: splits, filter, background."""

import numpy as np
import pytest

from slot_attention_jax.data import cached_dataset, prepare, transforms, types
from slot_attention_jax.data.multi_object import (
  dataset as dataset_lib,
)
from slot_attention_jax.data.multi_object import (
  layouts,
  splits,
)
from tests.data.multi_object import masks_files

pytestmark = pytest.mark.usefixtures("tfds")

COUNTS = [3, 1, 2, 3, 0, 2, 3, 1]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """CLEVR, Tetrominoes and two variants of Objects Room, and their scenes."""
  root = tmp_path_factory.mktemp("tfds")
  scenes = {}
  for name, variant in (
    ("tetrominoes", ""),
    ("objects_room", "train"),
    ("objects_room", "six_objects"),
  ):
    file = root / f"{name}_{variant}.tfrecords"
    scenes[name, variant] = masks_files.write_scenes(
      file, name, variant, COUNTS
    )
    prepare.prepare(name, variant=variant, source=str(file), data_dir=root)
  prepare.prepare(
    "clevr_with_masks", source=str(masks_files.CLEVR), data_dir=root
  )
  return root, scenes


@pytest.fixture
def create(data_dir, sharding, cache_dir):
  def create(name, split, variant="", **kwargs):
    resolution = layouts.get_layout(name, variant).resolution
    images = transforms.ImageSpec(
      kwargs.pop("resolution", resolution), kwargs.pop("crop", None), cache_dir
    )
    batching = cached_dataset.Batching(
      4, sharding, train=kwargs.pop("train", False)
    )
    return dataset_lib.open(
      data_dir[0],
      split,
      images,
      batching,
      name=name,
      variant=variant,
      **kwargs,
    )

  return create


def all_rows(dataset):
  batches = [dataset.batch(i) for i in range(dataset.num_batches)]
  joined = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  return {k: v[joined["valid"]] for k, v in joined.items()}


def test_scenes_come_as_they_were_written_and_in_their_order(data_dir, create):
  dataset = create("tetrominoes", "records[2:7]")
  rows = all_rows(dataset)
  scenes = data_dir[1]["tetrominoes", ""][2:7]
  assert dataset.info.num_examples == 5
  for image, ids, (arrays, expected) in zip(
    rows["image"], rows["segmentation"], scenes, strict=True
  ):
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose((image + 1) * 127.5, arrays["image"], atol=1e-3)


def test_the_name_tells_a_part_from_the_whole_dataset(
  data_dir, create, monkeypatch
):
  info = create("tetrominoes", "records[:]").info
  assert info.name == "tetrominoes:1.0.0[8_of_tetrominoes_.tfrecords]"
  assert info.split == "records[:]"
  assert not info.own_scenes
  builder = dataset_lib.find_builder("tetrominoes", "", data_dir[0])
  builder.info.metadata["complete"] = True
  name = dataset_lib._data_name(builder, "tetrominoes", "")
  assert name == "tetrominoes:1.0.0"
  name = dataset_lib._data_name(builder, "objects_room", "six_objects")
  assert name == "objects_room/six_objects:1.0.0"


def test_clevr_targets_and_counts_leave_out_the_background(create):
  dataset = create("clevr_with_masks", "records[:]", resolution=(60, 80))
  assert dataset.info.layout == types.CLEVR_LAYOUT
  assert (dataset.info.max_objects, dataset.info.num_examples) == (10, 3)
  rows = all_rows(dataset)
  assert rows["target"].shape == (3, 10, 19)
  assert rows["target"][..., -1].sum(axis=1).tolist() == [7, 5, 3]
  colors = types.CLEVR_LAYOUT.decode(rows["target"])["color"]
  labels = types.CLEVR_LAYOUT["color"].labels
  assert [labels[i] for i in colors[2, :3]] == ["yellow", "gray", "yellow"]
  # Object i of the segmentation is target i - 1: its color is there.
  yellow = rows["image"][2][rows["segmentation"][2] == 1].mean(axis=0)
  assert yellow[0] > yellow[2] + 0.2
  assert yellow[1] > yellow[2] + 0.2


def test_the_filter_in_the_name_has_precedence(create):
  assert create("clevr_with_masks", "records[:]").info.num_examples == 3
  six = create("clevr_with_masks", "clevr6/records[:]")
  assert (six.info.split, six.info.num_examples) == ("clevr6/records[:]", 2)
  same = create("clevr_with_masks", "records[:]", max_objects=6)
  assert same.info.split == six.info.split
  all_of_them = create("clevr_with_masks", "clevr10/records[:]", max_objects=6)
  assert all_of_them.info.num_examples == 3
  with pytest.raises(ValueError, match=r"2 or fewer objects; the fewest are 3"):
    create("clevr_with_masks", "clevr2/records[:]")


def test_masks_are_cropped_and_resized_with_the_image(data_dir, create):
  import tensorflow_datasets as tfds

  rows = all_rows(
    create("clevr_with_masks", "records[:]", crop="paper", resolution=(48, 48))
  )
  path = data_dir[0] / "clevr_with_masks" / "1.0.0"
  source = tfds.builder_from_directory(path).as_data_source("train")
  for i, example in enumerate(source):
    image = transforms.preprocess_image(example["image"], (48, 48), "paper")
    np.testing.assert_allclose(rows["image"][i], image, atol=1 / 127)
    # Nearest: each pixel is the one at its center, in the paper's window.
    window = example["segmentation"][29:221, 64:256, 0]
    np.testing.assert_array_equal(rows["segmentation"][i], window[2::4, 2::4])


def test_parts_of_the_background_are_one(data_dir, create):
  for variant, most in (("train", 3), ("six_objects", 6)):
    dataset = create("objects_room", "records[:]", variant)
    assert dataset.info.max_objects == most
    ids = all_rows(dataset)["segmentation"]
    for got, (_, entities) in zip(
      ids, data_dir[1]["objects_room", variant], strict=True
    ):
      np.testing.assert_array_equal(got == 0, entities < 4)
      np.testing.assert_array_equal(got[got > 0], entities[got > 0] - 3)


def test_training_is_endless_and_stays_within_its_split(create):
  dataset = create("tetrominoes", "records[0:6]", train=True)
  assert dataset.num_batches is None
  inside = all_rows(create("tetrominoes", "records[0:6]"))["image"]
  seen = np.concatenate([dataset.batch(i)["image"] for i in range(3)])
  rows = [int(np.argmax((inside == x).all(axis=(1, 2, 3)))) for x in seen]
  assert sorted(rows) == sorted([*range(6)] * 2)
  assert rows[:6] != list(range(6))


def test_paper_splits_take_the_first_that_pass(create, monkeypatch):
  table = splits._table(1, 3, (2, 3), 2)
  monkeypatch.setitem(splits._SPLITS, "clevr_with_masks", table)
  # Record 0 has seven objects, 1 has five, 2 has three.
  assert create("clevr_with_masks", "clevr10/train").info.num_examples == 1
  assert create("clevr_with_masks", "clevr6/test").info.num_examples == 2
  monkeypatch.setitem(table, "test", (1, 3, 1))
  test = create("clevr_with_masks", "clevr4/test")
  counts = all_rows(test)["target"][..., -1].sum(axis=1)
  # The limit comes after the filter.
  assert counts.tolist() == [3]


def test_splits_beyond_the_data_are_errors(create):
  with pytest.raises(
    ValueError, match=r"records 60000 to 61000 .*only 8 were.*records\[0:4\]'"
  ):
    create("tetrominoes", "test")
  with pytest.raises(ValueError, match="records 4 to 9"):
    create("tetrominoes", "records[4:9]")


def test_data_are_found_at_any_height(data_dir):
  root = data_dir[0]
  for folder in (
    root,
    root / "objects_room",
    root / "objects_room" / "six_objects",
    root / "objects_room" / "six_objects" / "1.0.0",
  ):
    builder = dataset_lib.find_builder("objects_room", "six_objects", folder)
    assert builder.info.splits["test"].num_examples == 8
  with pytest.raises(FileNotFoundError, match=r"identical_color:1\.0\.0"):
    dataset_lib.find_builder("objects_room", "identical_color", root)
  with pytest.raises(FileNotFoundError, match="--name=tetrominoes"):
    # Not what its place says.
    dataset_lib.find_builder("tetrominoes", "", root / "objects_room")


def test_a_missing_file_and_another_order_are_errors(
  data_dir, sharding, tmp_path, monkeypatch
):
  import shutil

  copy = tmp_path / "tetrominoes" / "1.0.0"
  shutil.copytree(data_dir[0] / "tetrominoes" / "1.0.0", copy)
  monkeypatch.setattr(
    dataset_lib,
    "_records",
    lambda *a, real=dataset_lib._records: (
      (number + 1, record) for number, record in real(*a)
    ),
  )

  def open_all():
    images = transforms.ImageSpec((7, 7), None, tmp_path / "cache")
    batching = cached_dataset.Batching(4, sharding)
    return dataset_lib.open(
      tmp_path, "records[:]", images, batching, name="tetrominoes"
    )

  with pytest.raises(ValueError, match="record 1 of the original file, got 0"):
    open_all()
  (file,) = copy.glob("*.array_record*")
  file.unlink()
  with pytest.raises(FileNotFoundError, match=r"1 of the 1 files .*missing"):
    open_all()
