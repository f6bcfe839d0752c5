"""Parameters in PyTorch's layout, and the twin of a model in PyTorch.

The twin's modules (`interop.pytorch_twin`) have the names of those in Flax:
`encoder/conv_0/kernel` is `encoder.conv.0.weight`. Only `create_twin` needs
PyTorch. Other projects' weights are read by `interop.pytorch_ports`.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import linen as nn
from flax import traverse_util

from slot_attention_jax import models
from slot_attention_jax.models import set_predictor
from slot_attention_jax.modules import background as background_lib
from slot_attention_jax.modules import decoder as decoder_lib
from slot_attention_jax.modules import encoder as encoder_lib
from slot_attention_jax.modules import slot_attention as slot_attention_lib

_GRU = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
_TORCH_GRU = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def params_to_pytorch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Converts Flax parameters to a state dict of the twin in PyTorch.

  Args:
    params: `{"params": ...}` of `SlotAttention`, `SlotAttentionAutoEncoder` or
      `SlotAttentionClassifier` with the paper's parts.

  Returns:
    float32 arrays by PyTorch's names. Of the two biases that PyTorch has for
    the reset and update gates of the GRU the second is zero: only their sum
    matters.

  Raises:
    ValueError: if `params` has no key `"params"`.

  Example:
    >>> import slot_attention_jax as sa
    >>> from slot_attention_jax.interop import pytorch
    >>> _, params = sa.load_pretrained("quickstart")
    >>> pytorch.params_to_pytorch(params)["slot_attention.gru.bias_ih"].shape
    (192,)
  """
  if "params" not in params:
    raise ValueError(
      f"Expected a dict with the key 'params', got {sorted(params)}. Pass what "
      "model.init returns."
    )
  flat = traverse_util.flatten_dict(params["params"], sep=".")
  flat = {str(k): np.asarray(v, np.float32) for k, v in flat.items()}
  state = {}
  for gru in _grus(flat, "recurrent_kernel"):
    arrays = [flat.pop(gru + name) for name in _GRU]
    values = gru_to_pytorch(*arrays)
    state |= {gru + k: v for k, v in zip(_TORCH_GRU, values, strict=True)}
  for name, array in flat.items():
    if name.endswith(".kernel"):
      # Of a convolution, transposed or not: the last axis first.
      array = array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)
    name = re.sub(r"(conv|mlp|dense)_(\d+)\.", r"\1.\2.", name)
    state[re.sub(r"\.(kernel|scale)$", ".weight", name)] = array
  # Copies, as PyTorch wants writable memory.
  return {k: np.array(v, order="C") for k, v in state.items()}


def params_from_pytorch(state_dict: Mapping[str, Any]) -> dict[str, Any]:
  """Converts a state dict of the twin to Flax parameters.

  The inverse of `params_to_pytorch`.

  Args:
    state_dict: tensors or arrays by name.

  Returns:
    `{"params": ...}`, nested dicts of float32 NumPy arrays.

  Raises:
    ValueError: if parameters of the GRU are missing.

  Example:
    >>> import numpy as np
    >>> import slot_attention_jax as sa
    >>> from slot_attention_jax.interop import pytorch
    >>> _, params = sa.load_pretrained("quickstart")
    >>> state = pytorch.params_to_pytorch(params)
    >>> back = pytorch.params_from_pytorch(state)["params"]["encoder"]
    >>> kernel = params["params"]["encoder"]["conv_0"]["kernel"]
    >>> np.array_equal(back["conv_0"]["kernel"], kernel)
    True
  """
  state = {name: to_numpy(value) for name, value in state_dict.items()}
  flat = {}
  for gru in _grus(state, "weight_hh"):
    missing = [n for n in _TORCH_GRU if gru + n not in state]
    if missing:
      raise ValueError(f"Expected {missing} of {gru or 'the GRU'}, got none.")
    arrays = [state.pop(gru + name) for name in _TORCH_GRU]
    values = gru_from_pytorch(*arrays)
    flat |= {gru + k: v for k, v in zip(_GRU, values, strict=True)}
  for name, array in state.items():
    if name.endswith(".weight"):
      ours = "scale" if array.ndim == 1 else "kernel"
      name = f"{name.removesuffix('weight')}{ours}"
      array = array.T if array.ndim < 3 else array.transpose(2, 3, 1, 0)
    flat[re.sub(r"(conv|mlp|dense)\.(\d+)\.", r"\1_\2.", name)] = array
  flat = {k: np.ascontiguousarray(v) for k, v in flat.items()}
  return {"params": traverse_util.unflatten_dict(flat, sep=".")}


def create_twin(model: nn.Module, params: Mapping[str, Any]) -> Any:
  """Makes the model in PyTorch, with its parameters.

  Args:
    model: `SlotAttention`, `SlotAttentionAutoEncoder` or
      `SlotAttentionClassifier`, with the paper's parts.
    params: its parameters.

  Returns:
    A `torch.nn.Module` of `interop.pytorch_twin`: same outputs, images
    [B, 3, H, W]. Pass `noise` [B, K, D] to both to get the same initial slots.

  Raises:
    ValueError: on parts or fields that the twin does not have.
    ModuleNotFoundError: if PyTorch is not installed.
  """
  import torch

  from slot_attention_jax.interop import pytorch_twin

  state = params_to_pytorch(params)
  if isinstance(model, slot_attention_lib.SlotAttention):
    features = state["norm_inputs.weight"].size
    twin = _slot_attention(pytorch_twin, model, features)
  else:
    twin = _model(pytorch_twin, model, state)
  twin.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
  return twin.eval()


def _model(twin: Any, model: Any, state: Mapping[str, np.ndarray]) -> Any:
  """The autoencoder or the classifier, without its parameters."""
  _check_type(model.encoder, encoder_lib.CNNEncoder)
  _check_type(model.slot_attention, slot_attention_lib.SlotAttention)
  encoder = twin.Encoder(
    model.encoder_channels,
    model.encoder_kernel_sizes,
    model.encoder_strides,
    model.encoder_mlp_sizes,
    model.encoder_layer_norm_epsilon,
  )
  features = state["slot_attention.norm_inputs.weight"].size
  slots = _slot_attention(twin, model.slot_attention, features)
  if isinstance(model, models.SlotAttentionClassifier):
    _check_type(model.head, set_predictor.PropertyHead)
    head = twin.Head(
      model.slot_size, model.num_properties, model.head_hidden_size
    )
    return twin.Classifier(encoder, slots, head, model.attention_moments)
  _check_type(model, models.SlotAttentionAutoEncoder)
  _check_type(model.decoder, decoder_lib.SpatialBroadcastDecoder)
  if model.decoder_output_channels != 3:
    raise ValueError(
      "Expected an autoencoder of RGB images for the twin, got "
      f"{model.decoder_output_channels} channels."
    )
  decoder = twin.Decoder(
    model.slot_size,
    model.broadcast_size,
    model.decoder_channels,
    model.decoder_kernel_sizes,
    model.decoder_strides,
    model.decoder_output_size,
  )
  background = model.background
  if background is not None:
    _check_type(background, background_lib.SmoothBackground)
    background = twin.SmoothBackground(
      model.slot_size,
      background.grid,
      background.hidden_size,
      background.logit,
    )
  return twin.AutoEncoder(encoder, slots, decoder, background)


def _slot_attention(twin: Any, module: Any, num_features: int) -> Any:
  if module.slot_update != "gru":
    raise ValueError(
      "Expected slot_update='gru' for the twin, got "
      f"{module.slot_update!r}. It has no ablations of the update."
    )
  return twin.SlotAttention(
    module.num_slots,
    num_features,
    module.slot_size,
    module.num_iterations,
    module.mlp_hidden_size or 0,
    module.epsilon,
    module.slot_init,
    module.layer_norm_epsilon,
    module.normalization,
  )


def _check_type(part: Any, expected: type) -> None:
  if type(part) is not expected:
    raise ValueError(
      f"Expected {expected.__name__} for the twin, got {type(part).__name__}. "
      "Write your part in PyTorch, and convert its parameters with "
      "params_to_pytorch."
    )


def to_numpy(value: Any) -> np.ndarray:
  """A tensor, on any device, or an array as float32."""
  if hasattr(value, "detach"):
    value = value.detach().cpu().float().numpy()
  return np.array(value, np.float32)


def gru_to_pytorch(
  kernel: np.ndarray,
  recurrent_kernel: np.ndarray,
  bias: np.ndarray,
  recurrent_bias: np.ndarray,
) -> tuple[np.ndarray, ...]:
  """Parameters of our `GRUCell` as those of `torch.nn.GRUCell`."""
  d = recurrent_bias.size
  return (
    _swap_gates(kernel).T,
    _swap_gates(recurrent_kernel).T,
    _swap_gates(bias),
    np.pad(recurrent_bias, (2 * d, 0)),
  )


def gru_from_pytorch(
  weight_ih: np.ndarray,
  weight_hh: np.ndarray,
  bias_ih: np.ndarray,
  bias_hh: np.ndarray,
) -> tuple[np.ndarray, ...]:
  """The inverse of `gru_to_pytorch`: only sums of the gates' biases matter."""
  d = bias_hh.size // 3
  gates = bias_hh.copy()
  gates[2 * d :] = 0
  return (
    _swap_gates(weight_ih.T),
    _swap_gates(weight_hh.T),
    _swap_gates(bias_ih + gates),
    bias_hh[2 * d :],
  )


def _swap_gates(x: np.ndarray) -> np.ndarray:
  """Keras' order z, r, h as PyTorch's r, z, n, or back."""
  z, r, h = np.split(x, 3, axis=-1)
  return np.concatenate([r, z, h], axis=-1)


def _grus(names: Mapping[str, Any], parameter: str) -> list[str]:
  """What the names of each GRU begin with, `""` or `"slot_attention.gru."`."""
  return [n.removesuffix(parameter) for n in names if n.endswith(parameter)]
