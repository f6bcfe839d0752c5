"""Tests of the picture of predicted objects."""

import numpy as np
import pytest

from slot_attention_jax.evaluation import palette
from slot_attention_jax.predict import object_marks


def rows(count, **changes):
  row = {"confidence": 0.9, "pixel_x": 30.0, "pixel_y": 12.0, "shape": "cube"}
  return [{"slot": k + 1} | row | changes for k in range(count)]


def colored(picture, slot):
  """Where [H, W] a picture has the color of a slot, counted from 1."""
  return (picture == palette.slot_colors(slot - 1)).all(axis=-1)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_list_names_every_object_however_close_they_are(count):
  image = np.zeros((40, 60, 3), np.uint8)
  picture = object_marks.draw(image, rows(count))
  height = 400  # Ten times as large.
  assert picture.shape[1] == 600
  lines = {}
  for slot in range(1, count + 1):
    y, x = np.nonzero(colored(picture[height:], slot))
    assert y.size > 20
    lines[slot] = (y.min(), x.min())
  assert len(set(lines.values())) == count
  # Words, each in black on white, beside the mark.
  for y, x in lines.values():
    words = picture[height + y : height + y + 20, x + 32 : x + 90]
    assert (words < 99).all(axis=-1).sum() > 20


def test_marks_are_where_objects_are():
  image = np.zeros((40, 60, 3), np.uint8)
  (row,) = rows(1, pixel_x=45.0, pixel_y=30.0)
  picture = object_marks.draw(image, [row])[:400]
  y, x = np.nonzero(colored(picture, 1))
  assert abs((x.min() + x.max()) / 2 - 450) < 1
  assert abs((y.min() + y.max()) / 2 - 300) < 1
  far = picture.copy()
  far[270:330, 420:480] = 0
  assert not far.any()


def test_without_objects_it_is_the_image():
  image = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
  picture = object_marks.draw(image, [])
  np.testing.assert_array_equal(picture[::10, ::10], image)
  assert picture.shape == (400, 600, 3)


@pytest.mark.parametrize("size", [(1, 60), (60, 1), (3, 5000), (640, 120)])
def test_the_list_of_a_strip_is_whole(size):
  image = np.zeros((*size, 3), np.uint8)
  long = object_marks.draw(image, rows(10, shape=40 * "m"))
  short = object_marks.draw(image, rows(10, shape=39 * "m"))
  assert (long[size[0] :] < 99).sum() > (short[size[0] :] < 99).sum()


def test_marks_near_the_edge_do_not_cover_the_list():
  image = np.zeros((120, 640, 3), np.uint8)
  low, high = (
    object_marks.draw(image, rows(6, pixel_y=y)) for y in (119.0, 30.0)
  )
  np.testing.assert_array_equal(low[360:], high[360:])


def test_long_lines_are_cut():
  image = np.zeros((40, 60, 3), np.uint8)
  long, short = (rows(1, shape=s * "x") for s in (38, 500))
  np.testing.assert_array_equal(
    object_marks.draw(image, long, most=38),
    object_marks.draw(image, short, most=38),
  )
