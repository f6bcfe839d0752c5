"""CLEVR's splits, filter, batches and where it is looked for.

The data is a shrunken subset made by experiments/prepare_clevr_subset.py: 12
train, 6 validation and 3 test images of 64 x 96, RGBA as in the archive.
"""

import pathlib
import shutil

import numpy as np
import pytest

from slot_attention_jax.data import cached_dataset, transforms, types
from slot_attention_jax.data.images import clevr

pytestmark = pytest.mark.usefixtures("tfds")

_DATA = pathlib.Path(__file__).parents[2] / "testdata"
_ARRAY_RECORD = _DATA / "clevr_array_record"
_TFRECORD = _DATA / "clevr_tfrecord"
# Objects of CLEVR_train_000000.png and so on.
_TRAIN_OBJECTS = [7, 5, 9, 6, 10, 9, 8, 3, 10, 5, 10, 10]
_VALIDATION_OBJECTS = [7, 8, 10, 7, 5, 7]


@pytest.fixture
def create(cache_dir, sharding):
  def create(split, *, data_dir=_ARRAY_RECORD, **kwargs):
    images = transforms.ImageSpec(
      kwargs.pop("resolution", (16, 16)), kwargs.pop("crop", "paper"), cache_dir
    )
    batching = cached_dataset.Batching(
      kwargs.pop("batch_size", 4), sharding, train=kwargs.pop("train", False)
    )
    arguments = {"task": "discovery", "num_train_eval": 4} | kwargs
    return clevr.open(data_dir, split, images, batching, **arguments)

  return create


def _all(dataset):
  """Every example of an evaluation, without the padding."""
  batches = [dataset.batch(i) for i in range(dataset.num_batches)]
  joined = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  return {k: v[joined["valid"]] for k, v in joined.items()}


def _counts(dataset):
  return _all(dataset)["target"][..., -1].sum(axis=-1).astype(int).tolist()


def test_splits_are_disjoint_and_in_the_order_of_names(create):
  assert _counts(create("train_eval")) == _TRAIN_OBJECTS[:4]
  assert _counts(create("train")) == _TRAIN_OBJECTS[4:]
  assert _counts(create("validation")) == _VALIDATION_OBJECTS
  images = np.concatenate(
    [
      _all(create(split))["image"]
      for split in ("train_eval", "train", "validation", "test")
    ]
  )
  assert len(np.unique(images, axis=0)) == 12 + 6 + 3


def test_training_stays_within_its_split(create):
  train = create("train", train=True)
  assert train.num_batches is None
  allowed = _all(create("train"))["target"]
  for step in range(4):
    for target in np.asarray(train.batch(step)["target"]):
      assert (target == allowed).all(axis=(1, 2)).any()


def test_filter_counts_the_whole_scene(create):
  dataset = create("train", max_objects=6)
  assert _counts(dataset) == [n for n in _TRAIN_OBJECTS[4:] if n <= 6]
  # The filter does not move the border between the splits.
  assert _counts(create("train_eval", max_objects=6)) == [5, 6]
  with pytest.raises(ValueError, match="fewest are 3"):
    create("train", max_objects=2)


def test_info_and_batch(create):
  dataset = create(
    "validation", task="set_prediction", resolution=(16, 24), crop=None
  )
  assert dataset.info == types.DatasetInfo(
    name="clevr:3.1.0",
    split="validation",
    image_shape=(16, 24, 3),
    num_examples=6,
    layout=types.CLEVR_LAYOUT,
    max_objects=10,
  )
  batch = dataset.batch(1)
  assert batch["image"].shape == (4, 16, 24, 3)
  assert batch["target"].shape == (4, 10, 19)
  assert batch["valid"].tolist() == [True, True, False, False]


def test_batch_larger_than_the_split(create):
  batch = create("validation", train=True, batch_size=16).batch(0)
  assert batch["image"].shape == (16, 16, 16, 3)
  assert set(batch) == {"image", "target"}


def test_test_split_has_no_annotations(create):
  dataset = create("test")
  assert set(dataset.batch(0)) == {"image", "valid"}
  assert dataset.info.layout is None
  assert dataset.info.max_objects == 0
  with pytest.raises(ValueError, match="Use the validation split"):
    create("test", task="set_prediction")
  with pytest.raises(ValueError, match="cannot be counted"):
    create("test", max_objects=6)


def test_errors(create):
  with pytest.raises(
    ValueError, match=r"data\.tfds\.num_train_eval in \[1, 11\]"
  ):
    create("train", num_train_eval=12)
  with pytest.raises(ValueError, match="got 'val'"):
    create("val")
  with pytest.raises(ValueError, match="got 'segmentation'"):
    create("train", task="segmentation")
  with pytest.raises(ValueError, match="image of 64 x 96"):
    create("train", crop="literal")


@pytest.mark.parametrize(
  "below", ["", "clevr", "clevr/3.1.0"], ids=["root", "name", "version"]
)
def test_finds_named_directory(below):
  builder = clevr.find_builder(str(_ARRAY_RECORD / below))
  assert builder.info.full_name == "clevr/3.1.0"


def test_named_directory_without_the_data(tmp_path):
  with pytest.raises(FileNotFoundError) as error:
    clevr.find_builder(tmp_path)
  message = str(error.value)
  assert str(tmp_path) in message
  assert "pip install" in message
  assert "download_and_prepare()" in message
  assert "file_format='array_record'" in message


def test_another_dataset_is_not_clevr(tmp_path):
  (tmp_path / "dataset_info.json").write_text('{"name": "mnist"}')
  with pytest.raises(FileNotFoundError, match=r"clevr:3\.1\.0"):
    clevr.find_builder(tmp_path)


def test_default_place(monkeypatch, tmp_path):
  monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert not clevr.is_prepared()
  shutil.copytree(_ARRAY_RECORD, tmp_path / "tensorflow_datasets")
  assert clevr.is_prepared()
  assert clevr.find_builder().info.name == "clevr"
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))
  assert not clevr.is_prepared()
  monkeypatch.setenv("TFDS_DATA_DIR", str(_TFRECORD))
  assert str(clevr.find_builder().data_dir).startswith(str(_TFRECORD))
