"""Parameters to start a training from, those of a model for smaller images too.

Most of what slots learn does not depend on the size of the images: a model of
small images, which is cheap to train, is a start for one of large images.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from slot_attention_jax.models import from_config
from slot_attention_jax.runtime import shapes

_MOST_LINES = 10
_MOMENTS = "params/moments/kernel"
# Options of models that no key of the config's `model` group sets alone.
_NO_KEYS = (
  *("dtype", "param_dtype", "num_properties", "decoder_output_channels"),
  *("decoder_output_size", "layer_norm_epsilon", "encoder_layer_norm_epsilon"),
)


@dataclasses.dataclass(frozen=True)
class _Layer:
  """A layer that touches pixels.

  Attributes:
    kernel: path of its kernel.
    sizes: the model's setting of kernel sizes.
    strides: the model's setting of strides.
    index: of the layer in both.
    sums: whether an output is a sum over pixels, not a pixel.
  """

  kernel: str
  sizes: str
  strides: str
  index: int
  sums: bool


@dataclasses.dataclass(frozen=True, eq=False)
class InitialWeights:
  """Where a training starts.

  Attributes:
    params: parameters of its model.
    source: `train.initial_weights`.
    step: training steps that the source had done.
    parameters_sha256: `weights_file.parameters_checksum` of the source's.
  """

  params: Any
  source: str
  step: int
  parameters_sha256: str

  def record(self) -> dict[str, Any]:
    """What `metadata.json` keeps of them."""
    names = ("source", "step", "parameters_sha256")
    return {name: getattr(self, name) for name in names}


def fit(
  params: Mapping[str, Any], model: Any, target: Any, expected: Any, source: str
) -> dict[str, Any]:
  """Parameters of a trained model as those of another one.

  The other model may be for images `n` times as large: with the first stride
  and kernel of the encoder, and the last of the decoder, `n` times those of the
  trained model, and all else the same. Each value of these two kernels is then
  repeated `n` times along both axes. So the encoder computes from an image what
  it did from the means of its squares of `n` by `n` pixels, and the decoder
  paints such squares, until training tells their pixels apart. This is exact if
  `n` times (kernel - stride) is even for both layers, or `n` is odd; else it is
  shifted by half a pixel. A `background_grid` spans the image from corner to
  corner either way.

  A set predictor may have `attention_moments` where the trained one has none:
  their kernel begins as zeros, as without initial weights.

  Args:
    params: `{"params": ...}` of the trained model, nested dicts of arrays.
    model: the trained model.
    target: the model that is to be trained.
    expected: its parameters, or their shapes.
    source: what the parameters are, for messages.

  Returns:
    Parameters with the names and shapes of `expected`, NumPy arrays of float32.

  Raises:
    ValueError: if names or shapes do not fit.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import slot_attention_jax as sa
    >>> from slot_attention_jax.training import initial_weights
    >>> model, params = sa.load_pretrained("quickstart")
    >>> larger = model.clone(
    ...   resolution=(56, 56),
    ...   encoder_strides=(4, 1, 1), encoder_kernel_sizes=(12, 5, 5),
    ...   decoder_strides=(1, 1, 1, 4), decoder_kernel_sizes=(5, 1, 5, 12))
    >>> shapes = jax.eval_shape(
    ...   larger.init, jax.random.key(0), jnp.zeros((1, 56, 56, 3)))
    >>> params = initial_weights.fit(
    ...   params, model, larger, shapes, "quickstart")
    >>> params["params"]["encoder"]["conv_0"]["kernel"].shape
    (12, 12, 3, 32)
  """
  given = traverse_util.flatten_dict(dict(params), sep="/")
  given = {name: np.asarray(x, dtype="float32") for name, x in given.items()}
  for layer in _pixel_layers(given):
    factor = _factor(layer, model, target)
    if factor > 1:
      kernel = given[layer.kernel].repeat(factor, axis=0).repeat(factor, axis=1)
      given[layer.kernel] = kernel / factor**2 if layer.sums else kernel
  wanted: dict[str, Any] = traverse_util.flatten_dict(
    jax.tree.map(np.shape, dict(expected)), sep="/"
  )
  if _MOMENTS in wanted and _MOMENTS not in given:
    given[_MOMENTS] = np.zeros(wanted[_MOMENTS], "float32")
  _check(given, wanted, model, target, source)
  return traverse_util.unflatten_dict(given, sep="/")


def check_config(trained: Any, config: Any) -> None:
  """Checks what a config alone says about weights to start from.

  Parameters do not depend on the size of the images, and on the data only in
  the size of the property vectors, which is not checked.

  Args:
    trained: the trained model, with `name`, `model` and `params`.
    config: the resolved config.

  Raises:
    ValueError: if names or shapes do not fit.
  """
  size = tuple(config.data.resolution)
  if config.task == "discovery":  # Any size that the decoder covers.
    scale = math.prod(config.model.decoder_strides)
    size = tuple(side * scale for side in config.model.broadcast_size)
  target = from_config.create_model(
    config.task,
    config.model,
    resolution=size,
    num_properties=getattr(trained.model, "num_properties", 1),
  )
  image = jnp.zeros((1, *size, 3))
  expected = shapes.of(target.init, jax.random.key(0), image)
  fit(trained.params, trained.model, target, expected, trained.name)


def _pixel_layers(params: Mapping[str, Any]) -> list[_Layer]:
  """The first layer of the encoder and the last of the decoder, if any."""
  layers = [
    _Layer(
      "params/encoder/conv_0/kernel",
      "encoder_kernel_sizes",
      "encoder_strides",
      0,
      sums=True,
    )
  ]
  prefix = "params/decoder/conv_"
  count = len({n.split("/")[2] for n in params if n.startswith(prefix)})
  if count:
    layers.append(
      _Layer(
        f"{prefix}{count - 1}/kernel",
        "decoder_kernel_sizes",
        "decoder_strides",
        -1,
        sums=False,
      )
    )
  return [layer for layer in layers if layer.kernel in params]


def _factor(layer: _Layer, model: Any, target: Any) -> int:
  """How many times as large kernel and stride are; 1 if they differ."""
  if not hasattr(target, layer.sizes):  # It has no decoder.
    return 1
  kernel, stride = (
    getattr(target, name)[layer.index] / getattr(model, name)[layer.index]
    for name in (layer.sizes, layer.strides)
  )
  return int(kernel) if kernel == stride and kernel.is_integer() else 1


def _check(given, wanted, model, target, source: str) -> None:
  """Raises ValueError unless names and shapes are the same."""
  names = sorted(given.keys() | wanted.keys())
  got = {name: x.shape for name, x in given.items()}
  differing = {
    name.removeprefix("params/"): (wanted.get(name), got.get(name))
    for name in names
    if wanted.get(name) != got.get(name)
  }
  if not differing:
    return
  if type(model) is not type(target):
    raise ValueError(
      f"Expected a {type(target).__name__}, the model of the config's task, as "
      f"train.initial_weights, got a {type(model).__name__} from {source}. "
      "Give weights of the same task."
    )
  old, new = _settings(model), _settings(target)
  if new.get("attention_moments"):  # Weights may lack them: see `fit`.
    old["attention_moments"] = True
  rows = [
    (f"model.{name}", new[name], old[name])
    for name in old
    if old[name] != new[name]
  ] or [(name, *pair) for name, pair in differing.items()]
  table = [f"  {name}: {new}, in the weights {old}" for name, new, old in rows]
  if len(table) > _MOST_LINES:
    table[_MOST_LINES:] = [f"  and {len(table) - _MOST_LINES} more"]
  raise ValueError(
    "Expected weights of the config's model as train.initial_weights, got "
    f"those of another one from {source}:\n\n" + "\n".join(table) + "\n\n"
    "Set the keys that change its parameters to the weights' values. For "
    "images n times as large, the first of model.encoder_strides and "
    "encoder_kernel_sizes, and the last of decoder_strides and "
    "decoder_kernel_sizes, are n times the weights'."
  )


def _settings(model: Any) -> dict[str, Any]:
  """A model's options that are keys of the config's `model` group."""
  settings = {
    name: getattr(model, name)
    for name in model.options()
    if name not in _NO_KEYS and not name.startswith("background_")
  }
  if hasattr(model, "attention_moments"):
    settings["attention_moments"] = model.attention_moments
  if hasattr(model, "background"):
    settings["background_grid"] = getattr(model.background, "grid", 0)
    settings["background_logit"] = getattr(model.background, "logit", 0.0)
  return settings
