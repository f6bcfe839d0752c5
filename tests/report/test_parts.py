"""Tests of the parts of reports: markup, curves, groups, pictures."""

import base64
import io
import math

import numpy as np
import pytest

from slot_attention_jax.evaluation import arrays
from slot_attention_jax.report import (
  comparison,
  markup,
  page,
  pictures,
  runs,
  series,
)
from tests.report import made_up


def test_all_text_and_attributes_are_escaped():
  inner = markup.element("b", '"<&>"', title='"><i>')
  outer = markup.element("p", inner, ["<", None], hidden=True, id=None)
  assert outer == (
    '<p hidden><b title="&quot;&gt;&lt;i&gt;">&quot;&lt;&amp;&gt;&quot;</b>'
    "&lt;</p>"
  )
  assert "</" not in markup.embedded_json("</script>", "x")[40:-9]


def test_metrics_of_training_and_validation_share_charts():
  names = [f"d/validation/{m}" for m in ("ap_inf", "loss", "ap_1")]
  names += [f"d/train/{m}" for m in ("learning_rate", "loss")]
  titles = list(dict.fromkeys(series.chart_names(names).values()))
  assert titles == ["loss", "ap_inf", "ap_1", "learning_rate"]
  titles = series.chart_names(["d/train/loss", "d/test/mse", "d/test/ari"])
  assert titles["d/train/loss"] == titles["d/test/mse"] == "loss and mse"
  assert titles["d/test/ari"] == "ari"


def test_long_curves_keep_their_ends_and_extremes():
  values = np.sin(np.arange(10_000) / 100)
  values[4321] = 7.0
  points = [(i, None, float(v)) for i, v in enumerate(values)]
  points[5] = (5, None, math.nan)
  curve = series.Curve(
    metric="d/train/x",
    names=("", "train", "x", "d"),
    color=0,
    dash=0,
    points=points,
  )
  ((chart,),) = [series.charts([curve])]
  kept = chart["curves"][0]["points"]
  assert len(kept) <= 1502
  assert kept[0][0] == 0
  assert kept[-1][0] == 9999
  assert [4321, None, 7.0, None] in kept
  steps = [p[0] for p in kept]
  assert steps == sorted(steps)


def test_the_best_point_follows_the_direction_of_the_metric():
  points = [(1, None, 3.0), (2, None, 1.0), (3, None, math.nan)]
  assert series.best("d/v/mse", points) == points[1]
  assert series.best("d/v/fg_ari", points) == points[0]
  assert series.best("d/v/slots_in_use", points) is None
  assert series.best("d/v/mse", points[2:]) is None


def read(path, **options):
  return runs.read(made_up.make(path, **options), path.name)


def test_runs_are_averaged_if_they_differ_by_the_seed_alone(tmp_path):
  found = [
    read(tmp_path / "a"),
    read(tmp_path / "b", seed=1, logging__every_steps=7),
    read(tmp_path / "c", seed=2, model__slot_size=8),
    read(tmp_path / "d", seed=3, about={"data": "others"}),
    read(tmp_path / "e"),  # The seed of a: the same numbers again.
  ]
  assert [g.numbers for g in comparison.groups(found)] == [
    (0, 1),
    (2,),
    (3,),
    (4,),
  ]


def test_only_what_differs_is_listed(tmp_path):
  found = [
    read(tmp_path / "a"),
    read(tmp_path / "b", model__slot_size=8, about={"code": "1, commit f"}),
  ]
  assert comparison.differing_keys(found) == [
    ("model.slot_size", ["64", "8"]),
    ("code", ["-", "1, commit f"]),
  ]


def test_means_have_standard_errors_at_common_steps():
  members = [
    [(1, 1.0, 1.0), (2, 2.0, 3.0)],
    [(2, 4.0, 5.0), (3, 6.0, 9.0)],
  ]
  assert comparison.mean_curve(members) == ([(2, 3.0, 4.0)], [1.0])
  assert comparison.mean_curve(members[:1]) == (members[0], [])


def pixels(uri):
  from PIL import Image

  content = base64.b64decode(uri.partition(",")[2])
  return np.asarray(Image.open(io.BytesIO(content)))


def test_the_viewer_has_the_pixels_of_each_evaluation_once(tmp_path):
  run = read(tmp_path / "run")
  found = made_up.arrays()
  for step in (2, 4):
    arrays.save(run.path / "figures" / f"{step:08d}.npz", found)
  notes = []
  viewer = pictures.viewer(run, notes)
  assert not notes
  assert len(viewer["pictures"]) == len(set(viewer["pictures"]))
  first, second = viewer["entries"]
  assert first["images"] == second["images"]
  assert (first["slots"], first["iterations"], first["grid"]) == (3, 2, [2, 3])
  image = first["images"][1]
  assert image["scores"] == {"FG-ARI": 0.75}
  shown = {
    name: pixels(viewer["pictures"][image[name]])
    for name in ("image", "masks", "attention", "segmentation")
  }
  np.testing.assert_array_equal(shown["image"], found["image"][1])
  np.testing.assert_array_equal(shown["segmentation"], found["segmentation"][1])
  tiles = shown["masks"].reshape(3, 8, 12)
  np.testing.assert_array_equal(tiles, found["masks"][1])
  tiles = shown["attention"].reshape(2, 3, 2, 3)
  np.testing.assert_array_equal(tiles, found["attention"][1])


def test_the_viewer_has_the_objects_beside_the_true_ones(tmp_path):
  run = read(tmp_path / "run", about={"data": "clevr_scenes"})
  arrays.save(run.path / "figures" / "2.npz", made_up.object_arrays())
  ((image,),) = [pictures.viewer(run, [])["entries"][0]["images"]]
  objects = image["objects"]
  right, missed = objects["rows"]
  assert right["slot"] == 1
  assert right["predicted"] == right["true"]
  assert right["distance"] == 0
  assert (missed["slot"], missed["place"]) == (None, None)
  assert len(objects["crosses"]) == 2
  # Predicted where the true one is.
  assert right["place"] == objects["crosses"][0]


def test_arrays_that_do_not_belong_together_are_left_out(tmp_path):
  run = read(tmp_path / "run")
  found = made_up.arrays() | {"masks": np.zeros((2, 3, 8, 11), np.uint8)}
  arrays.save(run.path / "figures" / "2.npz", found)
  notes = []
  assert pictures.viewer(run, notes) is None
  assert "Expected masks of shape (2, 3, 8, 12)" in notes[0]


@pytest.mark.parametrize("budget", [0, 25, 1000])
def test_first_and_last_are_kept_within_the_budget(budget):
  kept = pictures.thin([10] * 9, budget)
  assert kept == {0: [8], 25: [0, 8], 1000: list(range(9))}[budget]


def test_lines_stand_out_from_both_backgrounds():
  for background in ((255, 255, 255), (24, 27, 33)):
    colors = page.line_colors(background)
    assert len(set(colors)) == len(colors) >= 6
  assert "#f0e442" not in page.line_colors((255, 255, 255))
