"""The splits of multi-object datasets: the paper's, and no overlap."""

import itertools

import pytest

from slot_attention_jax.data.multi_object import splits as splits_lib

NAMES = ("train", "test", "validation", "test_large")
RECORDS = {
  "clevr_with_masks": 100_000,
  "multi_dsprites": 1_000_000,
  "tetrominoes": 1_000_000,
  "objects_room": 1_000_000,
}


def find(dataset, name, **kwargs):
  return splits_lib.find_split(dataset, name, **kwargs)


def test_the_paper_s_splits():
  train, test = (
    find("clevr_with_masks", f"clevr6/{s}") for s in ("train", "test")
  )
  assert (train.first, train.stop, train.limit) == (0, 70_000, None)
  assert (test.first, test.limit) == (70_000, 320)
  assert train.max_objects == test.max_objects == 6
  ten = find("clevr_with_masks", "clevr10/test")
  # No scene has more, so that the first 320 are those that the paper took.
  assert (ten.first, ten.limit, ten.max_objects) == (70_000, 320, 10)
  for sprites in ("multi_dsprites", "tetrominoes"):
    train, test = find(sprites, "train"), find(sprites, "test")
    assert (train.first, train.stop) == (0, 60_000)
    assert (test.first, test.limit) == (60_000, 320)


@pytest.mark.parametrize("dataset", RECORDS)
def test_splits_are_disjoint_and_within_the_dataset(dataset):
  splits = [find(dataset, name) for name in NAMES]
  for a, b in itertools.combinations(splits, 2):
    assert a.stop <= b.first or b.stop <= a.first, (a, b)
  assert max(s.stop for s in splits) <= RECORDS[dataset]
  large = splits[NAMES.index("test_large")]
  assert large.stop - large.first >= 15_000


def test_a_name_without_a_filter_takes_the_config_s():
  split = find("clevr_with_masks", "train", max_objects=6)
  assert split == find("clevr_with_masks", "clevr6/train")
  assert split.name == "clevr6/train"
  assert find("clevr_with_masks", "test").name == "clevr10/test"
  # The name is stronger: a model of six objects is tested on ten.
  other = find("clevr_with_masks", "clevr10/test", max_objects=6)
  assert (other.name, other.max_objects) == ("clevr10/test", 10)


@pytest.mark.parametrize(
  ("text", "first", "stop"),
  [
    ("records[3:8]", 3, 8),
    ("records[:8]", 0, 8),
    ("records[3:]", 3, None),
    ("records[:]", 0, None),
  ],
)
def test_ranges_of_records(text, first, stop):
  split = find("tetrominoes", text)
  assert (split.name, split.first, split.stop) == (text, first, stop)
  assert split.limit is None


def test_a_range_of_records_can_be_filtered():
  split = find("clevr_with_masks", "clevr4/records[0:8]")
  assert split.max_objects == 4
  assert split.name == "clevr4/records[0:8]"


def test_tests_of_objects_room_are_all_of_their_records():
  split = find("objects_room", "test", variant="six_objects")
  assert (split.first, split.stop, split.limit) == (0, None, None)
  with pytest.raises(ValueError, match=r"out of \['test'\].* got 'train'"):
    find("objects_room", "train", variant="six_objects")


@pytest.mark.parametrize(
  ("dataset", "name", "kwargs", "message"),
  [
    ("clevr_with_masks", "dev", {}, r"out of \['train', .* got 'dev'"),
    ("clevr_with_masks", "clevr/test", {}, r"'clevr6/' .* got 'clevr/test'"),
    ("tetrominoes", "clevr6/test", {}, r"without '/', got 'clevr6/test'"),
    ("tetrominoes", "test", {"max_objects": 2}, r"max_objects of 0 .* got 2"),
    ("tetrominoes", "records[8:8]", {}, r"A < B, got 'records\[8:8\]'"),
    ("tetrominoes", "records[-4:]", {}, r"got 'records\[-4:\]'"),
  ],
)
def test_unknown_splits_are_errors(dataset, name, kwargs, message):
  with pytest.raises(ValueError, match=message):
    find(dataset, name, **kwargs)
