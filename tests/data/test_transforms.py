"""Crop, resize and normalization against the reference's own outputs."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data import transforms, types

_GOLDEN = (
  pathlib.Path(__file__).parents[1] / "testdata/golden/preprocess_clevr.npz"
)


@pytest.fixture(scope="module")
def golden():
  with np.load(_GOLDEN) as data:
    return dict(data)


@pytest.mark.parametrize(
  ("crop", "result"), [("paper", "discovery_image"), (None, "set_image")]
)
def test_preprocess_equals_reference(golden, crop, result, equal_to_reference):
  for raw, expected in zip(golden["raw"], golden[result], strict=True):
    actual = transforms.preprocess_image(raw, (128, 128), crop)
    assert actual.dtype == np.float32
    equal_to_reference(
      f"CLEVR images, {'cropped' if crop else 'whole'} and resized",
      actual,
      expected,
      1e-6,
    )


def test_literal_equals_paper_on_the_papers_size(golden):
  raw = golden["raw"][0]
  np.testing.assert_array_equal(
    transforms.preprocess_image(raw, (64, 64), "literal"),
    transforms.preprocess_image(raw, (64, 64), "paper"),
  )


def test_target_equals_reference(golden, equal_to_reference):
  real = np.arange(10) < golden["n_objects"][:, None]
  target = types.CLEVR_LAYOUT.encode(
    {
      "coords": golden["obj_3d_coords"],
      "size": golden["obj_size"],
      "material": golden["obj_material"],
      "shape": golden["obj_shape"],
      "color": golden["obj_color"],
    },
    real=real,
  )
  equal_to_reference("CLEVR targets", target, golden["set_target"], 1e-6)


@pytest.mark.parametrize(
  ("height", "width", "window"),
  [
    (240, 320, (29, 221, 64, 256)),
    (320, 480, (39, 295, 112, 368)),
    (480, 640, (58, 442, 128, 512)),
    (80, 120, (10, 74, 28, 92)),
  ],
)
def test_crop_window(height, width, window):
  assert transforms.crop_window(height, width) == window


def test_crop_window_literal():
  assert transforms.crop_window(320, 480, literal=True) == (29, 221, 64, 256)
  with pytest.raises(ValueError, match="80 x 120"):
    transforms.crop_window(80, 120, literal=True)
  with pytest.raises(ValueError, match="320 x 200"):
    transforms.crop_window(320, 200)


@pytest.mark.parametrize("size", [(5, 7), (13, 4), (31, 40), (9, 11)])
def test_resize_equals_jax_without_antialiasing(size):
  image = np.random.default_rng(0).random((9, 11, 3), dtype=np.float32)
  expected = jax.image.resize(
    image, (*size, 3), method="bilinear", antialias=False
  )
  actual = transforms.resize_bilinear(image, size)
  assert actual.shape == (*size, 3)
  np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)


def test_resize_does_not_antialias():
  image = np.zeros((8, 8, 1), np.float32)
  image[::2] = 1.0
  # The samples fall halfway between rows 1 and 2, and between rows 5 and 6.
  np.testing.assert_array_equal(
    transforms.resize_bilinear(image, (2, 2)), np.full((2, 2, 1), 0.5)
  )
  # The one sample of three rows is the middle row; antialiasing mixes in more.
  np.testing.assert_array_equal(
    transforms.resize_bilinear(image[:3], (1, 8)), np.zeros((1, 8, 1))
  )


def test_normalize():
  levels = np.array([0, 51, 255], np.uint8)
  expected = [-1.0, -0.6, 1.0]
  np.testing.assert_allclose(transforms.normalize(levels), expected, atol=1e-7)
  assert isinstance(transforms.normalize(levels), np.ndarray)
  under_jit = jax.jit(transforms.normalize)(jnp.asarray(levels))
  assert under_jit.dtype == jnp.float32
  np.testing.assert_allclose(under_jit, expected, atol=1e-6)


def test_errors():
  image = np.zeros((240, 320, 3), np.uint8)
  with pytest.raises(ValueError, match="'middle'"):
    transforms.preprocess_image(image, (8, 8), "middle")
  with pytest.raises(ValueError, match="uint8, got"):
    transforms.preprocess_image(image / 255, (8, 8), None)
  with pytest.raises(ValueError, match="uint8, got"):
    transforms.preprocess_image(image[..., :1], (8, 8), None)
  with pytest.raises(ValueError, match=r"\[H, W, C\]"):
    transforms.resize_bilinear(image[0], (8, 8))
  with pytest.raises(ValueError, match="at least 1"):
    transforms.resize_bilinear(image, (0, 8))


@pytest.mark.parametrize("crop", ["paper", "literal", None])
def test_segmentations_are_cropped_like_their_images(crop):
  """Rows and columns told by the gray level of an image, and by ids."""
  rows, columns = np.indices((240, 320))
  window = transforms.crop_window(240, 320) if crop else (0, 240, 0, 320)
  top, bottom, left, right = window
  for ids, low, high, axis in (
    (rows, top, bottom, 0),
    (columns, left, right, 1),
  ):
    got = transforms.preprocess_segmentation(ids, (16, 16), crop)
    assert got.dtype == np.int32
    size = (high - low) / 16
    centers = np.floor(low + (np.arange(16) + 0.5) * size)
    expected = np.broadcast_to(np.expand_dims(centers, 1 - axis), (16, 16))
    np.testing.assert_array_equal(got, expected)


def test_invalid_segmentations_are_errors():
  with pytest.raises(ValueError, match="of integers, got"):
    transforms.preprocess_segmentation(np.zeros((4, 4)), (2, 2), None)
  with pytest.raises(ValueError, match="of integers, got"):
    transforms.preprocess_segmentation(np.zeros((4, 4, 1), int), (2, 2), None)
  with pytest.raises(ValueError, match="sizes of at least 1"):
    transforms.preprocess_segmentation(np.zeros((4, 4), int), (0, 2), None)
  with pytest.raises(ValueError, match="a crop of"):
    transforms.preprocess_segmentation(np.zeros((4, 4), int), (2, 2), "x")
