"""Compares the CLEVR renderer with Blender's images of the same scenes.

Each scene is rendered from its list of objects, its camera and its lamps.
Prints a table, then one line of JSON; its `psnr_mean` is the lower of two means
(at 128x128 with the paper's crop, and of the full frame).

  python -m experiments.blender.compare_with_blender --data=IMAGES.npz \
    --scenes=SCENES.json [--limit=N] [--sheet=SHEET.png]

IMAGES.npz holds `image` [N, H, W, 3] uint8 and `mask` [N, H, W] uint8 (0
background, i for object i of the scene). SCENES.json is a list of N CLEVR scene
dictionaries with `camera_location` and `lamp_locations`.
"""

import json

import jax
import numpy as np
from absl import app, flags

from slot_attention_jax.data import transforms
from slot_attention_jax.data.procedural.clevr import (
  annotations,
  render,
  scene,
  view,
)

_DATA = flags.DEFINE_string("data", None, "Images and masks.", required=True)
_SCENES = flags.DEFINE_string("scenes", None, "Their scenes.", required=True)
_LIMIT = flags.DEFINE_integer("limit", 0, "Number of scenes; 0: all.")
_SKIP = flags.DEFINE_integer("skip", 0, "Number of scenes to skip.")
_SHEET = flags.DEFINE_string(
  "sheet", "", "Contact sheet to write (PNG); empty: none."
)
_SHEET_SCENES = flags.DEFINE_integer("sheet_scenes", 8, "Scenes on the sheet.")
_CROPPED = (128, 128)


def _psnr(image: np.ndarray, reference: np.ndarray) -> float:
  """Peak signal-to-noise ratio in dB of images with a range of 255."""
  square = np.square(image.astype(np.float64) - reference).mean()
  return float(10.0 * np.log10(255.0**2 / max(square, 1e-12)))


def _gray_levels(image: np.ndarray) -> np.ndarray:
  """Converts an image in [-1, 1] to uint8."""
  return np.round(np.clip(image + 1.0, 0.0, 2.0) * 127.5).astype(np.uint8)


def _ious(
  segmentation: np.ndarray, mask: np.ndarray, count: int
) -> list[float]:
  """IoU of each object that is visible in at least one of the two images."""
  ious = []
  for i in range(1, count + 1):
    ours, theirs = segmentation == i, mask == i
    union = (ours | theirs).sum()
    if union:
      ious.append(float((ours & theirs).sum() / union))
  return ious


def _read():
  """Reads images, masks and scenes; checks that there are equally many."""
  with np.load(_DATA.value) as data:
    missing = {"image", "mask"} - set(data)
    if missing:
      raise ValueError(
        f"Expected arrays image and mask in {_DATA.value}, missing: {missing}."
      )
    images, masks = data["image"], data["mask"]
  with open(_SCENES.value) as file:
    items = json.load(file)
  items = items["scenes"] if isinstance(items, dict) else items
  if not len(images) == len(masks) == len(items):
    raise ValueError(
      "Expected equally many images, masks and scenes, got "
      f"{len(images)}, {len(masks)} and {len(items)}."
    )
  first, limit = _SKIP.value, _LIMIT.value
  if limit < 0 or not 0 <= first < len(items):
    raise ValueError(
      f"Expected --limit of at least 0 and --skip in [0, {len(items)}), the "
      f"number of scenes, got {limit} and {first}."
    )
  chosen = slice(first, first + limit if limit else None)
  return images[chosen], masks[chosen], items[chosen]


def _row(name: str, values: list[float], worst, digits: int) -> str:
  mean, extreme = np.mean(values), worst(values)
  return f"| {name} | {mean:.{digits}f} | {extreme:.{digits}f} |"


def main(argv):
  """Prints the table and the line of JSON, and writes the sheet."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  images, masks, items = _read()
  size = images.shape[1], images.shape[2]
  full, crop = view.View(frame=size), view.View(frame=size, crop="paper")
  most = max(10, *(len(item["objects"]) for item in items))
  render_both = jax.jit(
    lambda s: (
      render.render(s, size, full),
      render.render(s, _CROPPED, crop).image,
    )
  )
  psnr_full, psnr_crop, ious, pixels, rows = [], [], [], [], []
  for image, mask, item in zip(images, masks, items, strict=True):
    s = annotations.parse_scene(item, most)
    rendering, small = jax.device_get(render_both(s))
    ours = _gray_levels(rendering.image)
    psnr_full.append(_psnr(ours, image))
    cropped = transforms.preprocess_image(image, _CROPPED, "paper")
    cropped = (
      _gray_levels(np.asarray(cropped, np.float32))
      if (np.issubdtype(cropped.dtype, np.floating))
      else cropped
    )
    psnr_crop.append(_psnr(_gray_levels(small), cropped))
    count = len(item["objects"])
    ious += _ious(rendering.segmentation, mask, count)
    if count:
      where = scene.project(s.camera, s.coords[:count], size)
      told = np.array([o["pixel_coords"] for o in item["objects"]])
      offset = np.asarray(where)[:, :2] - told[:, :2]
      pixels += np.hypot(offset[:, 0], offset[:, 1]).tolist()
    if len(rows) < _SHEET_SCENES.value:
      rows.append((image, ours))
  print(f"{len(items)} scenes of {_SCENES.value}, {jax.default_backend()}")
  print("| measure | mean | worst |")
  print("|---|---|---|")
  print(_row("PSNR at 128x128, the paper's crop (dB)", psnr_crop, min, 2))
  print(
    _row(f"PSNR at {size[0]}x{size[1]}, full frame (dB)", psnr_full, min, 2)
  )
  print(_row("instance mask IoU", ious, min, 4))
  print(_row("pixel coordinates, error in pixels", pixels, max, 3))
  if _SHEET.value:
    _draw_sheet(rows)
  means = {
    "psnr_mean": min(np.mean(psnr_crop), np.mean(psnr_full)),
    "iou_mean": np.mean(ious),
    "pixel_error_mean": np.mean(pixels),
    "psnr_128_mean": np.mean(psnr_crop),
    "psnr_full_mean": np.mean(psnr_full),
    "psnr_min": min(*psnr_crop, *psnr_full),
    "iou_min": min(ious),
    "pixel_error_max": max(pixels),
    "num_scenes": len(items),
  }
  print(json.dumps({k: round(float(v), 4) for k, v in means.items()}))


def _draw_sheet(rows):
  """Writes pairs of images, Blender's left and ours right, two pairs a row."""
  from PIL import Image

  pairs = [np.concatenate(pair, axis=1) for pair in rows]
  if len(pairs) % 2:
    pairs.append(np.zeros_like(pairs[0]))
  lines = [np.concatenate(pairs[i : i + 2], 1) for i in range(0, len(pairs), 2)]
  Image.fromarray(np.concatenate(lines)).save(_SHEET.value, optimize=True)


if __name__ == "__main__":
  app.run(main)
