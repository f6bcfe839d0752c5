"""Weights of two PyTorch ports of Slot Attention.

Neither is the reference to the letter:

* Projections to q, k and v have biases. Here that of q moves into the LayerNorm
  of the slots, that of k into the LayerNorm of the inputs, and that of v, with
  what the latter does to the values, into the bias of the GRU, as the weights
  of a slot sum to 1. Projections must be invertible.
* LayerNorm's epsilon is 1e-5, here a field.
* evelinehong's encoder normalizes all positions and channels of an image
  together, without parameters: `JointNormEncoder`.
* Its strided transposed convolutions crop one pixel more at the top and left,
  and not at the bottom and right: kernels of 6x6 with zeros do the same.
* Its decoder makes 128x128 pixels, whatever its `resolution` is, and crops.
* It stores the scale of the slots, and not its logarithm.

So outputs are equal up to rounding, for the same initial slots.

References:
  github.com/lucidrains/slot-attention, `slot_attention/slot_attention.py`;
  github.com/evelinehong/slot-attention-pytorch, `model.py`.
"""

import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from slot_attention_jax import models
from slot_attention_jax.interop import pytorch
from slot_attention_jax.modules import convolution, encoder, position
from slot_attention_jax.modules import slot_attention as slot_attention_lib

_EPSILON = 1e-5  # PyTorch's of LayerNorm.
# Solving with a matrix loses about this many digits; float32 has seven.
_MOST_CONDITION = 1e5
_MODULE = (
  "slots_mu",
  "to_q.weight",
  "to_q.bias",
  "to_k.weight",
  "to_k.bias",
  "to_v.weight",
  "to_v.bias",
  "gru.weight_ih",
  "gru.weight_hh",
  "gru.bias_ih",
  "gru.bias_hh",
  "norm_input.weight",
  "norm_input.bias",
  "norm_slots.weight",
  "norm_slots.bias",
  "norm_pre_ff.weight",
  "norm_pre_ff.bias",
)
_LAYER = ("weight", "bias")
_PARTS = ("encoder", "decoder")
_Params = dict[str, dict]


class JointNormEncoder(nn.Module):
  """The encoder of evelinehong/slot-attention-pytorch.

  As `CNNEncoder`, but all positions and channels of an image are normalized
  together, without learned parameters.

  Attributes:
    channels: output channels of each convolution of 5x5 pixels, stride 1.
    mlp_sizes: widths of the per-location MLP.
  """

  channels: Sequence[int] = (64, 64, 64, 64)
  mlp_sizes: Sequence[int] = (64, 64)

  def feature_grid(self, resolution: tuple[int, int]) -> tuple[int, int]:
    """The grid of the outputs: that of the pixels."""
    return resolution

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps images [B, H, W, C] in [-1, 1] to [B, H * W, F]."""
    encoder.check_images(images)
    x = images
    for i, features in enumerate(self.channels):
      x = nn.relu(convolution.Conv(features, 5, name=f"conv_{i}")(x))
    x = position.SoftPositionEmbed(name="position")(x)
    x = x.reshape(x.shape[0], -1, x.shape[-1])  # [B, N, C]
    mean = x.mean(axis=(1, 2), keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=(1, 2), keepdims=True)
    x = (x - mean) * jax.lax.rsqrt(variance + _EPSILON)
    for i, width in enumerate(self.mlp_sizes):
      x = nn.Dense(width, name=f"mlp_{i}")(nn.relu(x) if i else x)
    return x  # [B, N, F]


def from_lucidrains(
  state_dict: Mapping[str, object], *, num_slots: int, num_iterations: int = 3
) -> tuple[slot_attention_lib.SlotAttention, _Params]:
  """Reads the `SlotAttention` of lucidrains/slot-attention.

  Args:
    state_dict: of the module, tensors or arrays.
    num_slots: K, which the parameters do not tell.
    num_iterations: T, `iters` there.

  Returns:
    A pair (module, params): equal slots for equal inputs and initial slots.

  Raises:
    ValueError: if it is the state of another module, as of
      `MultiHeadSlotAttention`, or a projection is nearly singular, so that its
      bias cannot be absorbed.
  """
  names = [*_MODULE, "slots_logsigma"]
  names += [f"mlp.{i}.{n}" for i in (0, 2) for n in _LAYER]
  state = _checked(state_dict, names, "SlotAttention of lucidrains")
  flat = _slot_attention(state)
  flat["slots_log_sigma"] = state["slots_logsigma"]
  for i, layer in enumerate(("mlp.0", "mlp.2")):
    flat |= _dense(state, layer, f"mlp_{i}")
  module = _module(state, flat, num_slots, num_iterations)
  return module, {"params": traverse_util.unflatten_dict(flat, sep="/")}


def from_evelinehong(
  state_dict: Mapping[str, object],
  *,
  num_slots: int = 7,
  num_iterations: int = 3,
) -> tuple[models.SlotAttentionAutoEncoder, _Params]:
  """Reads the `SlotAttentionAutoEncoder` of evelinehong/slot-attention-pytorch.

  Args:
    state_dict: of the model, tensors or arrays; `module.`, which
      `nn.DataParallel` adds, is dropped.
    num_slots: K, which the parameters do not tell.
    num_iterations: T.

  Returns:
    A pair (model, params): equal outputs for equal images [B, 128, 128, 3] and
    initial slots. The port scales images to [-1, 1], too.

  Raises:
    ValueError: if it is the state of another model, `slots_sigma` is not above
      0, or a projection is nearly singular.
  """
  state_dict = {
    re.sub(r"^module\.", "", name): value for name, value in state_dict.items()
  }
  convs = [f"encoder_cnn.conv{i}" for i in range(1, 5)]
  convs += [f"decoder_cnn.conv{i}" for i in range(1, 7)]
  positions = [f"{part}_cnn.{part}_pos.embedding" for part in _PARTS]
  slots = [*_MODULE, "slots_sigma"]
  slots += [f"{layer}.{n}" for layer in ("fc1", "fc2") for n in _LAYER]
  names = [f"slot_attention.{name}" for name in slots]
  layers = [*convs, *positions, "fc1", "fc2"]
  names += [f"{layer}.{n}" for layer in layers for n in _LAYER]
  state = _checked(state_dict, names, "autoencoder of evelinehong")
  prefix = "slot_attention."
  module_state = {
    name.removeprefix(prefix): value
    for name, value in state.items()
    if name.startswith(prefix)
  }
  sigma = module_state["slots_sigma"]
  if not (sigma > 0).all():
    raise ValueError(
      "Expected slots_sigma above 0, as it is a scale, got a smallest value of "
      f"{sigma.min():g}. The port cannot sample slots from it either."
    )
  slot_flat = _slot_attention(module_state)
  slot_flat["slots_log_sigma"] = np.log(sigma)
  for i, layer in enumerate(("fc1", "fc2")):
    slot_flat |= _dense(module_state, layer, f"mlp_{i}")
  flat = {f"slot_attention/{k}": v for k, v in slot_flat.items()}
  for i, layer in enumerate(("fc1", "fc2")):
    flat |= _dense(state, layer, f"encoder/mlp_{i}")
  for part in _PARTS:
    layer = f"{part}_cnn.{part}_pos.embedding"
    flat |= _dense(state, layer, f"{part}/position/dense")
  for layer in convs:
    part, number = layer[:7], int(layer[-1]) - 1
    kernel = state[f"{layer}.weight"].transpose(2, 3, 1, 0)
    if part == "decoder" and number < 4:
      kernel = np.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    flat[f"{part}/conv_{number}/kernel"] = kernel
    flat[f"{part}/conv_{number}/bias"] = state[f"{layer}.bias"]
  width = state["encoder_cnn.conv1.bias"].size
  model = models.SlotAttentionAutoEncoder(
    encoder=JointNormEncoder((width,) * 4, (width,) * 2),
    slot_attention=_module(module_state, slot_flat, num_slots, num_iterations),
    decoder_channels=(width,) * 5,
    decoder_kernel_sizes=(6, 6, 6, 6, 5, 3),
  )
  return model, {"params": traverse_util.unflatten_dict(flat, sep="/")}


def _module(state, flat, num_slots, num_iterations):
  return slot_attention_lib.SlotAttention(
    num_slots=num_slots,
    num_iterations=num_iterations,
    slot_size=state["slots_mu"].shape[-1],
    mlp_hidden_size=flat["mlp_0/bias"].size,
    layer_norm_epsilon=_EPSILON,
  )


def _slot_attention(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """What both ports have in common, without scale and MLP."""
  wide = {name: np.asarray(value, np.float64) for name, value in state.items()}
  # What is added to the normalized slots or inputs adds the bias to q or k.
  of_slots = _solve(wide["to_q.weight"], wide["to_q.bias"], "to_q")
  of_inputs = _solve(wide["to_k.weight"], wide["to_k.bias"], "to_k")
  of_values = wide["to_v.bias"] - wide["to_v.weight"] @ of_inputs
  bias_ih = wide["gru.bias_ih"] + wide["gru.weight_ih"] @ of_values
  gru = pytorch.gru_from_pytorch(
    *(state["gru.weight_ih"], state["gru.weight_hh"]),
    *(bias_ih.astype(np.float32), state["gru.bias_hh"]),
  )
  names = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
  flat = {f"gru/{n}": v for n, v in zip(names, gru, strict=True)}
  flat |= {f"project_{x}/kernel": state[f"to_{x}.weight"].T for x in "qkv"}
  for theirs, ours, added in (
    ("norm_input", "norm_inputs", of_inputs),
    ("norm_slots", "norm_slots", of_slots),
    ("norm_pre_ff", "norm_mlp", 0.0),
  ):
    flat[f"{ours}/scale"] = state[f"{theirs}.weight"]
    bias = wide[f"{theirs}.bias"] + added
    flat[f"{ours}/bias"] = bias.astype(np.float32)
  return flat | {"slots_mu": state["slots_mu"]}


def _solve(weight: np.ndarray, bias: np.ndarray, name: str) -> np.ndarray:
  """What a projection maps to its bias; zero if it has none."""
  if not bias.any():
    return np.zeros_like(bias)
  condition = np.linalg.cond(weight)
  if not condition < _MOST_CONDITION:
    raise ValueError(
      f"Expected {name}.weight to be invertible, so that its bias can be "
      f"absorbed, got a condition number of {condition:.1e}. Set {name}.bias "
      "to zero and train it a little further there."
    )
  return np.linalg.solve(weight, bias)


def _dense(state, theirs: str, ours: str) -> dict[str, np.ndarray]:
  return {
    f"{ours}/kernel": state[f"{theirs}.weight"].T,
    f"{ours}/bias": state[f"{theirs}.bias"],
  }


def _checked(state_dict, names, what) -> dict[str, np.ndarray]:
  """The state as arrays; ValueError unless it has exactly these names."""
  missing = sorted({*names} - {*state_dict})
  unexpected = sorted({*state_dict} - {*names})
  if missing or unexpected:
    raise ValueError(
      f"Expected the state_dict of the {what}, got another one; missing: "
      f"{missing}; unexpected: {unexpected}. Pass model.state_dict() alone."
    )
  return {name: pytorch.to_numpy(value) for name, value in state_dict.items()}
