"""What a trained model makes of images."""

import dataclasses

import numpy as np

from slot_attention_jax.evaluation import placement
from slot_attention_jax.predict import trained_model


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
  """What a model makes of B images. Slots are numbered from 1 in pictures.

  Attributes:
    trained: the model.
    num_slots: K.
    num_iterations: T.
    images: [B, h, w, 3] in [-1, 1], as the model saw them.
    sizes: (H, W) of each image as it was given.
    windows: of each, the part that the model saw, (top, bottom, left, right).
    masks: [B, K, h, w] in [0, 1], sum to 1 over K: the decoder's masks, of set
      predictors the attention of the last iteration, upsampled.
    attention: [B, T, K, n, m] of each iteration on the encoder's grid (n, m).
    slots: [B, K, D].
    reconstruction: [B, h, w, 3] in [-1, 1]; None of set predictors.
    slot_images: [B, K, h, w, 3], what each slot decodes to; None of set
      predictors.
    predictions: [B, K, P] property vectors in [0, 1]; None of autoencoders.
  """

  trained: trained_model.TrainedModel
  num_slots: int
  num_iterations: int
  images: np.ndarray
  sizes: tuple[tuple[int, int], ...]
  windows: tuple[placement.Window, ...]
  masks: np.ndarray
  attention: np.ndarray
  slots: np.ndarray
  reconstruction: np.ndarray | None = None
  slot_images: np.ndarray | None = None
  predictions: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.images)

  @property
  def segments(self) -> np.ndarray:
    """[B, h, w] uint8, the number in 1 to K of the slot with the most mask."""
    return placement.slot_numbers(self.masks)

  def masks_in_image(self, i: int) -> np.ndarray:
    """Masks [K, H, W] of image i at its own size; 0 outside the window."""
    return placement.to_image(self.masks[i], self.sizes[i], self.windows[i])

  def segments_in_image(self, i: int) -> np.ndarray:
    """As `segments`, [H, W] uint8 of image i; 0 outside the window."""
    return placement.slot_numbers(self.masks_in_image(i))

  def objects(self, i: int) -> dict[str, np.ndarray]:
    """Decodes the predictions for image i.

    Args:
      i: index of the image.

    Returns:
      The properties of each slot [K, ...] in the data's units, see
      `PropertyLayout.decode`, and `pixel` [K, 2]: column and row in the image
      as it was given. `pixels_from` says what `pixel` is.

    Raises:
      ValueError: if the model is no set predictor.
    """
    layout = self.trained.layout
    if layout is None or self.predictions is None:
      raise ValueError(
        f"Expected a set predictor, got {self.trained.name}, which segments. "
        "Read `masks`."
      )
    decoded = layout.decode(self.predictions[i])
    found = {k: np.asarray(v) for k, v in decoded.items()}
    if self.pixels_from == "camera":
      found["pixel"] = placement.project(found["coords"], self.sizes[i])
    else:
      found["pixel"] = placement.attention_centers(
        self.attention[i, -1], self.windows[i]
      )
    return found

  @property
  def pixels_from(self) -> str:
    """How `objects` finds pixels.

    `"camera"`: coordinates, projected by the mean camera of the model's data;
    `"attention"`: centers of the last iteration's attention.
    """
    known = placement.has_camera(self.trained.data, self.trained.layout)
    return "camera" if known else "attention"
