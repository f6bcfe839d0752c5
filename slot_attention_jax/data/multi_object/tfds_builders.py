"""TFDS builders of multi-object datasets.

Importing this module registers them, so that `tfds.builder("tetrominoes",
data_dir=...)` finds what `data.prepare` prepared. It imports TFDS at its top;
the package imports it only inside of functions.

On disk a scene has

- `index`, its number in the original file, whose order is kept,
- `image` [H, W, 3] and `segmentation` [H, W, 1], uint8, as PNG; the latter has
  the id of the entity at each pixel, 0 the background, i = entity i; in
  objects_room 0 to 3 are parts of the background,
- `visibility` [E] bool, which entities there are,
- `num_objects`, how many of them are not background, and `objects`, these in
  order: `entity`, their ids, and what the dataset says of each. Classes of
  CLEVR have the names and the order of TFDS's `clevr`.
"""

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds  # noqa: TID253

from slot_attention_jax.data import types
from slot_attention_jax.data.multi_object import (
  dataset,
  layouts,
)
from slot_attention_jax.data.multi_object import (
  records as records_lib,
)

_DESCRIPTION = """
Scenes of several objects with a mask for each, from multi_object_datasets
(Kabra et al., 2019), converted from its TFRecords.
"""
_CITATION = """
@misc{multiobjectdatasets19,
  title={Multi-Object Datasets},
  author={Kabra, Rishabh and Burgess, Chris and Matthey, Loic and
    Kaufman, Raphael Lopez and Greff, Klaus and Reynolds, Malcolm and
    Lerchner, Alexander},
  howpublished={https://github.com/deepmind/multi-object-datasets/},
  year={2019}
}
"""
FILE_FORMAT = "array_record"
_HOMEPAGE = "https://github.com/google-deepmind/multi_object_datasets"


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """What all datasets share."""

  VERSION = tfds.core.Version(dataset.VERSION)
  SPLIT = "train"
  SHARD = 50_000  # Examples in a file; some 200 MB.

  @property
  def layout(self) -> layouts.RecordLayout:
    """Of the records."""
    config = self.builder_config
    return layouts.get_layout(self.name, config.name if config else "")

  def _info(self) -> tfds.core.DatasetInfo:
    layout = self.layout
    height, width = layout.resolution

    def png(channels):
      return tfds.features.Image(
        shape=(height, width, channels), dtype=np.uint8, encoding_format="png"
      )

    return tfds.core.DatasetInfo(
      builder=self,
      description=_DESCRIPTION,
      features=tfds.features.FeaturesDict(
        {
          "index": np.int64,
          "image": png(3),
          "segmentation": png(1),
          "visibility": tfds.features.Tensor(
            shape=(layout.num_entities,), dtype=np.bool_
          ),
          "num_objects": np.int64,
          "objects": tfds.features.Sequence(self._object_features()),
        }
      ),
      homepage=_HOMEPAGE,
      citation=_CITATION,
      disable_shuffling=True,
      metadata=tfds.core.MetadataDict(),
      license="Apache-2.0",
    )

  def _object_features(self) -> dict[str, Any]:
    """What is known of an object."""
    layout = self.layout
    features: dict[str, Any] = {"entity": np.int64}
    for name, numbers in layout.floats.items():
      # One channel of a color is repeated, as in the image.
      size = 3 if name == "color" else numbers
      features[name] = (
        tfds.features.Tensor(shape=(size,), dtype=np.float32)
        if size
        else np.float32
      )
    return features

  def _objects(
    self, scene: dict[str, Any], entities: np.ndarray
  ) -> dict[str, Any]:
    """The features of the entities [n]."""
    out: dict[str, Any] = {"entity": entities.astype(np.int64)}
    for name in self.layout.floats:
      values = scene["objects"][name][entities]
      if name == "color":
        values = np.broadcast_to(values, (len(entities), 3))
      out[name] = values
    return out

  def convert(
    self, item: tuple[int, bytes], source: str
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    """Makes an example of a record.

    Args:
      item: number of the record, and the record.
      source: name of its file, for messages.

    Returns:
      A pair (the scene from `records.parse_record`, the example).

    Raises:
      ValueError: if it is not a record of the dataset.
    """
    index, record = item
    layout = self.layout
    scene = records_lib.parse_record(
      record, layout, f"record {index} of {source}"
    )
    parts = layout.background_parts
    entities = parts + np.flatnonzero(scene["visibility"][parts:])
    example = {
      "index": index,
      "image": _png(scene["image"]),
      "segmentation": _png(scene["segmentation"]),
      "visibility": scene["visibility"],
      "num_objects": len(entities),
      "objects": self._objects(scene, entities),
    }
    return scene, example

  def download_and_prepare(self, **kwargs: Any) -> None:
    """Keeps prepared data; raises ValueError if there are none."""
    if not (self.data_path / "dataset_info.json").exists():
      config = self.builder_config
      choice = f" --variant={config.name}" if config else ""
      # The data lie in ROOT/name/version, or ROOT/name/variant/version.
      root = self.data_path.parents[2 if config else 1]
      raise ValueError(
        f"Expected {self.info.full_name} to be prepared in {self.data_dir}. "
        "Prepare it with:\n  python -m slot_attention_jax.data.prepare "
        f"--name={self.name}{choice} --data_dir={root}"
      )
    super().download_and_prepare(**kwargs)

  # TFDS's base class declares these two abstract, so a builder must define
  # them; `download_and_prepare` above never calls them.

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    raise NotImplementedError("`conversion.write` makes the examples.")

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
    raise NotImplementedError("`conversion.write` makes the examples.")


def _png(pixels: np.ndarray) -> io.BytesIO:
  """Pixels [H, W] or [H, W, 3] uint8 as PNG: TFDS would need TensorFlow."""
  from PIL import Image

  file = io.BytesIO()
  # Twice as fast as the default of 6, and 4% larger.
  Image.fromarray(pixels).save(file, "png", compress_level=5)
  file.seek(0)
  return file


class ClevrWithMasks(_Builder):
  """CLEVR scenes with masks: 100,000 of 240 x 320 pixels, 3 to 10 objects."""

  SHARD = 2_500

  def _object_features(self) -> dict[str, Any]:
    features: dict[str, Any] = {
      "entity": np.int64,
      "3d_coords": tfds.features.Tensor(shape=(3,), dtype=np.float32),
      "pixel_coords": tfds.features.Tensor(shape=(3,), dtype=np.float32),
      "rotation": np.float32,
    }
    for name in self.layout.ids:
      labels = list(types.CLEVR_LAYOUT[name].labels)
      features[name] = tfds.features.ClassLabel(names=labels)
    return features

  def _objects(
    self, scene: dict[str, Any], entities: np.ndarray
  ) -> dict[str, Any]:
    values = {k: v[entities] for k, v in scene["objects"].items()}
    out: dict[str, Any] = {
      "entity": entities.astype(np.int64),
      "3d_coords": np.stack([values["x"], values["y"], values["z"]], axis=-1),
      "pixel_coords": values["pixel_coords"],
      "rotation": values["rotation"],
    }
    for name, labels in self.layout.ids.items():
      canonical = types.CLEVR_LAYOUT[name].labels
      order = np.array([0, *(canonical.index(label) for label in labels)])
      out[name] = order[values[name]].astype(np.int64)
    return out


def _variants(name: str) -> list[tfds.core.BuilderConfig]:
  return [
    tfds.core.BuilderConfig(name=variant, version=dataset.VERSION)
    for variant in layouts.LAYOUTS[name]
  ]


class MultiDsprites(_Builder):
  """Multi-dSprites: 1,000,000 scenes of 64 x 64 pixels of each variant."""

  BUILDER_CONFIGS = _variants("multi_dsprites")


class Tetrominoes(_Builder):
  """Tetrominoes: scenes of three tetrominoes, 35 x 35 pixels."""


class ObjectsRoom(_Builder):
  """Objects Room: 1,000,000 scenes of 64 x 64 pixels, and three tests."""

  BUILDER_CONFIGS = _variants("objects_room")

  @property
  def SPLIT(self) -> str:
    """Three of the files are tests."""
    config = self.builder_config
    return "train" if config is None or config.name == "train" else "test"


_BUILDERS = {
  "clevr_with_masks": ClevrWithMasks,
  "multi_dsprites": MultiDsprites,
  "tetrominoes": Tetrominoes,
  "objects_room": ObjectsRoom,
}


def create_builder(
  name: str, variant: str, data_dir: str | os.PathLike[str]
) -> Any:
  """The builder of a dataset, which keeps its data as array_record.

  Args:
    name: of the dataset.
    variant: of the dataset; "" for the default one.
    data_dir: TFDS's data directory.

  Returns:
    The builder; `conversion.write` prepares its data.

  Raises:
    ValueError: on an unknown variant.
  """
  variant = layouts.resolve_variant(name, variant)
  cls = _BUILDERS[name]
  return cls(
    data_dir=os.fspath(data_dir),
    config=variant or None,
    file_format=FILE_FORMAT,
  )
