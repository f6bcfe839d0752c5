"""How the records of multi_object_datasets are laid out.

One `tf.train.Example` for each scene, whose features its readers take with
fixed shapes. Entity 0 is the background; rows past the last object are zeros
with `visibility` 0. Images, masks and ids are bytes, each a string of its own.

References:
  github.com/google-deepmind/multi_object_datasets: `tetrominoes.py`,
  `multi_dsprites.py`, `clevr_with_masks.py`, `objects_room.py`.
  Names of CLEVR's ids: github.com/stelzner/multi_object_3d_datasets, which
  renders the scenes again (`clevr3d/gen_clevr.py`; all but the sizes), and
  github.com/vadimkantorov/yet_another_pytorch_slot_attention
  (`clevr_with_masks.py`).
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class RecordLayout:
  """Names, types and shapes of the features of one record.

  Attributes:
    reader: the module of `multi_object_datasets` that reads the layout.
    resolution: (H, W) that the reader expects.
    num_entities: E, background and objects, with padding.
    floats: float features: name to the numbers per entity; 0 for [E].
    ids: features [E] of class ids in one byte: name to the labels of the ids 1,
      2, ...; 0 is the background and padding.
    first_id: id of a property's first class in a family's `describe`.
    channels: C of the image, 3, or 1 of three equal ones.
    entities_first: whether masks are [E, H, W, 1], not [H, W, E, 1].
    background_parts: how many entities, the first ones, are no objects.
    has_visibility: whether there is a feature `visibility` [E].
  """

  reader: str
  resolution: tuple[int, int]
  num_entities: int
  floats: Mapping[str, int] = dataclasses.field(default_factory=dict)
  ids: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  first_id: int = 0
  channels: int = 3
  entities_first: bool = True
  background_parts: int = 1
  has_visibility: bool = True

  def shapes(self, resolution: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of all features for images of (H, W), in the reader's words."""
    h, w = resolution
    e = self.num_entities
    return {
      "image": (h, w, self.channels),
      "mask": (e, h, w, 1) if self.entities_first else (h, w, e, 1),
      **({"visibility": (e,)} if self.has_visibility else {}),
      **{name: (e, n) if n else (e,) for name, n in self.floats.items()},
      **{name: (e,) for name in self.ids},
    }


def _multi_dsprites(num_entities: int, channels: int) -> RecordLayout:
  names = ("x", "y", "shape", "orientation", "scale")
  return RecordLayout(
    reader="multi_dsprites",
    resolution=(64, 64),
    num_entities=num_entities,
    floats={"color": channels} | dict.fromkeys(names, 0),
    first_id=1,  # As in dSprites, whose ids start at 1.
    channels=channels,
    entities_first=False,
  )


def _objects_room(num_entities: int) -> RecordLayout:
  return RecordLayout(
    reader="objects_room",
    resolution=(64, 64),
    num_entities=num_entities,
    background_parts=4,  # Sky, floor and two walls.
    has_visibility=False,
  )


# By dataset and variant; the first variant is the default one.
LAYOUTS: Mapping[str, Mapping[str, RecordLayout]] = {
  "clevr_with_masks": {
    "": RecordLayout(
      reader="clevr_with_masks",
      resolution=(240, 320),
      num_entities=11,
      floats={"x": 0, "y": 0, "z": 0, "pixel_coords": 3, "rotation": 0},
      # The ids are not documented. Two users of the dataset, see above, name
      # them so. Pictures and heights in tests/testdata show the same, but those
      # scenes are not of the dataset. TFDS's CLEVR has another order in all but
      # the material.
      ids={
        "size": ("large", "small"),
        "material": ("rubber", "metal"),
        "shape": ("sphere", "cylinder", "cube"),
        "color": (
          "red",
          "cyan",
          "green",
          "blue",
          "brown",
          "gray",
          "purple",
          "yellow",
        ),
      },
    ),
  },
  "multi_dsprites": {
    "colored_on_grayscale": _multi_dsprites(6, 3),
    "colored_on_colored": _multi_dsprites(5, 3),
    "binarized": _multi_dsprites(4, 1),
  },
  "tetrominoes": {
    "": RecordLayout(
      reader="tetrominoes",
      resolution=(35, 35),
      num_entities=4,
      floats={"x": 0, "y": 0, "shape": 0, "color": 3},
    ),
  },
  "objects_room": {
    "train": _objects_room(7),
    "empty_room": _objects_room(4),
    "six_objects": _objects_room(10),
    "identical_color": _objects_room(10),
  },
}


def resolve_variant(name: str, variant: str = "") -> str:
  """The variant of a dataset, its default one for ""; ValueError if unknown."""
  if name not in LAYOUTS:
    raise ValueError(
      f"Expected a dataset out of {list(LAYOUTS)}, got {name!r}."
    )
  variants = LAYOUTS[name]
  variant = variant or next(iter(variants))
  if variant not in variants:
    raise ValueError(
      f"Expected a variant of {name} out of {list(variants)}, got {variant!r}."
    )
  return variant


def get_layout(name: str, variant: str = "") -> RecordLayout:
  """The layout of a dataset.

  Args:
    name: of the dataset.
    variant: of the dataset; "" for the default one.

  Returns:
    The layout.

  Raises:
    ValueError: on an unknown dataset or variant.
  """
  return LAYOUTS[name][resolve_variant(name, variant)]
