"""Small files in the layouts of multi_object_datasets, for several tests."""

import gzip
import pathlib

import numpy as np

from slot_attention_jax.data import tfrecord
from slot_attention_jax.data.multi_object import layouts

CLEVR = (
  pathlib.Path(__file__).parents[2]
  / "testdata/multi_object/clevr_with_masks_train.tfrecords"
)
CLEVR_OBJECTS = [7, 5, 3]


def scene(layout, rng, num_objects):
  """A scene of a layout: the arrays of a record, under their names."""
  h, w = layout.resolution
  e, parts = layout.num_entities, layout.background_parts
  ids = np.zeros((h, w), np.uint8)
  for i in range(1, parts):
    ids[:, i * w // parts :] = i
  for i in range(num_objects):
    top, left = rng.integers(0, h - 6), rng.integers(0, w - 6)
    ids[top : top + 6, left : left + 6] = parts + i
  image = rng.integers(0, 256, (h, w, layout.channels), np.uint8)
  masks = np.where(ids == np.arange(e)[:, None, None], 255, 0).astype(np.uint8)
  order = (0, 1, 2) if layout.entities_first else (1, 2, 0)
  arrays = {"image": image, "mask": masks.transpose(order)[..., None]}
  if layout.has_visibility:
    arrays["visibility"] = (np.arange(e) < parts + num_objects).astype("f4")
  for name, shape in layout.shapes((h, w)).items():
    if name in layout.floats:
      arrays[name] = rng.standard_normal(shape).astype("f4")
  return arrays, ids


def serialize(arrays):
  """A `tf.train.Example` as the original writer makes it."""
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example()
  for name, values in arrays.items():
    feature = example.features.feature[name]
    if values.dtype == np.uint8:
      feature.bytes_list.value.extend(bytes([v]) for v in values.ravel())
    else:
      feature.float_list.value.extend(values.ravel().tolist())
  return example.SerializeToString(deterministic=True)


def write(path, records):
  """Writes a compressed TFRecord file; the same bytes for the same records."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
    for record in records:
      file.write(tfrecord.frame(record))
  return path


def write_scenes(path, name, variant, counts, seed=0):
  """Writes scenes of so many objects each; returns their arrays and ids."""
  layout = layouts.get_layout(name, variant)
  rng = np.random.default_rng(seed)
  scenes = [scene(layout, rng, count) for count in counts]
  write(path, (serialize(arrays) for arrays, _ in scenes))
  return scenes
