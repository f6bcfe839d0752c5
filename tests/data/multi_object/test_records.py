"""Records of multi_object_datasets: layouts and errors."""

import numpy as np
import pytest

from slot_attention_jax.data import tfrecord
from slot_attention_jax.data.multi_object import layouts
from slot_attention_jax.data.multi_object import records as records_lib
from tests.data.multi_object import masks_files

pytestmark = pytest.mark.usefixtures("tfds")

CLEVR = layouts.get_layout("clevr_with_masks")


@pytest.fixture(scope="module")
def clevr():
  with masks_files.CLEVR.open("rb") as file:
    return list(tfrecord.read_records(file, "file"))


def test_records_equal_a_full_parse_of_the_message(clevr):
  """The fast way gives what TFDS's own parser gives."""
  from tensorflow_datasets.proto import tf_example_pb2

  for record in clevr:
    got = records_lib.parse_record(record, CLEVR, "here")
    example = tf_example_pb2.Example.FromString(record)
    feature = example.features.feature

    def pixels(name, shape, feature=feature):
      strings = feature[name].bytes_list.value
      return np.frombuffer(b"".join(strings), np.uint8).reshape(shape)

    np.testing.assert_array_equal(got["image"], pixels("image", (240, 320, 3)))
    masks = pixels("mask", (11, 240, 320))
    np.testing.assert_array_equal(got["segmentation"], masks.argmax(axis=0))
    np.testing.assert_array_equal(
      got["visibility"], np.array(feature["visibility"].float_list.value) == 1
    )
    np.testing.assert_array_equal(got["objects"]["color"], pixels("color", 11))
    np.testing.assert_array_equal(
      got["objects"]["x"], np.float32(feature["x"].float_list.value)
    )
    assert (got["unmasked"], got["overlapping"]) == (0, 0)


# By the palette of CLEVR; the images are darker.
PALETTE = {
  "gray": (87, 87, 87),
  "red": (173, 35, 35),
  "blue": (42, 75, 215),
  "green": (29, 105, 20),
  "brown": (129, 74, 25),
  "purple": (129, 38, 192),
  "cyan": (41, 208, 208),
  "yellow": (255, 238, 51),
}


def test_ids_of_colors_and_sizes_are_those_of_the_images(clevr):
  """The labels of the layout, against the pixels under the masks."""
  checked = set()
  for record in clevr:
    scene = records_lib.parse_record(record, CLEVR, "here")
    objects = scene["objects"]
    for i in np.flatnonzero(scene["visibility"])[1:]:
      pixels = scene["image"][scene["segmentation"] == i]
      size = CLEVR.ids["size"][objects["size"][i] - 1]
      assert objects["z"][i] == pytest.approx(
        {"small": 0.35, "large": 0.7}[size], abs=1e-4
      )
      if len(pixels) < 400:
        continue  # The neighbors' light is too much of it.
      color = np.median(pixels, axis=0) - pixels.mean()
      label = CLEVR.ids["color"][objects["color"][i] - 1]

      def distance(name, color=color):
        other = np.array(PALETTE[name], float)
        other = (other - other.mean()) / 4
        return np.linalg.norm(color / 2 - other)

      nearest = sorted(PALETTE, key=distance)[:2]
      assert label in nearest, (label, nearest)
      checked.add(label)
  assert len(checked) >= 4


def test_ids_of_materials_and_shapes_are_those_of_the_images(clevr):
  """Metal has highlights; spheres look as high as wide, and fill a disc.

  Which of the others is the cylinder and which the cube was checked by eye.
  """
  highlights, spheres, others = {"rubber": [], "metal": []}, [], []
  for record in clevr:
    scene = records_lib.parse_record(record, CLEVR, "here")
    objects = scene["objects"]
    for i in np.flatnonzero(scene["visibility"])[1:]:
      inside = scene["segmentation"] == i
      rows, columns = np.nonzero(inside)
      if len(rows) < 200:
        continue
      light = scene["image"][inside].max(axis=-1)
      material = CLEVR.ids["material"][objects["material"][i] - 1]
      highlights[material].append(np.percentile(light, 99.5) - np.median(light))
      height, width = 1 + np.ptp(rows), 1 + np.ptp(columns)
      shape = CLEVR.ids["shape"][objects["shape"][i] - 1]
      group = spheres if shape == "sphere" else others
      group.append((height / width, len(rows) / (height * width)))
  rubber = np.median(highlights["rubber"])
  assert np.median(highlights["metal"]) > 2 * rubber > 0
  np.testing.assert_allclose(
    spheres, np.tile([1.0, np.pi / 4], (2, 1)), atol=0.06
  )
  aspects, fills = np.mean(others, axis=0)
  assert (aspects > 1.1, fills > 0.83) == (True, True)


def test_damaged_messages_are_errors_or_read():
  """Those whose checksum is right, so that nothing else holds them up."""
  rng = np.random.default_rng(0)
  outcomes = {"error": 0, "read": 0}
  for name in ("tetrominoes", "objects_room"):
    layout = layouts.get_layout(name)
    arrays, _ = masks_files.scene(layout, rng, 2)
    record = masks_files.serialize(arrays)
    heads = [record.find(key.encode()) for key in arrays]
    for trial in range(300):
      at = int(rng.integers(len(record)))
      if trial % 2:  # Where lengths and types of a feature are.
        at = max(0, int(rng.choice(heads) + rng.integers(-8, 16)))
      damaged = bytearray(record)
      if trial % 3 == 0:
        del damaged[at:]
      elif trial % 3 == 1:
        del damaged[at : at + int(rng.integers(1, 5))]
      else:
        damaged[at] ^= int(rng.integers(1, 256))
      try:
        records_lib.parse_record(bytes(damaged), layout, "here")
        outcomes["read"] += 1
      except ValueError:
        outcomes["error"] += 1
  assert outcomes["error"] > 400, outcomes
  assert outcomes["read"] > 20, outcomes  # Pixels of another color.


@pytest.mark.parametrize(
  ("name", "variant"),
  [
    (name, variant)
    for name, variants in layouts.LAYOUTS.items()
    for variant in variants
    if name != "clevr_with_masks"
  ],
)
def test_every_layout_is_read_as_it_was_written(name, variant):
  layout = layouts.get_layout(name, variant)
  room = layout.num_entities - layout.background_parts
  arrays, ids = masks_files.scene(layout, np.random.default_rng(0), room)
  record = masks_files.serialize(arrays)
  got = records_lib.parse_record(record, layout, "here")
  np.testing.assert_array_equal(got["segmentation"], ids)
  image = np.broadcast_to(arrays["image"], (*layout.resolution, 3))
  np.testing.assert_array_equal(got["image"], image)
  assert set(np.flatnonzero(got["visibility"])) >= set(np.unique(ids))
  for key in layout.floats:
    np.testing.assert_array_equal(got["objects"][key], arrays[key])


def test_pixels_in_no_mask_and_in_several_are_counted():
  layout = layouts.get_layout("tetrominoes")
  arrays, _ = masks_files.scene(layout, np.random.default_rng(0), 2)
  arrays["mask"][:, 0, :5] = 0
  arrays["mask"][1:3, 34, :7] = 255
  got = records_lib.parse_record(masks_files.serialize(arrays), layout, "here")
  assert got["unmasked"] == 5
  assert got["overlapping"] == 7
  assert (got["segmentation"][0, :5] == 0).all()


def test_a_record_of_another_layout_says_of_which(clevr):
  layout = layouts.get_layout("multi_dsprites", "binarized")
  arrays, _ = masks_files.scene(
    layouts.get_layout("multi_dsprites", "colored_on_colored"),
    np.random.default_rng(0),
    2,
  )
  record = masks_files.serialize(arrays)
  with pytest.raises(
    ValueError,
    match=r"record 3 of x .*4096 values.*got 12288.*It fits "
    r"--name=multi_dsprites --variant=colored_on_colored\.",
  ):
    records_lib.parse_record(record, layout, "record 3 of x")
  del arrays["mask"]
  with pytest.raises(ValueError, match=r"It fits no known dataset"):
    records_lib.parse_record(masks_files.serialize(arrays), layout, "here")
  with pytest.raises(ValueError, match=r"--name=clevr_with_masks\."):
    records_lib.parse_record(clevr[0], layout, "here")


def test_ids_out_of_range_and_other_messages_are_errors(clevr):
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example.FromString(clevr[0])
  example.features.feature["color"].bytes_list.value[2] = b"\x09"
  with pytest.raises(
    ValueError, match=r"color from 1 to 8 in here, got \[7, 9"
  ):
    records_lib.parse_record(example.SerializeToString(), CLEVR, "here")
  # A string of two bytes and one of none are as long as two of one.
  values = example.features.feature["image"].bytes_list.value
  values[0], values[1] = b"ab", b""
  with pytest.raises(ValueError, match="feature 'image'"):
    records_lib.parse_record(example.SerializeToString(), CLEVR, "here")
  with pytest.raises(ValueError, match=r"a tf\.train\.Example in here"):
    records_lib.parse_record(b"\x0a\xff", CLEVR, "here")
