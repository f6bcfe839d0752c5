"""`model.preset`: a working architecture from the size of the images.

The encoder halves the image until slots attend to a grid whose side is a
fraction of the image's; the decoder broadcasts slots to the same grid and
doubles it as often. So no broadcast size has to be computed.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

DERIVED = (
  "model.encoder_channels",
  "model.encoder_kernel_sizes",
  "model.encoder_strides",
  "model.encoder_mlp_sizes",
  "model.broadcast_size",
  "model.decoder_channels",
  "model.decoder_kernel_sizes",
  "model.decoder_strides",
)
"""The keys that a preset decides."""
_STRIDES = (1, 2, 4, 8)
PRESETS = (
  "",
  *(
    name + width
    for width in ("", "_wide")
    for name in ("auto", *(f"strided{stride}" for stride in _STRIDES))
  ),
)
"""What `model.preset` may be."""
# Channels of all layers, and for "auto" the most cells on a side of the grid,
# with which attention and decoder cost in proportion: for a CPU, and for a GPU.
_NARROW, _WIDE = (32, 20), (64, 40)
_FEWEST_LAYERS = 3


def resolve(config: Any, overridden: Iterable[str] = ()) -> Any:
  """Sets the architecture that `model.preset` and `data.resolution` ask for.

  Args:
    config: a whole `ConfigDict`.
    overridden: dotted keys that the user set besides.

  Returns:
    A locked copy in which the keys of `DERIVED` are set; the same architecture
    if it is resolved again. The config itself if it has no preset.

  Raises:
    ValueError: if a key that the preset decides was set besides.

  Example:
    >>> import slot_attention_jax as sa
    >>> from slot_attention_jax.config import preset
    >>> config = sa.load_config("quickstart")
    >>> config.model.preset, config.data.resolution = "strided4", (96, 64)
    >>> preset.resolve(config).model.broadcast_size
    (24, 16)
  """
  name = config.model.get("preset", "")
  if name not in PRESETS or not name:  # What it may be is checked with others.
    return config
  if both := sorted({*DERIVED}.intersection(overridden)):
    raise ValueError(
      f"Expected model.preset={name!r} or the keys that it decides, got both: "
      f"{', '.join(both)}. Leave one out; model.preset= decides nothing."
    )
  values = architecture(name, tuple(config.data.resolution))
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(values)
  return config.lock()


def architecture(name: str, resolution: tuple[int, int]) -> dict[str, Any]:
  """The values of `DERIVED`.

  Args:
    name: out of `PRESETS`, not empty.
    resolution: (H, W) of the images.

  Returns:
    The values by key.
  """
  stride = _stride(name, resolution)
  width, _ = _budget(name)
  halvings = int(math.log2(stride))
  layers = max(_FEWEST_LAYERS, halvings + 1)
  down = (2,) * halvings + (1,) * (layers - halvings)
  up = down[::-1]
  return {
    "model.encoder_channels": (width,) * layers,
    # The first layer sees every pixel twice: 6x6 at stride 2.
    "model.encoder_kernel_sizes": (6 if stride > 1 else 5,)
    + (5,) * (layers - 1),
    "model.encoder_strides": down,
    "model.encoder_mlp_sizes": (128, 64),
    # Sides that are no multiples of the stride: the grid covers the image.
    "model.broadcast_size": tuple(-(-side // stride) for side in resolution),
    "model.decoder_channels": (width,) * (layers - 1),
    "model.decoder_kernel_sizes": tuple(6 if s == 2 else 5 for s in up),
    "model.decoder_strides": up,
  }


def _stride(name: str, resolution: tuple[int, int]) -> int:
  """Side of the image over side of the grid."""
  if match := re.fullmatch(r"strided(\d)(_wide)?", name):
    return int(match[1])
  _, cells = _budget(name)
  small = [s for s in _STRIDES if max(resolution) <= s * cells]
  return min(small, default=_STRIDES[-1])


def _budget(name: str) -> tuple[int, int]:
  return _WIDE if name.endswith("_wide") else _NARROW
