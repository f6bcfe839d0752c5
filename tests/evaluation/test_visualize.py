import numpy as np
import pytest
from PIL import Image

from slot_attention_jax import models
from slot_attention_jax.evaluation import visualize
from slot_attention_jax.runtime import files


def test_to_uint8_rounds_and_clips():
  values = np.array([-2.0, -1.0, -0.999, 0.0, 0.999, 1.0, 3.0])
  expected = [0, 0, 0, 128, 255, 255, 255]
  got = visualize.to_uint8(values)
  assert got.dtype == np.uint8
  np.testing.assert_array_equal(got, expected)


def output():
  """2 images of 4x6, 3 slots; slot k owns two columns and has one color."""
  masks = np.zeros((2, 3, 4, 6, 1), np.float32)
  for k in range(3):
    masks[:, k, :, 2 * k : 2 * k + 2] = 1
  colors = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 5]], np.float32)
  images = np.broadcast_to(colors[None, :, None, None], (2, 3, 4, 6, 3))
  return models.AutoEncoderOutput(
    reconstruction=(masks * images).sum(axis=1),
    images=images,
    masks=masks,
    slots=None,
    attention=None,
  )


def tiles(sheet, size, columns, gap=2):
  """Cuts a sheet into its tiles; checks that the gaps are white."""
  h, w = size
  rows = (sheet.shape[0] - gap) // (h + gap)
  assert sheet.shape == (rows * (h + gap) + gap, columns * (w + gap) + gap, 3)
  covered = np.zeros(sheet.shape[:2], bool)
  grid = []
  for r in range(rows):
    grid.append([])
    for c in range(columns):
      top, left = gap + r * (h + gap), gap + c * (w + gap)
      grid[-1].append(sheet[top : top + h, left : left + w])
      covered[top : top + h, left : left + w] = True
  assert (sheet[~covered] == 255).all()
  return grid


def test_decomposition_grid():
  images = np.random.default_rng(0).uniform(-1, 1, size=(2, 4, 6, 3))
  sheet = visualize.decomposition_grid(images, output(), min_size=4)
  assert sheet.dtype == np.uint8
  grid = tiles(sheet, (4, 6), columns=3 + 3)
  assert len(grid) == 2
  for image, row in zip(images, grid, strict=True):
    np.testing.assert_array_equal(row[0], visualize.to_uint8(image))
    np.testing.assert_array_equal(row[1][0, ::2], 255 * np.eye(3))
    # One color per slot: three columns of two pixels.
    segmentation = row[2][0].tolist()
    assert segmentation[::2] == segmentation[1::2]
    assert len({tuple(c) for c in segmentation}) == 3
    for k, tile in enumerate(row[3:]):
      inside = np.arange(6) // 2 == k
      np.testing.assert_array_equal(
        tile[:, inside], np.broadcast_to(255 * np.eye(3)[k], (4, 2, 3))
      )
      assert (tile[:, ~inside] == 255).all()


def test_small_images_are_enlarged_by_whole_factors():
  images = np.zeros((2, 4, 6, 3))
  sheet = visualize.decomposition_grid(images, output(), min_size=13)
  tiles(sheet, (12, 18), columns=6)
  sheet = visualize.decomposition_grid(images, output(), min_size=1)
  tiles(sheet, (4, 6), columns=6)


def test_decomposition_of_other_images_is_an_error():
  with pytest.raises(ValueError, match=r"\(2, 4, 6, 3\), got \(1, 4, 6, 3\)"):
    visualize.decomposition_grid(np.zeros((1, 4, 6, 3)), output())


def test_attention_grid():
  images = np.full((1, 4, 8, 3), -1.0)
  # T 2, K 3, on a grid of 2x4: the last iteration of slot 1 is in one cell.
  attention = np.zeros((1, 2, 3, 8), np.float32)
  attention[0, 0] = 1
  attention[0, 1, 1, 4 + 2] = 1
  sheet = visualize.attention_grid(images, attention, min_size=4)
  ((image, *maps),) = tiles(sheet, (4, 8), columns=1 + 3)
  assert (image == 0).all()
  assert (maps[0] == 255).all()
  expected = np.full((4, 8, 3), 255)
  expected[2:4, 4:6] = 0  # Cell (1, 2) of 2x2 pixels.
  np.testing.assert_array_equal(maps[1], expected)


def test_attention_without_a_fitting_grid_is_an_error():
  with pytest.raises(ValueError, match=r"aspect 4:8, got N = 7"):
    visualize.attention_grid(np.zeros((1, 4, 8, 3)), np.zeros((1, 1, 2, 7)))


def test_save_png(tmp_path):
  image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
  path = tmp_path / "new" / "image.png"
  files.save_png(path, image)
  np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
  assert [p.name for p in path.parent.iterdir()] == ["image.png"]
