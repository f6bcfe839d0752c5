"""Tests of the figures: panels, words, colors, matched objects."""

import jax
import numpy as np
import pytest

from slot_attention_jax import models
from slot_attention_jax.data import types
from slot_attention_jax.data.images import pixels
from slot_attention_jax.evaluation import (
  arrays,
  decomposition,
  draw,
  examples,
  figures,
  object_figure,
  palette,
)
from slot_attention_jax.tasks import object_discovery

LAYOUT = types.CLEVR_LAYOUT
# Machado et al., 2009, severity 1, on linear RGB.
VISION = {
  "normal": np.eye(3),
  "protanopia": [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  "deuteranopia": [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
  ],
}


def lab(rgb):
  """CIELAB of linear RGB [..., 3]."""
  to_xyz = [
    [0.4124, 0.3576, 0.1805],
    [0.2126, 0.7152, 0.0722],
    [0.0193, 0.1192, 0.9505],
  ]
  xyz = np.clip(rgb, 0, 1) @ np.transpose(to_xyz) / (0.9505, 1.0, 1.089)
  f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
  x, y, z = np.moveaxis(f, -1, 0)
  return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@pytest.mark.parametrize("vision", VISION)
def test_slots_have_colors_that_everyone_tells_apart(vision):
  c = palette.COLORS / 255
  linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
  seen = lab(linear @ np.transpose(VISION[vision]))
  distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
  # Colors differ visibly from a distance of about 2 on.
  assert distances[~np.eye(len(c), dtype=bool)].min() > 15


def output(b=2, k=3, t=2, size=(8, 12), grid=(2, 3)):
  """Slot i owns four columns; attention is that of the masks."""
  masks = np.zeros((b, k, *size, 1), np.float32)
  attention = np.zeros((b, t, k, *grid), np.float32)
  for i in range(k):
    masks[:, i, :, 4 * i : 4 * i + 4] = 1
    attention[:, :, i, :, i] = 1
  return models.AutoEncoderOutput(
    reconstruction=np.zeros((b, *size, 3)),
    images=np.ones((b, k, *size, 3)),
    masks=masks,
    slots=None,
    attention=attention.reshape(b, t, k, -1),
  )


def words(figure):
  return [text.get_text() for text in figure.axes[0].texts]


def test_a_decomposition_has_titles_truth_and_scores():
  true = np.zeros((2, 8, 12), int)
  true[:, :, 5:8] = 1  # In slot 2.
  figure = decomposition.figure(
    np.zeros((2, 8, 12, 3)),
    output(),
    (2, 3),
    segmentation=true,
    scores={"FG-ARI": np.array([0.25, 1.0])},
    title="data/split",
  )
  assert words(figure) == [
    *("image", "ground truth", "prediction", "reconstruction"),
    *("attention t = 1", "t = 2", "slot 1", "slot 2", "slot 3"),
    *("FG-ARI 0.25", "FG-ARI 1.00", "data/split"),
  ]
  painted = figures.to_array(figure).reshape(-1, 3)
  for color in palette.COLORS[:3]:
    assert (painted == color).all(axis=1).sum() > 1000


def test_true_objects_have_the_color_of_their_slot():
  slots = np.repeat([0, 1, 2], 4)[None].repeat(8, axis=0)
  true = np.zeros((8, 12), int)
  true[2:6, 3:8] = 5  # One column in slot 0, four in slot 1.
  painted = decomposition.true_colors(true, slots)
  np.testing.assert_array_equal(painted[3, 4], palette.COLORS[1])
  np.testing.assert_array_equal(painted[3, 3], palette.COLORS[1])
  assert (painted[0] == painted[0, 0, 0]).all()
  assert (painted[5, 3:8] != palette.COLORS[1]).any(axis=-1).all()  # Border.


def test_attention_of_every_iteration_is_drawn():
  out = output()
  maps = out.attention[0].reshape(2, 3, 2, 3)
  figure = decomposition.iterations_figure(
    maps,
    (8, 12),
    image=np.zeros((8, 12, 3)),
    slot_images=out.images[0],
    masks=out.masks[0, ..., 0],
  )
  assert words(figure)[-3:] == ["t = 1", "t = 2", "decoded"]
  assert words(figure)[:4] == ["all slots", "slot 1", "slot 2", "slot 3"]


def test_a_figure_is_saved_as_png_and_svg_the_same_each_time(tmp_path):
  panel = np.full((8, 8, 3), 50, np.uint8)
  files = []
  for name in ("a", "b"):
    column = figures.Column(title="a panel", panels=[panel])
    seen = figures.save(figures.grid([column]), tmp_path / name)
    stored = pixels.read_values(tmp_path / f"{name}.png")
    np.testing.assert_array_equal(stored, seen)
    files.append((tmp_path / f"{name}.svg").read_text())
  assert files[0] == files[1]
  assert ">a panel</text>" in files[0]
  # A panel of 8 pixels is enlarged by 14.
  assert (seen == 50).all(axis=-1).sum() == 112**2


def objects(*rows):
  """Property vectors of (x, shape, confidence)."""
  n = len(rows)
  values = {k: np.zeros(n, int) for k in ("size", "material", "color")}
  vectors = LAYOUT.encode(
    values
    | {
      "coords": np.array([[x, 0.0, 0.0] for x, _, _ in rows]),
      "shape": np.array([s for _, s, _ in rows]),
    },
    np.ones(n),
  )
  vectors[:, -1] = [c for _, _, c in rows]
  return vectors


def test_objects_are_matched_as_right_wrong_missed_and_invented():
  targets = objects((-2, 0, 1), (0, 1, 1), (2, 2, 1))
  targets = np.concatenate([targets, np.zeros((1, 19), np.float32)])
  predictions = objects((2, 2, 0.1), (0.5, 2, 0.9), (-2, 0, 0.8), (3, 0, 0.7))
  # Nothing like the last object.
  predictions[3, 3:18] = 1 - predictions[3, 3:18]
  right, wrong, missed, invented = object_figure.match(
    predictions, targets, LAYOUT
  )
  assert right.right
  assert (right.slot, wrong.slot, missed.slot, invented.slot) == (2, 1, None, 3)
  assert wrong.distance == pytest.approx(0.5, abs=1e-5)
  assert (wrong.predicted["shape"], wrong.true["shape"]) == (
    "cylinder",
    "sphere",
  )
  assert missed.confidence == pytest.approx(0.1)
  assert not invented.true
  assert not wrong.right


def test_fewer_slots_than_objects_miss_some():
  targets = objects((-2, 0, 1), (0, 1, 1), (2, 2, 1))
  found = object_figure.match(targets[:1], targets, LAYOUT)
  assert [pair.slot for pair in found] == [0, None, None]


@pytest.mark.parametrize("data", ["clevr_scenes", "mine"])
def test_predicted_objects_stand_beside_the_true_ones(data):
  targets = objects((-2, 0, 1), (2, 1, 1))
  predictions = objects((-2, 0, 0.9), (2, 2, 0.8))
  out = models.ClassifierOutput(
    predictions=predictions[None],
    slots=None,
    attention=np.full((1, 1, 2, 6), 0.5, np.float32),
  )
  figure = object_figure.figure(
    np.zeros((1, 8, 12, 3)),
    out,
    (2, 3),
    LAYOUT,
    targets=targets[None],
    data=data,
  )
  text = words(figure)
  assert "prediction: 1 of 2 right" in text
  assert any("cylinder" in t and "small" not in t for t in text)  # In red.
  rings, *crosses = (c.get_offsets() for c in figure.axes[0].collections[::2])
  assert len(rings) == 4  # Two in the image, two in the table.
  assert [len(c) for c in crosses] == ([2] if data == "clevr_scenes" else [])


def test_without_matplotlib_the_image_stands_in(tmp_path, monkeypatch):
  class Model:
    def feature_grid(self, size, num_inputs):
      return 2, 3

  task = object_discovery.ObjectDiscovery(
    model=Model(), image_shape=(8, 12, 3), num_slots=3, num_iterations=2,
    max_objects=1,
  )  # fmt: skip
  info = types.DatasetInfo("toys", "test", (8, 12, 3), 2)
  out = jax.tree.map(np.asarray, output())
  shown = examples.Shown(np.zeros((2, 8, 12, 3)), out, {})
  results = {"fg_ari": np.ones(5)}
  options = {"step": 3, "results": results}
  drawn = draw.figure(task, shown, info, **options)
  assert words(drawn)[-3:] == [
    "FG-ARI 1.00",
    "FG-ARI 1.00",
    "toys/test, step 3, K = 3, T = 2",
  ]
  monkeypatch.setattr(figures, "available", lambda: False)
  image = draw.write(tmp_path, "1", task, shown, info, **options)
  stored = pixels.read_values(tmp_path / "images" / "1.png")
  np.testing.assert_array_equal(stored, image)
  # The arrays of the figure are there without it.
  (kept,) = (tmp_path / "figures").iterdir()
  found = arrays.load(kept)
  np.testing.assert_array_equal(found["score_FG-ARI"], np.ones(2))
  np.testing.assert_array_equal(found["image"], np.full((2, 8, 12, 3), 128))
  np.testing.assert_array_equal(
    found["masks"], 255 * np.asarray(out.masks)[..., 0]
  )
  assert found["attention"].shape == (2, 2, 3, 2, 3)
