"""`sa.predict`: runs a trained model on images."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from slot_attention_jax import models
from slot_attention_jax.data import transforms
from slot_attention_jax.evaluation import placement
from slot_attention_jax.metrics import masks as masks_lib
from slot_attention_jax.predict import result, trained_model
from slot_attention_jax.tasks import task as task_lib

Predictions = result.Predictions


def predict(
  images: np.ndarray | Sequence[np.ndarray],
  model: str | os.PathLike[str] | trained_model.TrainedModel = "clevr6",
  *,
  num_slots: int | None = None,
  num_iterations: int | None = None,
  seed: int = 0,
  batch_size: int = 4,
) -> Predictions:
  """Finds the slots of images with trained weights.

  Images are cropped and resized as in the training of the model. The result
  for an image depends on its number and the seed, not on the batch size.

  Args:
    images: [B, H, W, 3] uint8, or a list of [H, W, 3] uint8 of any sizes.
    model: a name out of `pretrained_names()`, the path of a `.safetensors`
      file of `export_weights`, the directory of a run, or what
      `predict.trained_model.load` made of one of these.
    num_slots: K; None: the model's.
    num_iterations: T; None: the model's.
    seed: of the slot noise.
    batch_size: images that are computed at once.

  Returns:
    A `Predictions`, all arrays on the host.

  Raises:
    FileNotFoundError: if there is no such model.
    ValueError: on images of another shape or dtype, a model that does not
      exist, a K that it cannot have, or a seed of more than 64 bits.

  Example:
    >>> import numpy as np
    >>> import slot_attention_jax as sa
    >>> image = np.full((40, 60, 3), 128, np.uint8)
    >>> found = sa.predict([image, image[:, :50]], model="quickstart")
    >>> found.masks.shape, found.reconstruction.shape
    ((2, 5, 28, 28), (2, 28, 28, 3))
    >>> found.segments_in_image(1).shape
    (40, 50)
  """
  check_seed(seed)
  trained = model
  if not isinstance(trained, trained_model.TrainedModel):
    trained = trained_model.load(trained)
  options = check_options(trained, num_slots, num_iterations, batch_size)
  images = list(images)
  if not images:
    raise ValueError("Expected at least one image, got none.")
  examples = [
    prepare(image, trained, f"image {i}") for i, image in enumerate(images)
  ]
  return run(trained, examples, options, seed=seed)


@dataclasses.dataclass(frozen=True)
class Options:
  """How a model is run: K, T and the images that are computed at once."""

  num_slots: int
  num_iterations: int
  batch_size: int


def check_seed(seed: int) -> None:
  """Raises ValueError on a seed that JAX does not take."""
  if not -(2**63) <= seed < 2**63:
    raise ValueError(f"Expected a seed of at most 64 bits, got {seed}.")


def check_options(
  trained: trained_model.TrainedModel,
  num_slots: int | None,
  num_iterations: int | None,
  batch_size: int,
) -> Options:
  """Options with the model's own K and T for None; ValueError on bad ones."""
  model = trained.model
  options = Options(
    num_slots=model.num_slots if num_slots is None else num_slots,
    num_iterations=model.num_iterations
    if num_iterations is None
    else num_iterations,
    batch_size=batch_size,
  )
  trained.check_num_slots(options.num_slots)
  for name in ("num_iterations", "batch_size"):
    value = getattr(options, name)
    if value < 1:
      raise ValueError(f"Expected {name} of at least 1, got {value}.")
  return options


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
  """What a model sees of an image.

  Attributes:
    input: [h, w, 3] in [-1, 1].
    size: (H, W) of the image.
    window: the part of it that the input shows.
  """

  input: np.ndarray
  size: tuple[int, int]
  window: placement.Window


def prepare(
  image: np.ndarray, trained: trained_model.TrainedModel, name: str
) -> Example:
  """Makes the input of a model.

  Args:
    image: [H, W, 3] uint8.
    trained: the model.
    name: of the image, for messages.

  Returns:
    The example.

  Raises:
    ValueError: on another shape or dtype, or a crop that does not fit.
  """
  image = np.asarray(image)
  if image.ndim != 3:
    raise ValueError(
      f"Expected images [H, W, 3] uint8, got {image.shape} as {name}. Pass one "
      "batch [B, H, W, 3], or a list of images."
    )
  try:
    (pixels,) = transforms.preprocess(image, trained.resolution, trained.crop)
  except ValueError as error:
    raise ValueError(f"{name}: {error}") from error
  size = (image.shape[0], image.shape[1])
  return Example(pixels, size, transforms.crop_box(*size, trained.crop))


def run(
  trained: trained_model.TrainedModel,
  examples: Sequence[Example],
  options: Options,
  *,
  seed: int = 0,
  first: int = 0,
) -> Predictions:
  """Runs a model on examples, a batch at a time.

  Args:
    trained: the model.
    examples: at least one.
    options: K, T and the size of a batch; programs are compiled for it.
    seed: of the slot noise.
    first: number of the first example, which its noise depends on.

  Returns:
    The predictions.
  """
  inputs = np.stack([example.input for example in examples])
  key = jax.random.key(seed)
  outputs = []
  for start in range(0, len(inputs), options.batch_size):
    batch = inputs[start : start + options.batch_size]
    # Compiled once: the last batch is filled up.
    missing = options.batch_size - len(batch)
    output = _apply(
      trained.model,
      options.num_slots,
      options.num_iterations,
      trained.params,
      np.concatenate([batch, batch[-1:].repeat(missing, axis=0)]),
      key,
      np.uint32(first + start),
    )
    count = len(batch)
    outputs.append({k: np.asarray(v)[:count] for k, v in output.items()})
  arrays = {k: np.concatenate([o[k] for o in outputs]) for k in outputs[0]}
  return Predictions(
    trained=trained,
    num_slots=options.num_slots,
    num_iterations=options.num_iterations,
    images=inputs,
    sizes=tuple(example.size for example in examples),
    windows=tuple(example.window for example in examples),
    **arrays,
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _apply(model, num_slots, num_iterations, params, images, key, first):
  """Runs a model as evaluation does; returns arrays by field."""
  noise = task_lib.example_noise(
    key, first, images.shape[0], num_slots, model.slot_size
  )
  output = model.apply(
    params, images, noise=noise, num_iterations=num_iterations
  )
  size = images.shape[1:3]
  grid = model.feature_grid(size, output.attention.shape[-1])
  fields: dict[str, Any] = {
    "attention": output.attention.reshape(*output.attention.shape[:3], *grid),
    "slots": output.slots,
  }
  if isinstance(output, models.AutoEncoderOutput):
    return fields | {
      "masks": output.masks[..., 0],
      "reconstruction": output.reconstruction,
      "slot_images": output.images,
    }
  return fields | {
    "masks": masks_lib.attention_masks(output.attention[:, -1], grid, size),
    "predictions": output.predictions,
  }
