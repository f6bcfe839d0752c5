"""CLEVR scenes rendered by Blender, and the same scenes rendered here.

IMAGES.npz holds `image` [N, H, W, 3] uint8, `mask` [N, H, W] uint8 (0
background, i for object i), `num_objects` [N], `coords` [N, O, 3], and `size`,
`material`, `shape`, `color` [N, O], ids in the order of TFDS's labels, with
arbitrary values for padding. SCENES.json is a list of N CLEVR scene
dictionaries with `camera_location` and `lamp_locations`.
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
  """How a model sees scenes, and which scenes.

  Attributes:
    resolution: (h, w) of the model's images.
    frame: (H, W) of the camera's frame. Images of another size are assumed to
      be scaled; taller images are cut to its aspect ratio around the center.
    crop: as in `transforms.preprocess_image`.
    num_objects: smallest and largest number of objects; other scenes are left
      out.
  """

  resolution: tuple[int, int]
  frame: tuple[int, int]
  crop: transforms.Crop
  num_objects: tuple[int, int]

  def frame_rows(self, height: int, width: int) -> slice:
    """The rows of an image of this size that lie in the frame.

    Raises:
      ValueError: if the frame has rows that the image lacks, or the crop is in
        pixels of the frame and the size is another.
    """
    frame = f"{self.frame[0]}x{self.frame[1]}"
    if self.crop == "literal" and (height, width) != self.frame:
      raise ValueError(
        f"Expected images of {frame} for the crop 'literal', got {height}x"
        f"{width}. Use data.crop=paper."
      )
    # The width of the image spans the camera's field of view at any size.
    needed = width * self.frame[0] / self.frame[1]
    if needed > height:
      raise ValueError(
        f"Expected images at least as tall for their width as {frame}, the "
        f"frame of the model's scenes, got {height}x{width}. Set "
        "data.scenes.frame in --config to compare all images in that frame."
      )
    margin = round((height - needed) / 2)
    return slice(margin, height - margin)

  def see(self, image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Preprocesses an image [H, W, 3] uint8 and its mask, as CLEVR's."""
    image = transforms.preprocess_image(image, self.resolution, self.crop)
    mask = transforms.preprocess_segmentation(mask, self.resolution, self.crop)
    return {"image": visualize.to_uint8(image), "segmentation": mask}


class BlenderImages:
  """The images of IMAGES.npz and their ground truth.

  Args:
    path: IMAGES.npz.
    view: how the model sees them.

  Attributes:
    rows: [n] int64, indices of the images that `view` keeps.
    frame: (H, W) of the images, cut to the aspect ratio of the view's frame.
    max_objects: O, rows of the targets.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file's arrays are not as expected, or no image is kept.
  """

  def __init__(self, path: pathlib.Path, view: View):
    with np.load(path) as data:
      if missing := sorted(set(_ARRAYS) - set(data)):
        raise ValueError(
          f"Expected arrays {', '.join(_ARRAYS)} in {path}, got none named "
          f"{', '.join(missing)}. Add them to the file."
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
        f"Expected images of {low} to {high} objects in {path}, got "
        f"{counts.min()} to {counts.max()}. Change data.max_objects or "
        "data.scenes.num_objects, or use other images."
      )
    kept = view.frame_rows(*self._data["image"].shape[1:3])
    for name in ("image", "mask"):
      self._data[name] = self._data[name][:, kept]
    self.frame: tuple[int, int] = self._data["image"].shape[1:3]
    self.max_objects = max(10, high)

  def arrays(self) -> dict[str, np.ndarray]:
    """Examples [n, ...] of Blender's images: image, segmentation, target."""
    pairs = ((self._data["image"][i], self._data["mask"][i]) for i in self.rows)
    return self._examples([self._view.see(*pair) for pair in pairs])

  def render_scenes(
    self, path: pathlib.Path
  ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Renders the same scenes with the package's renderer.

    Args:
      path: SCENES.json, in the order of the images.

    Returns:
      Two dicts like that of `arrays`: rendered at the model's resolution, as
      synthetic scenes are; and rendered at the size of Blender's images, then
      cropped and resized like them.

    Raises:
      ValueError: if the scenes do not belong to the images.
    """
    items = self._scenes(path)
    view, frame = self._view, self.frame
    small = Clevr(frame=frame, crop=view.crop)
    whole = Clevr(frame=frame)

    @jax.jit
    def render(scene):
      return small.render(scene, view.resolution), whole.render(scene, frame)

    direct, resized = [], []
    for i in self.rows:
      scene = annotations.parse_scene(items[i], self.max_objects)
      seen, full = jax.device_get(render(scene))
      direct.append(
        {
          "image": visualize.to_uint8(seen.image),
          "segmentation": seen.segmentation,
        }
      )
      image = visualize.to_uint8(full.image)
      resized.append(view.see(image, full.segmentation))
    return self._examples(direct), self._examples(resized)

  def _examples(self, seen: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Stacks the preprocessed images of the rows and adds their targets."""
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
    """Reads the scenes; checks that they belong to the images."""
    items = json.loads(path.read_text(encoding="utf-8"))
    items = items["scenes"] if isinstance(items, dict) else items
    data, advice = self._data, f"Give the scenes of {self._path}, in its order."
    if len(items) != len(data["image"]):
      raise ValueError(
        f"Expected {len(data['image'])} scenes in {path}, one for each "
        f"image, got {len(items)}. {advice}"
      )
    for i, item in enumerate(items):
      if lacking := {"camera_location", "lamp_locations"} - set(item):
        raise ValueError(
          f"Expected {sorted(lacking)} in scene {i} of {path}, got none, so it "
          "cannot be rendered as in Blender. Save them when rendering."
        )
      count = len(item["objects"])
      scene = annotations.parse_scene(item, max(10, count))
      same = count == data["num_objects"][i] and all(
        np.allclose(getattr(scene, k)[:count], data[k][i, :count], atol=1e-3)
        for k in ("coords", *_LABELS)
      )
      if not same:
        raise ValueError(
          f"Expected the objects of image {i} in scene {i} of {path}, got "
          f"others. {advice}"
        )
    return items


def _check(
  data: dict[str, np.ndarray], names: dict[str, list[str]], path: pathlib.Path
) -> None:
  """Raises ValueError unless shapes and labels are as expected."""
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
        "Convert the ids to TFDS's."
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
  """An evaluation split with the examples in memory.

  Args:
    arrays: from `BlenderImages`.
    name: name of the dataset, for the names of the metrics.
    split: name of the split.
    batch_size: B; the last batch is padded.
    sharding: sharding of the batch axis.
    own_scenes: whether the package rendered the images.

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
