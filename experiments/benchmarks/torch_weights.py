"""The package's parameters in the layout of the PyTorch model."""

import re
from typing import Any

import numpy as np
import torch


def to_state_dict(params: Any) -> dict[str, torch.Tensor]:
  """The package's parameters, or their gradients, under the peer's names.

  Args:
    params: the tree below `"params"`, of arrays.

  Returns:
    A dict for `Peer.load_state_dict`. PyTorch has two biases of the gates r and
    z of the GRU, of which only the sum counts: the second is 0.
  """
  state = {}
  for name, leaf in _leaves(params):
    array = np.asarray(leaf)
    if name.startswith("slot_attention.gru."):
      continue
    if name.endswith(".kernel") and array.ndim == 2:
      array = array.T
    elif name.endswith(".kernel"):
      # Both [k, k, C, F] and the transposed [k, k, F, C]: last axis first.
      array = array[::-1, ::-1].transpose(3, 2, 0, 1)
    name = re.sub(r"\.(conv|mlp|dense)_(\d+)\.", r".\1.\2.", name)
    name = re.sub(r"\.(kernel|scale)$", ".weight", name)
    state[name] = array
  gru = params["slot_attention"]["gru"]

  def in_order(x):  # Of the gates: Keras has z, r, h and PyTorch r, z, n.
    z, r, h = np.split(np.asarray(x), 3, axis=-1)
    return np.concatenate([r, z, h], axis=-1).T

  recurrent = np.asarray(gru["recurrent_bias"])
  state |= {
    "slot_attention.gru.weight_ih": in_order(gru["kernel"]),
    "slot_attention.gru.weight_hh": in_order(gru["recurrent_kernel"]),
    "slot_attention.gru.bias_ih": in_order(gru["bias"]),
    "slot_attention.gru.bias_hh": np.pad(recurrent, (2 * len(recurrent), 0)),
  }
  return {k: torch.from_numpy(v.copy()) for k, v in state.items()}


def _leaves(tree, prefix=""):
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _leaves(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value
