"""Tests of where masks, attention and coordinates are in an image."""

import jax
import numpy as np
import pytest

from slot_attention_jax.data import procedural
from slot_attention_jax.data.procedural.clevr import scene
from slot_attention_jax.evaluation import placement


def test_masks_go_where_the_crop_was():
  masks = np.zeros((2, 2, 2), np.float32)
  masks[0, :, 0], masks[1, :, 1] = 1, 1
  image = placement.to_image(masks, (6, 8), (1, 5, 2, 6))
  numbers = placement.slot_numbers(image)
  assert numbers.dtype == np.uint8
  assert set(numbers[1:5, 2:4].ravel()) == {1}
  assert set(numbers[1:5, 4:6].ravel()) == {2}
  numbers[1:5, 2:6] = 0
  assert not numbers.any()


def test_centers_of_attention():
  attention = np.zeros((2, 2, 4), np.float32)
  attention[0, 0, 1] = 1  # Cell (0, 1) of 2 x 4.
  attention[1, :, 2:] = 1
  centers = placement.attention_centers(attention, (10, 30, 100, 140))
  np.testing.assert_allclose(centers, [[115, 15], [130, 20]])


def test_a_little_attention_everywhere_does_not_move_a_center():
  attention = np.full((1, 16, 16), 0.1, np.float32)
  attention[0, 2, 13] = 1  # By the first power 7 cells away.
  centers = placement.attention_centers(attention, (0, 128, 0, 128))
  np.testing.assert_allclose(centers, [[8 * 13.5, 8 * 2.5]], atol=1.5)
  fainter = placement.attention_centers(attention / 1e4, (0, 128, 0, 128))
  np.testing.assert_allclose(fainter, centers, rtol=1e-5)


@pytest.mark.thorough
def test_coordinates_are_projected_near_to_where_objects_are():
  """Of scenes whose camera is moved, at most a twentieth of the width off."""
  family = procedural.Clevr(frame=(320, 480))
  drawn = family.sample(jax.random.key(3))
  present = np.asarray(drawn.present)
  for size in ((320, 480), (64, 64)):
    described = family.describe(drawn, size)
    true = np.asarray(described["pixel_coords"])[present, :2]
    got = placement.project(np.asarray(drawn.coords), size)[present]
    assert np.abs((got - true) / (size[1], size[0])).max() < 0.05
  # The camera's own distortion is there: with its location they agree.
  exact = scene.project(drawn.camera, drawn.coords, (320, 480))
  np.testing.assert_allclose(
    np.asarray(exact)[present, :2],
    np.asarray(family.describe(drawn, (320, 480))["pixel_coords"])[present, :2],
    rtol=1e-4,
  )
