"""Tests of the layouts that scenes are exported in."""

import types as python_types

import numpy as np
import pytest

from slot_attention_jax.data import procedural, types
from slot_attention_jax.data.export import scene_json, scene_tfrecord

CLEVR = types.CLEVR_LAYOUT


def family(name, max_objects=3, **attributes):
  return python_types.SimpleNamespace(
    name=name, max_objects=max_objects, **attributes
  )


def parse(record):
  """Feature name to its kind and list of values, by TFDS's messages."""
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example.FromString(record)
  out = {}
  for name, feature in example.features.feature.items():
    kind = feature.WhichOneof("kind")
    out[name] = (kind, list(getattr(feature, kind).value))
  return out


def scene(objects, size=(4, 6)):
  """An image whose column i shows object i, the first the background."""
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, size=(*size, 3), dtype=np.uint8)
  column = np.minimum(np.arange(size[1]), objects)
  return image, np.broadcast_to(column, size).astype(np.uint8)


def clevr_objects():
  return {
    "x": np.array([0.5, -1.5], np.float32),
    "y": np.array([0.25, 2.0], np.float32),
    "z": np.array([0.35, 0.7], np.float32),
    "pixel_coords": np.array([[10.4, 20, 9.5], [30, 40.6, 11]], np.float32),
    "rotation": np.array([30.0, 359.0], np.float32),
    "size": np.array([0, 1], np.int32),
    "material": np.array([1, 0], np.int32),
    "shape": np.array([2, 0], np.int32),
    "color": np.array([7, 3], np.int32),
  }


# The shapes that the readers of multi_object_datasets have built in.
@pytest.mark.parametrize(
  ("scenes", "reader", "resolution", "expected"),
  [
    (
      family("tetrominoes_scenes"),
      "tetrominoes",
      (35, 35),
      {
        "image": (35, 35, 3),
        "mask": (4, 35, 35, 1),
        "x": (4,),
        "y": (4,),
        "shape": (4,),
        "color": (4, 3),
        "visibility": (4,),
      },
    ),
    *(
      (
        family("multi_dsprites_scenes", e - 1, variant=variant),
        "multi_dsprites",
        (64, 64),
        {
          "image": (64, 64, c),
          "mask": (64, 64, e, 1),
          "x": (e,),
          "y": (e,),
          "shape": (e,),
          "color": (e, c),
          "visibility": (e,),
          "orientation": (e,),
          "scale": (e,),
        },
      )
      for variant, e, c in (
        ("binarized", 4, 1),
        ("colored_on_grayscale", 6, 3),
        ("colored_on_colored", 5, 3),
      )
    ),
    (
      family("clevr_scenes", 6),
      "clevr_with_masks",
      (240, 320),
      {
        "image": (240, 320, 3),
        "mask": (11, 240, 320, 1),
        "pixel_coords": (11, 3),
        **dict.fromkeys(
          ("x", "y", "z", "rotation", "size", "material", "shape"), (11,)
        ),
        "color": (11,),
        "visibility": (11,),
      },
    ),
  ],
)
def test_layouts_match_the_readers_shapes(scenes, reader, resolution, expected):
  layout = scene_tfrecord.get_layout(scenes)
  assert (layout.reader, layout.resolution) == (reader, resolution)
  assert layout.shapes(resolution) == expected


def test_more_objects_than_the_reader_s_extend_the_entities():
  layout = scene_tfrecord.get_layout(family("clevr_scenes", 14))
  assert layout.shapes((2, 2))["mask"] == (15, 2, 2, 1)


def test_tetrominoes_records(tfds):
  own = procedural.Tetrominoes()
  image, segmentation = scene(2)
  objects = {
    "x": np.array([1.5, 2.5], np.float32),
    "y": np.array([3.5, 4.5], np.float32),
    "shape": np.array([18, 4], np.int32),
    "color": np.array([[1, 0, 0], [0, 1, 1]], np.float32),
  }
  layout = scene_tfrecord.get_layout(own)
  record = scene_tfrecord.serialize(
    layout, image, segmentation, objects, own.layout
  )
  got = parse(record)
  assert set(got) == set(layout.shapes((4, 6)))
  for name, shape in layout.shapes((4, 6)).items():
    kind, values = got[name]
    assert len(values) == np.prod(shape), name
    assert kind == ("bytes" if name in ("image", "mask") else "float") + "_list"
  assert all(len(v) == 1 for v in got["mask"][1])
  pixels = np.frombuffer(b"".join(got["image"][1]), np.uint8)
  np.testing.assert_array_equal(pixels.reshape(4, 6, 3), image)
  masks = np.frombuffer(b"".join(got["mask"][1]), np.uint8).reshape(4, 4, 6)
  assert set(masks.ravel()) == {0, 255}
  np.testing.assert_array_equal(masks[0], np.where(segmentation == 0, 255, 0))
  np.testing.assert_array_equal(masks[2], np.where(segmentation == 2, 255, 0))
  assert not masks[3].any()
  assert got["visibility"][1] == [1, 1, 1, 0]
  assert got["x"][1] == [0, 1.5, 2.5, 0]
  assert got["shape"][1] == [0, 18, 4, 0]
  assert got["color"][1] == [0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0]
  again = scene_tfrecord.serialize(
    layout, image, segmentation, objects, own.layout
  )
  assert again == record


@pytest.mark.parametrize("variant", ["binarized", "colored_on_colored"])
def test_multi_dsprites_records(variant, tfds):
  layout = scene_tfrecord.get_layout(
    family("multi_dsprites_scenes", variant=variant)
  )
  image, segmentation = scene(3)
  names = ("x", "y", "shape", "orientation", "scale")
  objects = {name: np.arange(3, dtype=np.float32) for name in names}
  objects["color"] = np.array([[1, 0.5, 0.25]] * 3, np.float32)
  got = parse(
    scene_tfrecord.serialize(layout, image, segmentation, objects, CLEVR)
  )
  channels = layout.channels
  pixels = np.frombuffer(b"".join(got["image"][1]), np.uint8)
  np.testing.assert_array_equal(
    pixels.reshape(4, 6, channels), image[..., :channels]
  )
  masks = np.frombuffer(b"".join(got["mask"][1]), np.uint8)
  masks = masks.reshape(4, 6, layout.num_entities)
  np.testing.assert_array_equal(masks[..., 3] == 255, segmentation == 3)
  np.testing.assert_array_equal(masks.any(axis=-1), np.ones((4, 6), bool))
  colors = np.reshape(got["color"][1], (layout.num_entities, channels))
  np.testing.assert_array_equal(colors[3], [1, 0.5, 0.25][:channels])
  assert got["scale"][1][:4] == [0, 0, 1, 2]


def test_clevr_records(tfds):
  layout = scene_tfrecord.get_layout(family("clevr_scenes", 10))
  record = scene_tfrecord.serialize(layout, *scene(2), clevr_objects(), CLEVR)
  got = parse(record)
  assert set(got) == set(layout.shapes((4, 6)))
  # Ids count from 1; large comes before small.
  ids = {k: got[k][1][:4] for k in ("size", "material", "shape", "color")}
  assert ids == {
    "size": [b"\0", b"\2", b"\1", b"\0"],
    "material": [b"\0", b"\2", b"\1", b"\0"],
    # Cylinder and cube, cyan and yellow, in the order of the original.
    "shape": [b"\0", b"\2", b"\3", b"\0"],
    "color": [b"\0", b"\2", b"\10", b"\0"],
  }
  assert {got[k][0] for k in ids} == {"bytes_list"}
  assert got["visibility"][1] == [1, 1, 1] + [0] * 8
  np.testing.assert_allclose(
    np.reshape(got["pixel_coords"][1], (11, 3))[1:3],
    clevr_objects()["pixel_coords"],
  )
  np.testing.assert_allclose(got["z"][1][:3], [0, 0.35, 0.7], rtol=1e-6)


def test_a_scene_without_objects_is_all_background(tfds):
  layout = scene_tfrecord.get_layout(family("clevr_scenes", 10))
  objects = {k: v[:0] for k, v in clevr_objects().items()}
  record = scene_tfrecord.serialize(layout, *scene(0), objects, CLEVR)
  got = parse(record)
  assert got["visibility"][1] == [1] + [0] * 10
  assert b"".join(got["mask"][1][:24]) == b"\xff" * 24


def test_layouts_that_do_not_fit_are_errors(tfds):
  with pytest.raises(ValueError, match=r"'objects_room'.*Add its layout"):
    scene_tfrecord.get_layout(family("objects_room"))
  with pytest.raises(ValueError, match="Expected a variant of multi_dsprites"):
    scene_tfrecord.get_layout(family("multi_dsprites_scenes"))
  layout = scene_tfrecord.get_layout(family("clevr_scenes"))
  objects = clevr_objects()
  with pytest.raises(ValueError, match=r"described by \['rotation'\]"):
    scene_tfrecord.serialize(
      layout,
      *scene(2),
      {k: v for k, v in objects.items() if k != "rotation"},
      CLEVR,
    )
  with pytest.raises(ValueError, match=r"Expected pixel_coords \[O, 3\]"):
    scene_tfrecord.serialize(
      layout, *scene(2), objects | {"pixel_coords": objects["x"]}, CLEVR
    )
  with pytest.raises(ValueError, match="Expected up to 10 objects"):
    scene_tfrecord.serialize(layout, *scene(11, (4, 12)), objects, CLEVR)


def entry(objects, **extras):
  return scene_json.scene_entry(
    index=3,
    file_name="a_000003.png",
    split="test",
    objects=objects,
    extras=extras,
    properties=CLEVR,
  )


def test_clevr_entries():
  camera = np.array([7.5, -6.5, 5.25], np.float32)
  lamps = {"Lamp_Key": np.array([6.5, -3.0, 4.25], np.float32)}
  got = entry(clevr_objects(), camera_location=camera, lamp_locations=lamps)
  assert set(got) == {
    "image_index",
    "image_filename",
    "split",
    "objects",
    "directions",
    "relationships",
    "camera_location",
    "lamp_locations",
  }
  assert (got["image_index"], got["image_filename"]) == (3, "a_000003.png")
  first = got["objects"][0]
  place = first.pop("3d_coords")
  np.testing.assert_allclose(place, [0.5, 0.25, 0.35], rtol=1e-6)
  assert first == {
    "shape": "cylinder",
    "size": "small",
    "material": "metal",
    "color": "cyan",
    "rotation": 30.0,
    "pixel_coords": [10, 20, 9.5],
  }
  assert got["objects"][1]["pixel_coords"] == [30, 41, 11.0]
  assert got["camera_location"] == [7.5, -6.5, 5.25]
  assert got["lamp_locations"] == {"Lamp_Key": [6.5, -3.0, 4.25]}
  directions = got["directions"]
  assert set(directions) == {
    "left", "right", "front", "behind", "above", "below"
  }  # fmt: skip
  for a, b in (("left", "right"), ("front", "behind"), ("above", "below")):
    np.testing.assert_array_equal(directions[a], np.negative(directions[b]))
  # From (0.5, 0.25) to (-1.5, 2): left by 0.0, behind by 2.66.
  assert got["relationships"] == {
    "right": [[], []],
    "left": [[], []],
    "behind": [[1], []],
    "front": [[], [0]],
  }


def test_entries_of_other_families_keep_their_units():
  objects = {
    "x": np.array([4.5], np.float32),
    "y": np.array([7.0], np.float32),
    "shape": np.array([2], np.int32),
    "color": np.array([[1.0, 0.5, 0.0]], np.float32),
  }
  got = entry(objects)
  assert got["objects"] == [
    {"x": 4.5, "y": 7.0, "shape": "cylinder", "color": [1.0, 0.5, 0.0]}
  ]
  assert not {"directions", "relationships"} & set(got)


def test_ids_may_begin_at_1(tfds):
  layout = scene_tfrecord.get_layout(
    family("multi_dsprites_scenes", variant="binarized")
  )
  got = scene_json.scene_entry(
    index=0,
    file_name="a.png",
    split="test",
    objects={"shape": np.array([1, 3], np.int32)},
    extras={},
    properties=CLEVR,
    first_id=layout.first_id,
  )
  assert got["objects"] == [{"shape": "cube"}, {"shape": "cylinder"}]


def test_relationships_equal_the_definition():
  coords = np.random.default_rng(0).uniform(-3, 3, size=(7, 3))
  got = scene_json.relationships(coords, scene_json.DIRECTIONS)
  assert set(got) == {"left", "right", "front", "behind"}
  for name, lists in got.items():
    direction = scene_json.DIRECTIONS[name]
    for i, related in enumerate(lists):
      expected = []
      for j in range(7):
        along = sum(
          (coords[j][k] - coords[i][k]) * direction[k] for k in range(3)
        )
        if along > 0.2:
          expected.append(j)
      assert related == expected, (name, i)
  assert scene_json.relationships(np.zeros((0, 3)), {"left": (1, 0, 0)}) == {
    "left": []
  }
