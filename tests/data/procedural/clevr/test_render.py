"""Pictures of CLEVR scenes, against Blender's and against themselves."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from slot_attention_jax.data.procedural.clevr import (
  Clevr,
  annotations,
  render,
  scene,
)
from slot_attention_jax.data.procedural.clevr import view as view_lib

ROOT = pathlib.Path(__file__).parents[4]
DATA = ROOT / "tests/testdata/clevr_render"
SMALL = (48, 64)
FULL = (240, 320)
NUM_RANDOM = 64


def psnr(image, reference):
  """PSNR in dB of images in [-1, 1]."""
  square = np.square(np.asarray(image, np.float64) - reference).mean()
  return 10.0 * np.log10(4.0 / square)


@pytest.fixture(scope="module")
def blender():
  """Pictures [3, H, W, 3] in [-1, 1], masks [3, H, W] and annotations."""
  images, masks = (
    np.stack([np.asarray(Image.open(DATA / f"{n}_{i}.png")) for i in range(3)])
    for n in ("image", "mask")
  )
  items = json.loads((DATA / "scenes.json").read_text())["scenes"]
  return images / 127.5 - 1.0, masks, items


@pytest.fixture(scope="module")
def known(blender):
  """Blender's 3 scenes and, last, one without objects."""
  scenes = [annotations.parse_scene(item) for item in blender[2]]
  nothing = scenes[0].replace(present=np.zeros(10, bool))
  return jax.tree.map(lambda *x: np.stack(x), *scenes, nothing)


@pytest.fixture(scope="module")
def many(crowds, known):
  """64 random scenes, followed by the known ones."""
  return jax.tree.map(lambda *x: np.concatenate(x), crowds, known)


def render_all(scenes, resolution, **options):
  view = view_lib.View(options.pop("frame", FULL), options.pop("crop", None))
  draw = jax.vmap(lambda s: render.render(s, resolution, view, **options))
  return jax.device_get(jax.jit(draw)(scenes))


def segmentations(scenes, resolution, frame, crop=None):
  view = view_lib.View(frame, crop)
  draw = jax.vmap(lambda s: render.segment(s, resolution, view))
  return np.asarray(jax.jit(draw)(scenes))


@pytest.fixture(scope="module")
def full(known):
  return render_all(known, FULL)


@pytest.fixture(scope="module")
def small(many):
  return render_all(many, SMALL)


def linear(image):
  """Light [..., 3] of pixels in [-1, 1]."""
  value = (image + 1.0) / 2.0
  return np.where(
    value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4
  )


def five_times_smaller(image):
  """Pictures [N, 240, 320, 3] at (48, 64), each pixel the mean of 25."""
  h, w = SMALL
  light = linear(image).reshape(-1, h, 5, w, 5, 3).mean(axis=(2, 4))
  value = np.where(
    light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055
  )
  return 2.0 * value - 1.0


@pytest.fixture(scope="module")
def few(known):
  return render_all(known, SMALL)


def test_images_of_a_version_stay(few):
  """Raise `Clevr.version` if this fails, and put in the new means."""
  got = np.asarray(few.image, np.float64).mean(axis=(1, 2, 3))
  expected = {2: [-0.062488, -0.068064, -0.128969, -0.050375]}[Clevr.version]
  np.testing.assert_allclose(got, expected, atol=1e-5)


# Against Blender.


def test_small_images_match_blender(few, blender):
  images, masks, _ = blender
  got = few
  for n, expected in enumerate(five_times_smaller(images)):
    assert psnr(got.image[n], expected) >= 30.0
    middle = masks[n, 2::5, 2::5]
    assert (got.segmentation[n] == middle).mean() > 0.99
  np.testing.assert_array_equal(got.visibility[-1], 0)


@pytest.mark.thorough
def test_images_match_blender(full, blender):
  images, masks, items = blender
  for n, item in enumerate(items):
    assert psnr(full.image[n], images[n]) >= 30.0
    for i in range(1, len(item["objects"]) + 1):
      ours, theirs = full.segmentation[n] == i, masks[n] == i
      iou = (ours & theirs).sum() / max((ours | theirs).sum(), 1)
      assert iou >= 0.98 or not (ours | theirs).any(), (n, i)
    assert full.segmentation[n].max() == masks[n].max()


def test_pixel_coordinates_match_blender(known, blender):
  for n, item in enumerate(blender[2]):
    told = np.array([o["pixel_coords"] for o in item["objects"]])
    s = jax.tree.map(lambda x, n=n: x[n], known)
    got = Clevr().describe(s, FULL)["pixel_coords"]
    np.testing.assert_allclose(got[: len(told), :2], told[:, :2], atol=1.0)
    np.testing.assert_allclose(got[: len(told), 2], told[:, 2], rtol=1e-4)
    np.testing.assert_array_equal(got[len(told) :], 0.0)


@pytest.mark.slow
def test_comparison_with_blender(tmp_path, blender):
  images, masks, _ = blender
  data = tmp_path / "images.npz"
  np.savez(data, image=np.uint8(np.round((images + 1) * 127.5)), mask=masks)
  result = subprocess.run(
    [
      sys.executable,
      "-m",
      "experiments.blender.compare_with_blender",
      f"--data={data}",
      f"--scenes={DATA / 'scenes.json'}",
      f"--sheet={tmp_path / 'sheet.png'}",
    ],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  told = json.loads(result.stdout.splitlines()[-1])
  assert {"psnr_mean", "iou_mean", "pixel_error_mean"} <= set(told)
  assert told["num_scenes"] == 3
  # Both the paper's crop at 128x128 and the full frame.
  assert told["psnr_min"] >= 30.0
  assert told["psnr_mean"] <= min(told["psnr_128_mean"], told["psnr_full_mean"])
  assert told["iou_min"] >= 0.98
  assert told["pixel_error_max"] <= 1.0
  with Image.open(tmp_path / "sheet.png") as sheet:
    assert sheet.size == (4 * 320, 2 * 240)


# Against themselves.


@pytest.mark.thorough
def test_images_are_finite_and_consistent(small, many):
  assert small.image.shape == (NUM_RANDOM + 4, *SMALL, 3)
  assert np.isfinite(small.image).all()
  assert small.image.min() >= -1.0
  assert small.image.max() <= 1.0
  assert small.image.dtype == np.float32
  assert small.segmentation.dtype == small.visibility.dtype == np.int32
  for i in range(10):
    count = (small.segmentation == i + 1).sum(axis=(1, 2))
    np.testing.assert_array_equal(small.visibility[:, i], count)
  assert (small.segmentation.max(axis=(1, 2)) <= many.present.sum(1)).all()
  assert (small.visibility > 0)[many.present].mean() > 0.8


@pytest.mark.thorough
def test_empty_scene_shows_the_backdrop(small, full):
  for renderings in (small, full):
    np.testing.assert_array_equal(renderings.segmentation[-1], 0)
    np.testing.assert_array_equal(renderings.visibility[-1], 0)
    # Gray, and as smooth as a floor without shadows.
    assert np.ptp(renderings.image[-1], axis=-1).max() < 0.1
  steps = [np.abs(np.diff(full.image[-1], axis=a)).max() for a in (0, 1)]
  assert max(steps) < 0.03
  assert np.abs(np.diff(full.image[0], axis=0)).max() > 0.3


@pytest.mark.thorough
def test_single_image_equals_batched(small, many):
  view = view_lib.View()
  one = jax.jit(lambda s: render.render(s, SMALL, view))
  for n in (0, 5, NUM_RANDOM + 1):
    got = one(jax.tree.map(lambda x, n=n: x[n], many))
    np.testing.assert_array_equal(got.segmentation, small.segmentation[n])
    np.testing.assert_array_equal(got.visibility, small.visibility[n])
    np.testing.assert_allclose(got.image, small.image[n], atol=2e-3)


@pytest.mark.thorough
def test_edges_are_smooth(small, full):
  """An image is the mean of a finer one, also at edges."""
  h, w = SMALL
  expected = five_times_smaller(full.image[:3])
  parts = full.segmentation[:3].reshape(3, h, 5, w, 5)
  edge = parts.min(axis=(2, 4)) != parts.max(axis=(2, 4))
  got = small.image[NUM_RANDOM : NUM_RANDOM + 3]
  # Samples at the centers of pixels, as without antialiasing.
  rough = full.image[:3, 2::5, 2::5]
  smooth, plain = (psnr(x[edge], expected[edge]) for x in (got, rough))
  assert smooth > 24.0
  assert smooth > plain + 6.0


@pytest.mark.thorough
def test_crop_is_a_window_of_the_frame(known, full):
  # Pixels of the window are those of the frame.
  cropped = render_all(known, (192, 192), crop="paper")
  rows, columns = slice(29, 221), slice(64, 256)
  window = full.segmentation[:, rows, columns]
  # Sums in another order: a ray that grazes an edge may go either way.
  assert (cropped.segmentation != window).sum() <= 3
  difference = np.abs(cropped.image - full.image[:, rows, columns])
  # At the window's border, what lies across an edge may be out of sight.
  inner = difference[:, 1:-1, 1:-1]
  assert (inner > 0.02).mean() < 1e-4
  assert difference.mean() < 1e-3
  # Fewer pixels: the same window, three times as coarse.
  coarse = segmentations(known, (64, 64), FULL, "paper")
  assert (coarse != window[:, 1::3, 1::3]).sum() <= 3


@pytest.mark.thorough
def test_frames(known):
  # A frame of 320 x 480 is one of 360 x 480 without 20 rows on either side.
  wide = segmentations(known, (320, 480), (320, 480))
  tall = segmentations(known, (360, 480), (360, 480))
  assert wide[:3].any(axis=(1, 2)).all()
  assert (wide != tall[:, 20:340]).sum() <= 5
  # The literal crop is a window of the same pixels whatever the frame.
  literal = segmentations(known, (192, 192), (320, 480), "literal")
  assert (literal != wide[:, 29:221, 64:256]).sum() <= 3


@pytest.mark.thorough
def test_textures(small, many):
  seeds = np.arange(many.texture_seed.size, dtype=np.uint32)
  seeds = seeds.reshape(many.texture_seed.shape)
  textured = jax.jit(
    jax.vmap(lambda s: render.render(s, SMALL, view_lib.View(), textured=True))
  )
  first, again, other = (
    jax.device_get(textured(many.replace(texture_seed=s)))
    for s in (seeds, seeds, seeds + np.uint32(100_000))
  )
  for name in ("image", "segmentation", "visibility"):
    np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
  for a, b in ((first, small), (first, other)):
    np.testing.assert_array_equal(a.segmentation, b.segmentation)
    # Every image changes, on objects and on the backdrop.
    change = np.abs(a.image - b.image).max(axis=-1)
    for mask in (a.segmentation > 0, a.segmentation == 0):
      seen = mask.any(axis=(1, 2))
      mean = np.where(mask, change, 0.0).sum((1, 2)) / mask.sum((1, 2)).clip(1)
      assert (mean[seen] > 0.01).mean() > 0.95
  assert np.isfinite(first.image).all()
  assert np.abs(first.image).max() <= 1.0


@pytest.mark.parametrize(
  ("resolution", "view", "message"),
  [
    ((0, 4), view_lib.View(), r"at least \(1, 1\), got \(0, 4\)"),
    (
      (4, 4),
      view_lib.View(frame=(0, 320)),
      r"at least \(1, 1\), got \(0, 320\)",
    ),
    ((4, 4), view_lib.View(frame=(320, 40), crop="paper"), "320 x 40"),
    ((4, 4), view_lib.View(frame=(200, 320), crop="literal"), "200 x 320"),
  ],
)
def test_errors(known, resolution, view, message):
  s = jax.tree.map(lambda x: x[0], known)
  for function in (render.render, render.segment):
    with pytest.raises(ValueError, match=message):
      function(s, resolution, view)


# Annotations.


def test_scenes_of_annotations(blender):
  item = blender[2][1]
  s = annotations.parse_scene(item, 12)
  assert s.present.tolist() == [True] * 10 + [False] * 2
  labels = Clevr.layout
  for i, o in enumerate(item["objects"]):
    for name in ("size", "material", "shape", "color"):
      assert labels[name].labels[getattr(s, name)[i]] == o[name]
    np.testing.assert_array_equal(s.coords[i], np.float32(o["3d_coords"]))
    assert s.rotation[i] == np.float32(o["rotation"])
  np.testing.assert_allclose(s.radius[:10], s.coords[:10, 2], rtol=1e-6)
  np.testing.assert_array_equal(s.coords[10:], 0.0)
  np.testing.assert_array_equal(s.camera, np.float32(item["camera_location"]))
  lamps = item["lamp_locations"]
  for field, name in (
    ("key_light", "Lamp_Key"),
    ("fill_light", "Lamp_Fill"),
    ("back_light", "Lamp_Back"),
  ):
    np.testing.assert_array_equal(getattr(s, field), np.float32(lamps[name]))
  # The published annotations do not tell the jitter.
  bare = annotations.parse_scene({"objects": item["objects"]})
  np.testing.assert_array_equal(bare.camera, np.float32(scene.CAMERA))
  np.testing.assert_array_equal(bare.fill_light, np.float32(scene.FILL_LIGHT))


def test_errors_of_annotations(blender):
  item = blender[2][1]
  with pytest.raises(ValueError, match="at most 9 objects, got 10"):
    annotations.parse_scene(item, 9)
  wrong = dict(item["objects"][1], color="pink")
  with pytest.raises(ValueError, match=r"a color of .*'pink' for object 1"):
    annotations.parse_scene({"objects": [item["objects"][0], wrong]})
