"""What both models share: an encoder, slots, and how parts become a model."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
from flax import linen as nn

from slot_attention_jax.modules import encoder as encoder_lib

# Fields that keep their name as an option of the model; others are prefixed
# with the name of their part, unless that is `slot_attention`.
_UNPREFIXED = ("broadcast_size", "num_properties", "dtype", "param_dtype")
# Names that options had before.
_RENAMED = {"slot_start": "slot_init"}


def part_options(part: str, module: nn.Module) -> dict[str, str]:
  """Names that the fields of a part have as options of the whole model.

  Args:
    part: the model's field that holds the part, such as `"encoder"`.
    module: the part.

  Returns:
    The fields by the names of their options.

  Example:
    >>> from slot_attention_jax.models import slot_model
    >>> from slot_attention_jax.modules import encoder
    >>> options = slot_model.part_options("encoder", encoder.CNNEncoder())
    >>> options["encoder_channels"]
    'channels'
  """
  fields = [field.name for field in dataclasses.fields(module)]
  return {
    field
    if part == "slot_attention" or field in _UNPREFIXED
    else f"{part}_{field}": field
    for field in fields
    if field not in ("parent", "name")
  }


def _set_options(
  parts: Mapping[str, nn.Module], options: Mapping[str, Any]
) -> dict[str, nn.Module]:
  """Sets each option in all parts that have it; returns changed copies."""
  names = {part: part_options(part, parts[part]) for part in parts}
  unknown = set(options).difference(*names.values())
  if unknown:
    known = sorted(set().union(*names.values()))
    close = difflib.get_close_matches(sorted(unknown)[0], known, n=1)
    raise TypeError(
      f"Expected options out of {known}, got {sorted(unknown)}."
      + (f" Did you mean {close[0]!r}?" if close else "")
    )
  changed = dict(parts)
  for part, fields in names.items():
    updates = {fields[k]: v for k, v in options.items() if k in fields}
    if updates:
      changed[part] = parts[part].clone(**updates)
  return changed


def init_fields(
  model: nn.Module, parts: Mapping[str, nn.Module], options: Mapping[str, Any]
) -> None:
  """The body of a model's `__init__`: sets its fields from parts and options.

  Args:
    model: the model, without fields yet.
    parts: its parts by field.
    options: other fields of the model, and fields of the parts by the names of
      `part_options`.

  Raises:
    TypeError: if an option is a field of none of them, or a part is no module.
  """
  for name, part in parts.items():
    if not isinstance(part, nn.Module):
      raise TypeError(
        f"Expected a linen module as {name}, got {part!r}. Pass an instance, "
        "not a class or a function."
      )
  options = {_RENAMED.get(k, k): v for k, v in options.items()}
  values = {
    field.name: field.default
    if field.default_factory is dataclasses.MISSING
    else field.default_factory()
    for field in dataclasses.fields(model)
  }
  own = {k: v for k, v in options.items() if k in values}
  rest = {k: v for k, v in options.items() if k not in values}
  values |= own | _set_options(parts, rest)
  missing = [k for k, v in values.items() if v is dataclasses.MISSING]
  if missing:
    raise TypeError(f"Expected values for the fields {missing}, got none.")
  for name, value in values.items():
    setattr(model, name, value)
  model.__post_init__()


class SlotModel(nn.Module):
  """An encoder whose features are bound to slots.

  Attributes:
    encoder: images [B, H, W, C] to inputs [B, N, F].
    slot_attention: (inputs, **options) to (slots, attention).
  """

  encoder: nn.Module
  slot_attention: nn.Module

  PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]]

  def __init_subclass__(cls, **kwargs):
    own_init = "__init__" in cls.__dict__
    super().__init_subclass__(**kwargs)
    # Flax has made a dataclass of the class, whose generated constructor takes
    # fields alone. Without it, subclasses inherit the one that takes options.
    if not own_init:
      del cls.__init__

  @nn.nowrap
  def options(self) -> dict[str, tuple[nn.Module, str]]:
    """The (part, field) that each option of the model stands for."""
    parts = {
      field.name: self.__dict__.get(field.name)
      for field in dataclasses.fields(self)
      if field.name != "parent"
    }
    return {
      option: (part, field)
      for name, part in parts.items()
      if isinstance(part, nn.Module)
      for option, field in part_options(name, part).items()
    }

  @nn.nowrap
  def __getattr__(self, name: str) -> Any:
    """Reads the options of the parts: `model.num_slots`."""
    name = _RENAMED.get(name, name)
    if name in (options := self.options()):
      part, field = options[name]
      return getattr(part, field)
    return super().__getattr__(name)

  @nn.nowrap
  def clone(self, **updates) -> Self:
    """Copies the model with other fields or options, and parts of its own.

    Args:
      **updates: keywords of the class, and those of `nn.Module.clone`.

    Returns:
      The copy. Bound to another parent, it shares no parameters.
    """
    if not updates.get("_deep_clone"):
      for field in dataclasses.fields(self):
        part = self.__dict__.get(field.name)
        if field.name != "parent" and isinstance(part, nn.Module):
          # Otherwise a part that is bound already stays the first model's.
          copy = part.clone(parent=None, _reset_names=True)
          updates.setdefault(field.name, copy)
    return super().clone(**updates)

  @classmethod
  def from_preset(cls, name: str, **options) -> Self:
    """The paper's architecture for one dataset.

    Args:
      name: one of `PRESETS`.
      **options: keywords of the class that differ from the preset.

    Returns:
      The module.

    Raises:
      ValueError: if there is no such preset.
    """
    if name not in cls.PRESETS:
      raise ValueError(
        f"Expected a preset of {cls.__name__} out of {sorted(cls.PRESETS)}, "
        f"got {name!r}."
      )
    return cls(**{**cls.PRESETS[name], **options})

  def encode(
    self, images: jax.Array, **slot_options
  ) -> tuple[jax.Array, jax.Array]:
    """Finds the slots of images.

    Args:
      images: [B, H, W, C] in [-1, 1], of any size that the encoder takes.
      **slot_options: keyword arguments of `SlotAttention.__call__`.

    Returns:
      A pair (slots [B, K, D], attention [B, T, K, N]).

    Raises:
      ValueError: if the images are not a batch of floats, the encoder's result
        is not [B, N, F], or slot attention does not return the pair above.
    """
    encoder_lib.check_images(images)
    inputs = self.encoder(images)
    if inputs.ndim != 3 or inputs.shape[0] != images.shape[0]:
      raise ValueError(
        f"Expected an encoder that makes inputs [B, N, F] of images "
        f"{images.shape}, got {inputs.shape} from "
        f"{type(self.encoder).__name__}. Reshape its feature map."
      )
    found = self.slot_attention(inputs, **slot_options)
    shapes = [getattr(x, "shape", None) for x in found]
    if [len(shape or ()) for shape in shapes] != [3, 4]:
      raise ValueError(
        "Expected a slot attention that gives slots [B, K, D] and attention "
        f"[B, T, K, N], got {shapes} from "
        f"{type(self.slot_attention).__name__}."
      )
    return found

  def feature_grid(
    self, resolution: tuple[int, int], num_inputs: int | None = None
  ) -> tuple[int, int]:
    """The grid (h, w) that the N inputs of slot attention lie on.

    Args:
      resolution: (H, W) of the images, in pixels.
      num_inputs: N = h * w; needed if the encoder has no method
        `feature_grid`. The grid is then that of images that are downscaled by
        an integer.

    Returns:
      (h, w).

    Raises:
      ValueError: if the encoder has no such method and N fits no such grid.
    """
    if hasattr(self.encoder, "feature_grid"):
      return self.encoder.feature_grid(resolution)
    height, width = resolution
    for factor in range(1, max(height, width) + 1):
      for h, w in (
        (-(-height // factor), -(-width // factor)),
        (height // factor, width // factor),
      ):
        if h * w == num_inputs:
          return h, w
    raise ValueError(
      f"Expected N inputs on a grid with the aspect ratio of {height} x "
      f"{width} images, got N = {num_inputs}. Give "
      f"{type(self.encoder).__name__} a method `feature_grid(resolution)` that "
      "returns (h, w)."
    )

  def grid_of(self, resolution: tuple[int, int]) -> tuple[int, int]:
    """An older name of `feature_grid`."""
    return self.feature_grid(resolution)

  def draw_noise(self, batch_size: int) -> jax.Array:
    """Noise [B, K, D] that a call draws; see `SlotAttention.draw_noise`."""
    return self.slot_attention.draw_noise(batch_size)
