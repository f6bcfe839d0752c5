"""The family of CLEVR scenes: targets, descriptions, variants and errors."""

import jax
import numpy as np
import pytest

from slot_attention_jax.data.procedural.clevr import Clevr, render
from slot_attention_jax.data.procedural.clevr import view as view_lib

NUM_SCENES = 48
RESOLUTION = (120, 160)


@pytest.fixture(scope="module")
def many():
  """Scenes of plain CLEVR with targets, descriptions and segmentations."""
  family = Clevr()

  @jax.jit
  @jax.vmap
  def make(key):
    s = family.sample(key)
    return (
      s,
      family.targets(s),
      family.describe(s, RESOLUTION),
      render.segment(s, RESOLUTION, view_lib.View()),
    )

  keys = jax.random.split(jax.random.key(2), NUM_SCENES)
  return jax.device_get(make(keys))


def draw(family, num):
  keys = jax.random.split(jax.random.key(3), num)
  return jax.device_get(jax.jit(jax.vmap(family.sample))(keys))


@pytest.fixture(scope="module")
def placed(crowds):
  """Scenes that are not sampled, with targets and descriptions."""
  present = crowds.present
  names = ("coords", "rotation", "size", "material", "shape", "color")
  values = {name: getattr(crowds, name) for name in names}
  scene = crowds.replace(
    **{
      name: np.where(present[..., None] if x.ndim == 3 else present, x, 0)
      for name, x in values.items()
    }
  )
  make = jax.vmap(
    lambda s: (Clevr().targets(s), Clevr().describe(s, RESOLUTION))
  )
  return scene, *jax.device_get(jax.jit(make)(scene))


@pytest.fixture(
  params=["placed", pytest.param("many", marks=pytest.mark.thorough)]
)
def told_of(request):
  """(scene, targets, description)."""
  return request.getfixturevalue(request.param)[:3]


def test_targets_describe_the_scene(told_of):
  scene, targets, _ = told_of
  layout = Clevr.layout
  present = scene.present
  assert targets.shape == (len(present), 10, layout.size)
  assert targets.dtype == np.float32
  np.testing.assert_array_equal(targets[~present], 0.0)
  values = layout.decode(targets)
  np.testing.assert_array_equal(values["confidence"].squeeze(), present)
  for name in ("size", "material", "shape", "color"):
    expected = getattr(scene, name)
    np.testing.assert_array_equal(values[name][present], expected[present])
  np.testing.assert_allclose(
    values["coords"][present], scene.coords[present], atol=1e-5
  )
  assert targets.min() >= 0.0
  assert targets.max() <= 1.0


def test_descriptions_match_the_scene(told_of):
  scene, _, told = told_of
  present = scene.present
  np.testing.assert_array_equal(told["present"], present)
  for i, name in enumerate("xyz"):
    np.testing.assert_array_equal(told[name], scene.coords[..., i])
  for name in ("rotation", "size", "material", "shape", "color"):
    np.testing.assert_array_equal(told[name], getattr(scene, name))
  for name, value in told.items():
    np.testing.assert_array_equal(value[~present], 0, err_msg=name)
  assert set(told) == {
    *("present", "x", "y", "z", "pixel_coords", "rotation"),
    *("size", "material", "shape", "color"),
  }


@pytest.mark.thorough
def test_pixel_coordinates_lie_in_the_masks(many):
  scene, _, told, segmentation = many
  at = np.floor(told["pixel_coords"][..., :2]).astype(int)
  depth = told["pixel_coords"][..., 2]
  checked = 0
  for n, i in np.argwhere(scene.present):
    column, row = at[n, i]
    if not (0 <= column < RESOLUTION[1] and 0 <= row < RESOLUTION[0]):
      continue
    number = segmentation[n, row, column]
    # The ray to an object's center meets the object, or one that is nearer.
    assert number > 0
    if number != i + 1:
      assert depth[n, number - 1] < depth[n, i]
    checked += number == i + 1
  assert checked > 0.8 * scene.present.sum()


@pytest.mark.thorough
@pytest.mark.parametrize(
  ("frame", "crop", "window"),
  [
    ((240, 320), "paper", (29, 221, 64, 256)),
    ((320, 480), "paper", (39, 295, 112, 368)),
    ((320, 480), "literal", (29, 221, 64, 256)),
    ((320, 480), None, (0, 320, 0, 480)),
  ],
)
def test_pixel_coordinates_of_crops(many, frame, crop, window):
  scene = jax.tree.map(lambda x: x[0], many[0])
  present = scene.present
  whole = np.asarray(Clevr(frame=frame).describe(scene, frame)["pixel_coords"])
  resolution = (96, 128)
  told = Clevr(frame=frame, crop=crop).describe(scene, resolution)
  got = np.asarray(told["pixel_coords"])
  top, bottom, left, right = window
  expected = (whole[:, 0] - left) * resolution[1] / (right - left)
  np.testing.assert_allclose(got[present, 0], expected[present], atol=1e-3)
  expected = (whole[:, 1] - top) * resolution[0] / (bottom - top)
  np.testing.assert_allclose(got[present, 1], expected[present], atol=1e-3)
  np.testing.assert_array_equal(got[:, 2], whole[:, 2])
  np.testing.assert_array_equal(got[~present], 0.0)


def test_extras(crowds):
  scene = jax.tree.map(lambda x: x[0], crowds)
  extras = Clevr().extras(scene)
  np.testing.assert_array_equal(extras["camera_location"], scene.camera)
  lamps = extras["lamp_locations"]
  assert set(lamps) == {"Lamp_Key", "Lamp_Fill", "Lamp_Back"}
  np.testing.assert_array_equal(lamps["Lamp_Key"], scene.key_light)
  np.testing.assert_array_equal(lamps["Lamp_Fill"], scene.fill_light)
  np.testing.assert_array_equal(lamps["Lamp_Back"], scene.back_light)


@pytest.mark.parametrize(
  ("options", "name", "max_objects"),
  [
    ({}, "clevr_scenes", 10),
    ({"frame": (320, 480), "crop": "paper"}, "clevr_scenes", 10),
    ({"num_objects": (3, 6)}, "clevr_scenes_3_to_6", 10),
    ({"num_objects": (11, 16)}, "clevr_scenes_11_to_16", 16),
    ({"textured": True}, "clevr_scenes_textured", 10),
    ({"held_out": "cogent_b"}, "clevr_scenes_cogent_b", 10),
    (
      {"num_objects": (1, 2), "textured": True, "held_out": "cogent_a"},
      "clevr_scenes_1_to_2_textured_cogent_a",
      10,
    ),
  ],
)
def test_names(options, name, max_objects):
  family = Clevr(**options)
  assert family.name == name
  assert family.max_objects == max_objects
  # Families stand for themselves in caches of compiled functions.
  assert hash(family) == hash(Clevr(**options))


@pytest.mark.thorough
def test_numbers_of_objects(many):
  most = draw(Clevr(num_objects=(16, 16)), 50)
  for scene, numbers, rows in ((many[0], range(3, 11), 10), (most, [16], 16)):
    assert scene.present.shape[1] == rows
    number = scene.present.sum(axis=1)
    np.testing.assert_array_equal(np.unique(number), numbers)
    # Objects come first.
    first = np.arange(rows)[None] < number[:, None]
    np.testing.assert_array_equal(scene.present, first)


@pytest.mark.thorough
def test_held_out_combinations():
  layout = Clevr.layout
  first = {"gray", "blue", "brown", "yellow"}
  second = {"red", "green", "purple", "cyan"}
  colors = {
    "cogent_a": {"cube": first, "cylinder": second, "sphere": first | second},
    "cogent_b": {"cube": second, "cylinder": first, "sphere": first | second},
  }
  for held_out, expected in colors.items():
    scene = draw(Clevr(num_objects=(3, 6), held_out=held_out), 400)
    got = {shape: set() for shape in expected}
    pairs = zip(
      scene.shape[scene.present], scene.color[scene.present], strict=True
    )
    for shape, color in pairs:
      shape = layout["shape"].labels[shape]
      got[shape].add(layout["color"].labels[color])
    assert got == expected, held_out


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"num_objects": (0, 3)}, r"<= 16, got \(0, 3\)"),
    ({"num_objects": (5, 4)}, r"1 <= lo <= hi.*got \(5, 4\)"),
    ({"num_objects": (3, 17)}, r"<= 16, got \(3, 17\)"),
    ({"held_out": "cogent_c"}, r"one of \('cogent_a'.*got 'cogent_c'"),
    ({"crop": "center"}, "'paper', 'literal' or None, got 'center'"),
    ({"frame": (200, 320), "crop": "literal"}, "200 x 320"),
    ({"frame": (0, 320)}, r"at least \(1, 1\), got \(0, 320\)"),
  ],
)
def test_errors(options, message):
  with pytest.raises(ValueError, match=message):
    Clevr(**options)


def test_errors_of_resolutions(crowds):
  scene = jax.tree.map(lambda x: x[0], crowds)
  for function in (Clevr().render, Clevr().describe):
    with pytest.raises(ValueError, match=r"at least \(1, 1\), got \(8, 0\)"):
      function(scene, (8, 0))
