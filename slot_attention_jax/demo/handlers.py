"""What the page's controls do, without the page."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from slot_attention_jax import models, pretrained
from slot_attention_jax.demo import scenes
from slot_attention_jax.evaluation import visualize
from slot_attention_jax.modules import slot_init
from slot_attention_jax.predict import (
  pictures,
  predictions,
  tables,
  trained_model,
)

NAMES = ("A", "B")
"""Of the two images."""


class Models:
  """Models that were chosen, each loaded once.

  Args:
    names: what the page offers, each a name, file or run, see
      `trained_model.load`. Nothing else is loaded.
  """

  def __init__(self, names: Sequence[str]):
    self.names = tuple(names)
    self._loaded: dict[str, trained_model.TrainedModel] = {}
    self._lock = threading.Lock()

  def load(self, name: Any) -> trained_model.TrainedModel:
    """The model; ValueError if the page does not offer it."""
    if name not in self.names:
      raise ValueError(
        f"Expected a model out of {list(self.names)}, got {name!r}."
      )
    with self._lock:
      if name not in self._loaded:
        self._loaded[name] = trained_model.load(name)
      return self._loaded[name]


def offered(model: str | None = None) -> Models:
  """The package's models, and first of all one of the user's."""
  names = list(pretrained.pretrained_names())
  names.sort(key=lambda name: name != "clevr6")
  if model is not None and model not in names:
    trained_model.load(model)
    names.insert(0, model)
  elif model is not None:
    names.sort(key=lambda name: name != model)
  return Models(names)


def has_free_slots(trained: trained_model.TrainedModel) -> bool:
  """Whether K may be chosen."""
  return trained.model.slot_init in slot_init.ANY_NUM_SLOTS


def paints(trained: trained_model.TrainedModel) -> bool:
  """Whether slots become images, and not properties of objects."""
  return isinstance(trained.model, models.SlotAttentionAutoEncoder)


class Handlers:
  """What the page's controls do. Wrong input is shown, and changes nothing.

  Args:
    available: the models that can be chosen.
    error: makes the exception that the page shows, of a message.
  """

  def __init__(self, available: Models, error: Callable[[str], Exception]):
    self._models, self._error = available, error
    self._num_drawn = 0

  def _shown(self, error: Exception) -> Exception:
    return self._error(str(error))

  def model(self, name: Any) -> trained_model.TrainedModel:
    """A model that the page offers."""
    try:
      return self._models.load(name)
    except (ValueError, OSError) as error:
      raise self._shown(error) from error

  def draw(self, name: Any) -> tuple[np.ndarray, predictions.Example]:
    """A new synthetic scene: its picture [H, W, 3] uint8, and the example."""
    trained = self.model(name)
    self._num_drawn += 1
    try:
      example = scenes.sample(trained, self._num_drawn)
    except ValueError as error:
      raise self._shown(error) from error
    return pictures.enlarge(visualize.to_uint8(example.input)), example

  def find(
    self,
    name: Any,
    num_slots: Any,
    num_iterations: Any,
    seed: Any,
    image: Any,
    drawn: Any,
  ) -> scenes.SlotScene:
    """Finds the slots of an image.

    Args:
      name: of the model.
      num_slots: K, unless the model fixes it.
      num_iterations: T.
      seed: of the slot noise.
      image: an upload, [H, W], [H, W, 3] or [H, W, 4] uint8; None: none.
      drawn: an example that `draw` made; None: the upload counts.

    Returns:
      The scene.
    """
    trained = self.model(name)
    try:
      if isinstance(drawn, predictions.Example):
        if drawn.input.shape[:2] != trained.resolution:
          raise ValueError("Draw a scene for this model first.")
      elif image is None:
        raise ValueError("Draw a scene or upload an image first.")
      else:
        drawn = _rgb(image)
      return scenes.find(
        trained,
        drawn,
        num_slots=_whole(num_slots, "K") if has_free_slots(trained) else None,
        num_iterations=_whole(num_iterations, "T"),
        seed=_whole(seed, "the seed"),
      )
    except ValueError as error:
      raise self._shown(error) from error

  def combine(self, a: Any, b: Any, from_a: Any, from_b: Any) -> Any:
    """Decodes the slots whose boxes are checked.

    Args:
      a: scene of image A; None: not found yet.
      b: scene of image B.
      from_a: labels of slots of A, see `slot_labels`; others are ignored.
      from_b: labels of slots of B.

    Returns:
      [H, W, 3] uint8; None if there is nothing to decode.
    """
    choices = [
      (scene, _chosen(scene, boxes))
      for scene, boxes in ((a, from_a), (b, from_b))
      if isinstance(scene, scenes.SlotScene) and scene.slot_images is not None
    ]
    if not choices:
      return None
    if len({scene.found.trained.name for scene, _ in choices}) > 1:
      raise self._error("Find the slots of both images with one model.")
    return pictures.enlarge(scenes.combine(choices))

  def table(self, a: Any, b: Any) -> dict[str, list] | None:
    """The objects that a set predictor finds in A and B, as a table.

    Args:
      a: scene of image A; None: not found yet.
      b: scene of image B.

    Returns:
      `headers` and rows of `data`; None without an object.
    """
    rows = [
      {"image": name, **row}
      for name, scene in zip(NAMES, (a, b), strict=True)
      if isinstance(scene, scenes.SlotScene) and not paints(scene.found.trained)
      for row in tables.rows(scene.found, 0)
    ]
    if not rows:
      return None
    return {
      "headers": list(rows[0]),
      "data": [list(row.values()) for row in rows],
    }


def slot_labels(scene: scenes.SlotScene) -> list[str]:
  """Names of a scene's slots, with the share of the image that they take."""
  segments = scene.found.segments[0]
  return [
    f"slot {k} ({100 * np.mean(segments == k):.0f} %)"
    for k in range(1, scene.num_slots + 1)
  ]


def _chosen(scene: scenes.SlotScene, boxes: Any) -> list[int]:
  """Indices of the slots whose boxes are checked; others are ignored."""
  labels = slot_labels(scene)
  return [k for k, label in enumerate(labels) if label in (boxes or [])]


def _whole(value: Any, name: str) -> int:
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or value != int(value) or not 0 <= value < 2**31:
    raise ValueError(f"Expected a whole number of at least 0 as {name}.")
  return int(value)


def _rgb(image: Any) -> np.ndarray:
  """An upload as [H, W, 3] uint8, without its opacity."""
  array = np.asarray(image)
  if array.ndim == 2:
    array = array[..., None].repeat(3, axis=-1)
  if array.ndim != 3 or array.shape[-1] not in (3, 4):
    raise ValueError("Expected an image in colors.")
  return array[..., :3].astype(np.uint8)
