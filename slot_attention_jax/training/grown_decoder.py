"""The parameters of a decoder as those of a deeper and wider one.

Chen et al., `Net2Net <https://arxiv.org/abs/1511.05641>`_, 2016, section 2.4:
a new layer begins as the identity, so the larger network computes what the
smaller one did until training tells them apart.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_PREFIX = "params/decoder/conv_"
_SEED = 0


def grow(
  params: Mapping[str, np.ndarray], model: Any, target: Any
) -> dict[str, np.ndarray]:
  """Adds the layers and channels that a larger decoder has.

  The larger decoder may have layers of 1x1 kernels with stride 1 after any but
  the last layer of the trained one, and more channels in any but the last. New
  layers are the identity, which the ReLU before them leaves alone. New channels
  are random, as in a new model, and the next layer does not read them yet.

  Args:
    params: the trained model's parameters, names with slashes to arrays.
    model: the trained model.
    target: the model that is to be trained.

  Returns:
    The parameters with those of the larger decoder in place of the trained
    one's; `params` where `target` has no such decoder.
  """
  if not (hasattr(model, "decoder_strides") and type(target) is type(model)):
    return dict(params)
  old, new = _layers(model), _layers(target)
  kept = _match(old, new)
  if kept is None or old == new:
    return dict(params)
  random = np.random.default_rng(_SEED)
  grown = {n: x for n, x in params.items() if not n.startswith(_PREFIX)}
  width = None  # Channels so far that the trained decoder knows.
  for i, (channels, _, _) in enumerate(new):
    if i in kept:
      index = kept.index(i)
      kernel, bias = (
        params[f"{_PREFIX}{index}/{name}"] for name in ("kernel", "bias")
      )
      width = len(bias)
    else:
      kernel, bias = np.eye(width)[None, None], np.zeros(width)
    inputs = kernel.shape[3] if i == 0 else new[i - 1][0]
    kernel = _widened(kernel, channels, inputs, random)
    grown[f"{_PREFIX}{i}/kernel"] = kernel.astype(np.float32)
    bias = np.pad(bias, (0, channels - len(bias)))
    grown[f"{_PREFIX}{i}/bias"] = bias.astype(np.float32)
  return grown


def _layers(model: Any) -> list[tuple[int, int, int]]:
  """Channels, kernel size and stride of each layer of a decoder."""
  channels = (*model.decoder_channels, model.decoder_output_channels + 1)
  sizes, strides = model.decoder_kernel_sizes, model.decoder_strides
  return list(zip(channels, sizes, strides, strict=True))


def _match(old, new) -> list[int] | None:
  """Index in `new` of each layer of `old`; None if there is none for one."""
  kept = [0]
  for _, *shape in old[1:-1]:
    later = range(kept[-1] + 1, len(new) - 1)
    found = [i for i in later if list(new[i][1:]) == shape]
    if not found:
      return None
    kept.append(found[0])
  kept.append(len(new) - 1)
  added = [new[i][1:] == (1, 1) for i in range(len(new)) if i not in kept]
  width, wide = 0, True
  for i, (channels, _, _) in enumerate(new[:-1]):
    width = old[kept.index(i)][0] if i in kept else width
    wide = wide and channels >= width
  fits = all(added) and wide and old[-1][0] == new[-1][0]
  return kept if fits else None


def _widened(kernel, outputs: int, inputs: int, random) -> np.ndarray:
  """A kernel [k, k, F, C] with more outputs, random, and inputs, unread."""
  size, _, old_outputs, old_inputs = kernel.shape
  limit = math.sqrt(6 / (size**2 * (outputs + inputs)))  # Glorot's.
  shape = (size, size, outputs - old_outputs, inputs)
  unread = ((0, 0), (0, 0), (0, 0), (0, inputs - old_inputs))
  added = random.uniform(-limit, limit, shape)
  return np.concatenate([np.pad(kernel, unread), added], axis=2)
