"""Tests of pictures of predictions."""

import numpy as np
import pytest

import slot_attention_jax as sa
from slot_attention_jax.predict import pictures

ROWS = [
  {"slot": k, "confidence": 0.9, "pixel_x": 10, "pixel_y": 12, "shape": "cube"}
  for k in (1, 2, 3)
]


def label_rows(image):
  """The rows of a picture that have white pixels of labels."""
  return int((image == 255).all(axis=-1).any(axis=1).sum())


def test_labels_of_objects_at_one_place_are_side_by_side():
  image = np.zeros((40, 60, 3), np.uint8)
  one = label_rows(pictures.marks(image, ROWS[:1]))
  three = label_rows(pictures.marks(image, ROWS))
  assert one > 5
  assert three >= 2.9 * one


def test_a_misspelled_name_of_weights_is_corrected():
  with pytest.raises(ValueError, match="Did you mean 'clevr6_small'"):
    sa.predict([np.zeros((8, 8, 3), np.uint8)], model="clevr6_smal")


@pytest.mark.parametrize(
  ("size", "factor"),
  [((28, 28), 14), ((400, 600), 1), ((1, 60), 68), ((1, 5000), 1)],
)
def test_no_picture_gets_too_wide(size, factor):
  assert pictures.enlargement(np.zeros(size)) == factor
