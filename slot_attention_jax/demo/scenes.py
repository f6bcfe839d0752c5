"""Scenes whose slots are shown, taken away and combined. No page is needed."""

import dataclasses
import functools
import re
from collections.abc import Collection
from typing import Any

import jax
import numpy as np

from slot_attention_jax import models
from slot_attention_jax.data import procedural, transforms
from slot_attention_jax.evaluation import palette, visualize
from slot_attention_jax.predict import (
  object_marks,
  pictures,
  predictions,
  tables,
  trained_model,
)

MOST_PIXELS = 4096 * 4096
"""Pixels of the largest image that is taken."""
MOST_ITERATIONS = 10
"""The largest T."""
MOST_SLOTS = 16
"""The largest K."""


@dataclasses.dataclass(frozen=True, eq=False)
class SlotScene:
  """An image and what a model found in it.

  Attributes:
    found: of one image.
    image: [H, W, 3] uint8, as it was given.
    slot_images: [K, h, w, 3] in [-1, 1], what each slot paints; None of set
      predictors.
    alpha_logits: [K, h, w]; None of set predictors.
  """

  found: predictions.Predictions
  image: np.ndarray
  slot_images: np.ndarray | None
  alpha_logits: np.ndarray | None

  @property
  def num_slots(self) -> int:
    """K."""
    return self.found.num_slots

  def overview(self) -> np.ndarray:
    """The image [H', W', 3] uint8 with what was found.

    Tinted with the slots' colors; of set predictors, a mark for each object.
    """
    if self.slot_images is None:
      return object_marks.draw(self.image, tables.rows(self.found, 0))
    return pictures.overlay(self.image, self.found.segments_in_image(0))

  def reconstruction(self) -> np.ndarray | None:
    """What the slots decode to, [h, w, 3] uint8; None of set predictors."""
    if self.found.reconstruction is None:
      return None
    return visualize.to_uint8(self.found.reconstruction[0])

  def slot_pictures(self) -> list[np.ndarray]:
    """What each slot takes of the image, on a checkerboard: K of [h, w, 3]."""
    image = visualize.to_uint8(self.found.images[0])
    return [
      palette.on_checkerboard(image, mask) for mask in self.found.masks[0]
    ]


def find(
  trained: trained_model.TrainedModel,
  image: np.ndarray | predictions.Example,
  *,
  num_slots: int | None = None,
  num_iterations: int | None = None,
  seed: int = 0,
) -> SlotScene:
  """Finds the slots of an image.

  Args:
    trained: the model.
    image: [H, W, 3] uint8 of any size, or an example that `sample` drew.
    num_slots: K; None: the model's.
    num_iterations: T, from 1 to `MOST_ITERATIONS`; None: the model's.
    seed: of the slot noise.

  Returns:
    The scene.

  Raises:
    ValueError: on an image that is too large or no image, or on a K or T that
      the model cannot have.
  """
  options = predictions.check_options(trained, num_slots, num_iterations, 1)
  for name, most in (
    ("num_iterations", MOST_ITERATIONS),
    ("num_slots", MOST_SLOTS),
  ):
    if getattr(options, name) > max(most, getattr(trained.model, name)):
      raise ValueError(
        f"Expected {name} of at most {most}, got {getattr(options, name)}."
      )
  if isinstance(image, predictions.Example):
    example, pixels = image, visualize.to_uint8(image.input)
  else:
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
      raise ValueError(
        f"Expected at most {MOST_PIXELS} pixels, got {pixels.shape[:2]}. "
        "Scale the image down."
      )
    example = predictions.prepare(pixels, trained, "the image")
  found = predictions.run(trained, [example], options, seed=seed)
  if not isinstance(trained.model, models.SlotAttentionAutoEncoder):
    return SlotScene(found, pixels, None, None)
  images, logits = _decode_each(trained.model, trained.params, found.slots)
  return SlotScene(
    found, pixels, np.asarray(images[0]), np.asarray(logits[0, ..., 0])
  )


@functools.partial(jax.jit, static_argnums=0)
def _decode_each(model, params, slots):
  return model.apply(params, slots, method="decode_each")


def combine(
  choices: Collection[tuple[SlotScene, Collection[int]]],
) -> np.ndarray:
  """Decodes slots of one or more scenes together.

  Args:
    choices: pairs (scene, indices of its slots, from 0), all of one model.

  Returns:
    [h, w, 3] uint8. Without any slot it is gray.

  Raises:
    ValueError: if a scene has no such slot, or is a set predictor's.
  """
  images, logits = [], []
  for scene, slots in choices:
    if scene.slot_images is None or scene.alpha_logits is None:
      raise ValueError(
        f"Expected a model that paints, got {scene.found.trained.name}, which "
        "predicts properties."
      )
    slots = sorted(slots)
    if slots and not 0 <= slots[0] <= slots[-1] < scene.num_slots:
      raise ValueError(
        f"Expected slots from 0 to {scene.num_slots - 1}, got {slots}."
      )
    images.append(scene.slot_images[slots])
    logits.append(scene.alpha_logits[slots])
  painted = np.concatenate(images)  # [S, h, w, 3]
  if not len(painted):
    return visualize.to_uint8(np.zeros(painted.shape[1:], np.float32))
  alpha = np.concatenate(logits).astype(np.float32)
  alpha = np.exp(alpha - alpha.max(axis=0))
  masks = (alpha / alpha.sum(axis=0))[..., None]
  return visualize.to_uint8((masks * painted).sum(axis=0))


def sample(
  trained: trained_model.TrainedModel, seed: int
) -> predictions.Example:
  """Draws a synthetic scene of the kind that a model was trained on.

  Args:
    trained: the model.
    seed: of the scene.

  Returns:
    The image as the model sees it.

  Raises:
    ValueError: if the package draws no such scenes.
  """
  family = _family(trained.data, trained.crop)
  image = _draw(family, trained.resolution, seed)
  h, w = trained.resolution
  return predictions.Example(np.asarray(image), (h, w), (0, h, 0, w))


def _family(data: str, crop: transforms.Crop) -> Any:
  """Scenes by the name of the data, without objects that were held out."""
  known = {
    "clevr": procedural.Clevr,
    "multi_dsprites": procedural.MultiDSprites,
    "tetrominoes": procedural.Tetrominoes,
  }
  for name, family in known.items():
    if data.startswith(f"{name}_scenes"):
      options: dict[str, Any] = {"crop": crop} if name == "clevr" else {}
      if numbers := re.search(r"_(\d+)_to_(\d+)", data):
        options["num_objects"] = (int(numbers[1]), int(numbers[2]))
      return family(**options)
  raise ValueError(
    f"Expected a model of synthetic scenes for a sample, got one of {data!r}. "
    "Upload an image."
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw(family, resolution, seed):
  scene = family.sample(jax.random.key(seed))
  return family.render(scene, resolution).image
