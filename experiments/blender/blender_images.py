"""Pictures that Blender made of CLEVR scenes, and the scenes drawn again here.

IMAGES.npz holds `image` [N, H, W, 3] uint8, `mask` [N, H, W] uint8 (0
background, i = object i), `num_objects` [N], `coords` [N, O, 3], and `size`,
`material`, `shape`, `color` [N, O], ids in the order of TFDS's labels, anything
on padding. SCENES.json is a list of N CLEVR scene dictionaries with
`camera_location` and `lamp_locations`.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np

from slot_attention_jax.data import cached_dataset, transforms, types
from slot_attention_jax.data.procedural import Clevr
from slot_attention_jax.data.procedural.clevr import annotations
from slot_attention_jax.evaluation import visualize

_LABELS = ("size", "material", "shape", "color")
_ARRAYS = ("image", "mask", "num_objects", "coords", *_LABELS)


@dataclasses.dataclass(frozen=True)
class View:
  """How a model sees scenes, and which.

  Attributes:
    resolution: (h, w) of its images.
    frame: (H, W) of the camera's frame. Pictures of another size are taken to
      be scaled, higher ones are cut to its aspect around the center.
    crop: as of `transforms.preprocess_image`.
    num_objects: fewest and most objects of a scene; others are left out.
  """

  resolution: tuple[int, int]
  frame: tuple[int, int]
  crop: transforms.Crop
  num_objects: tuple[int, int]

  def rows_of(self, height: int, width: int) -> slice:
    """The rows of a picture of this size that the frame has.

    Raises:
      ValueError: if the picture lacks some of them, or the crop is one of
        pixels and the size is another.
    """
    frame = f"{self.frame[0]}x{self.frame[1]}"
    if self.crop == "literal" and (height, width) != self.frame:
      raise ValueError(
        f"Expected pictures of {frame} for the crop 'literal', got {height}x"
        f"{width}. Use data.crop=paper."
      )
    # The camera's view is as wide whatever the size.
    needed = width * self.frame[0] / self.frame[1]
    if needed > height:
      raise ValueError(
        f"Expected pictures at least as high for their width as {frame}, the "
        f"frame of the model's scenes, got {height}x{width}. Override "
        "data.scenes.frame in --config to compare all in that one."
      )
    margin = round((height - needed) / 2)
    return slice(margin, height - margin)

  def see(self, image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Image and segmentation of a picture [H, W, 3] uint8, as CLEVR's are."""
    image = transforms.preprocess_image(image, self.resolution, self.crop)
    mask = transforms.preprocess_segmentation(mask, self.resolution, self.crop)
    return {"image": visualize.to_uint8(image), "segmentation": mask}


class Pictures:
  """The pictures of IMAGES.npz, and what they show.

  Args:
    path: IMAGES.npz.
    view: how they are seen.

  Attributes:
    rows: [n] int64, the pictures in the file that `view` keeps.
    frame: (H, W) of the pictures, cut to the aspect of the view's.
    max_objects: O, rows of the targets.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file does not hold what it should, or nothing is kept.
  """

  def __init__(self, path: pathlib.Path, view: View):
    with np.load(path) as data:
      if missing := sorted(set(_ARRAYS) - set(data)):
        raise ValueError(
          f"Expected arrays {', '.join(_ARRAYS)} in {path}, got none of the "
          f"name {', '.join(missing)}. Write them into the file."
        )
      names = {k: data[k].tolist() for k in data if k.endswith("_names")}
      self._data = {name: data[name] for name in _ARRAYS}
    self._path, self._view = path, view
    _check(self._data, names, path)
    low, high = view.num_objects
    counts = self._data["num_objects"]
    self.rows = np.flatnonzero((low <= counts) & (counts <= high))
    if not len(self.rows):
      raise ValueError(
        f"Expected pictures of {low} to {high} objects in {path}, got "
        f"{counts.min()} to {counts.max()}. Change data.max_objects or "
        "data.scenes.num_objects, or give other pictures."
      )
    kept = view.rows_of(*self._data["image"].shape[1:3])
    for name in ("image", "mask"):
      self._data[name] = self._data[name][:, kept]
    self.frame: tuple[int, int] = self._data["image"].shape[1:3]
    self.max_objects = max(10, high)

  def arrays(self) -> dict[str, np.ndarray]:
    """Examples [n, ...] of Blender's pictures: image, segmentation, target."""
    pairs = ((self._data["image"][i], self._data["mask"][i]) for i in self.rows)
    return self._examples([self._view.see(*pair) for pair in pairs])

  def drawn_again(
    self, path: pathlib.Path
  ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Examples of the same scenes, drawn by the package's own renderer.

    Args:
      path: SCENES.json, in the order of the pictures.

    Returns:
      Two dicts as of `arrays`: drawn at the model's resolution, as synthetic
      scenes are; and drawn at the size of Blender's images, then cropped and
      resized like them.

    Raises:
      ValueError: if the scenes are not those of the pictures.
    """
    items = self._scenes(path)
    view, frame = self._view, self.frame
    small = Clevr(frame=frame, crop=view.crop)
    whole = Clevr(frame=frame)

    @jax.jit
    def draw(scene):
      return small.render(scene, view.resolution), whole.render(scene, frame)

    direct, resized = [], []
    for i in self.rows:
      scene = annotations.parse_scene(items[i], self.max_objects)
      seen, picture = jax.device_get(draw(scene))
      direct.append(
        {
          "image": visualize.to_uint8(seen.image),
          "segmentation": seen.segmentation,
        }
      )
      image = visualize.to_uint8(picture.image)
      resized.append(view.see(image, picture.segmentation))
    return self._examples(direct), self._examples(resized)

  def _examples(self, seen: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Stacks what is seen of the rows, and adds their targets."""
    examples = {k: np.stack([item[k] for item in seen]) for k in seen[0]}
    return examples | {"target": self._targets()}

  def _targets(self) -> np.ndarray:
    """Property vectors [n, O, 19]."""
    rows, most = self.rows, self.max_objects
    real = np.arange(most) < self._data["num_objects"][rows, None]
    values = {}
    for name in ("coords", *_LABELS):
      array = self._data[name][rows, :most]
      padding = [(0, 0), (0, most - array.shape[1])]
      padding += [(0, 0)] * (array.ndim - 2)
      values[name] = np.pad(array, padding)
    return np.asarray(types.CLEVR_LAYOUT.encode(values, real))

  def _scenes(self, path: pathlib.Path) -> list[dict[str, Any]]:
    """The scenes, of which it is sure that the pictures show them."""
    items = json.loads(path.read_text(encoding="utf-8"))
    items = items["scenes"] if isinstance(items, dict) else items
    data, advice = self._data, f"Give the scenes of {self._path}, in its order."
    if len(items) != len(data["image"]):
      raise ValueError(
        f"Expected {len(data['image'])} scenes in {path}, one for each "
        f"picture, got {len(items)}. {advice}"
      )
    for i, item in enumerate(items):
      if lacking := {"camera_location", "lamp_locations"} - set(item):
        raise ValueError(
          f"Expected {sorted(lacking)} in scene {i} of {path}, got none: it "
          "cannot be drawn as Blender did. Keep them when rendering."
        )
      count = len(item["objects"])
      scene = annotations.parse_scene(item, max(10, count))
      same = count == data["num_objects"][i] and all(
        np.allclose(getattr(scene, k)[:count], data[k][i, :count], atol=1e-3)
        for k in ("coords", *_LABELS)
      )
      if not same:
        raise ValueError(
          f"Expected the objects of picture {i} in scene {i} of {path}, got "
          f"others. {advice}"
        )
    return items


def _check(
  data: dict[str, np.ndarray], names: dict[str, list[str]], path: pathlib.Path
) -> None:
  """Raises ValueError unless shapes and labels are as they should be."""
  image, counts = data["image"], data["num_objects"]
  if image.ndim != 4 or image.shape[-1] != 3 or image.dtype != np.uint8:
    raise ValueError(
      f"Expected image [N, H, W, 3] uint8 in {path}, got {image.shape} "
      f"{image.dtype}."
    )
  slots = data["coords"].shape[1]
  shapes = {name: (len(image), slots) for name in _LABELS}
  shapes |= {"mask": image.shape[:3], "num_objects": image.shape[:1]}
  shapes["coords"] = (len(image), slots, 3)
  for name, shape in shapes.items():
    if data[name].shape != shape:
      raise ValueError(
        f"Expected {name} {shape} in {path}, got {data[name].shape}."
      )
  real = np.arange(slots) < counts[:, None]
  for name in _LABELS:
    labels = types.CLEVR_LAYOUT[name].labels
    told = names.get(f"{name}_names", list(labels))
    if tuple(told) != labels:
      raise ValueError(
        f"Expected the labels {labels} of {name} in {path}, got {told}. "
        "Change the ids to TFDS's."
      )
    ids = data[name][real]
    if ids.size and not 0 <= ids.min() <= ids.max() < len(labels):
      raise ValueError(
        f"Expected ids of {name} in [0, {len(labels)}) in {path}, got "
        f"{ids.min()} to {ids.max()}. Only padding may have others."
      )
  too_many = data["mask"].max(axis=(1, 2)) > counts
  if counts.max() > slots or too_many.any():
    raise ValueError(
      f"Expected at most {slots} objects in {path}, and in a mask no more than "
      "num_objects; got more."
    )


def dataset(
  arrays: dict[str, np.ndarray],
  name: str,
  split: str,
  batch_size: int,
  sharding: jax.sharding.NamedSharding,
  own_scenes: bool,
) -> cached_dataset.CachedDataset:
  """An evaluation split of examples in memory.

  Args:
    arrays: of `Pictures`.
    name: what the data are, for the names of the metrics.
    split: which of them.
    batch_size: of the batches; the last is filled up with rows not counted.
    sharding: of the batches.
    own_scenes: whether the package drew them.

  Returns:
    The dataset.
  """
  info = types.DatasetInfo(
    name=name,
    split=split,
    image_shape=arrays["image"].shape[1:],
    num_examples=len(arrays["image"]),
    layout=types.CLEVR_LAYOUT,
    max_objects=arrays["target"].shape[1],
    has_segmentation=True,
    own_scenes=own_scenes,
  )
  return cached_dataset.CachedDataset(
    arrays,
    np.arange(info.num_examples),
    info,
    batch_size=batch_size,
    sharding=sharding,
    seed=0,
    shuffle=False,
  )
