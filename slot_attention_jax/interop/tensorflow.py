"""Weights of the reference implementation in TensorFlow, and ours.

The reference saves `tf.train.Checkpoint(network=model, ...)`. TensorFlow itself
is not needed: `tensorflow_checkpoint` reads its files.

References:
  github.com/google-research/google-research, `slot_attention/`: `model.py` for
  the names of the variables, `object_discovery/train.py` and
  `set_prediction/train.py` for the checkpoints.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from slot_attention_jax.interop import (
  reference_variables,
  tensorflow_checkpoint,
)

_PREFIX = "network/layer_with_weights-0/"
# What a training checkpoint holds besides the network.
_NO_WEIGHTS = re.compile(
  r"(optimizer|global_step|save_counter|_CHECKPOINTABLE_OBJECT_GRAPH)(/|$)"
  r"|.*/\.OPTIMIZER_SLOT/"
)


def _float32(name: str, value: Any) -> np.ndarray:
  try:
    return np.asarray(value, dtype=np.float32)
  except (TypeError, ValueError) as error:
    raise ValueError(f"Variable {name!r}: expected numbers: {error}") from error


def params_from_tensorflow(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Converts variables of the reference implementation to Flax parameters.

  The network is recognized by its variables: `SlotAttentionAutoEncoder` has a
  `decoder_cnn`, `SlotAttentionClassifier` a `mlp_classifier`, and anything else
  is a bare `SlotAttention`. Keras' GRU has two biases of which only the sum
  matters for the update and reset gates; ours has one there.

  Args:
    variables: arrays by path inside the network, such as
      `slot_attention/gru/kernel`, or by full name in a checkpoint, such as
      `network/layer_with_weights-0/slot_attention/gru/kernel/.ATTRIBUTES/
      VARIABLE_VALUE`. A leading `w/` is dropped. State of the optimizer and
      counters are ignored.

  Returns:
    `{"params": ...}`, nested dicts of float32 NumPy arrays, for `apply` of the
    module of the same name in this package.

  Raises:
    ValueError: if variables are missing, unexpected or of shapes that do not
      fit each other; the message lists them.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax import interop
    >>> d = 8
    >>> norms = {f"norm_{n}/{v}": np.ones(d)
    ...          for n in ("inputs", "slots") for v in ("gamma", "beta")}
    >>> params = interop.params_from_tensorflow({
    ...   **norms,
    ...   **{f"project_{n}/kernel": np.ones((d, d)) for n in "qkv"},
    ...   "slots_mu": np.ones((1, 1, d)),
    ...   "slots_log_sigma": np.ones((1, 1, d)),
    ...   "gru/kernel": np.ones((d, 3 * d)),
    ...   "gru/recurrent_kernel": np.ones((d, 3 * d)),
    ...   "gru/bias": np.ones((2, 3 * d)),
    ... })
    >>> params["params"]["gru"]["bias"][::d]
    array([2., 2., 1.], dtype=float32)
  """
  weights = {}
  for name, value in variables.items():
    if _NO_WEIGHTS.match(name):
      continue
    path = name.removesuffix(tensorflow_checkpoint.ATTRIBUTE_SUFFIX)
    path = path.removeprefix("w/").removeprefix(_PREFIX)
    if path in weights:
      raise ValueError(f"Expected one variable {path!r}, got it twice.")
    weights[path] = _float32(name, value)
  network = reference_variables.network(set(weights), ours=False)
  reference_variables.check_names({v.theirs for v in network}, set(weights))
  reference_variables.check_shapes(network, weights)
  flat = {v.ours: weights[v.theirs] for v in network}
  gru = _gru(network)
  inputs, recurrent = flat[f"{gru}/bias"]  # [3D] each.
  gates = 2 * (inputs.size // 3)  # Update z and reset r, before candidate h.
  flat[f"{gru}/bias"] = np.concatenate(
    [inputs[:gates] + recurrent[:gates], inputs[gates:]]
  )
  flat[f"{gru}/recurrent_bias"] = recurrent[gates:]
  # Copies, so that changing one side never changes the other.
  flat = {path: np.array(value) for path, value in flat.items()}
  return {"params": traverse_util.unflatten_dict(flat, sep="/")}


def _gru(network: list[reference_variables.Variable]) -> str:
  """Our path of the GRU."""
  path = next(v.ours for v in network if v.ours.endswith("gru/bias"))
  return path.removesuffix("/bias")


def params_to_tensorflow(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Converts Flax parameters to variables of the reference implementation.

  The inverse of `params_from_tensorflow`, except that the two biases that Keras
  has for the update and reset gates of the GRU become their sum and zeros,
  which computes the same. To save them for TensorFlow, assign them to the
  variables of the reference's model.

  Args:
    params: `{"params": ...}` of `SlotAttention`, `SlotAttentionAutoEncoder` or
      `SlotAttentionClassifier`.

  Returns:
    float32 arrays by path inside the reference's network, such as
    `slot_attention/gru/kernel`.

  Raises:
    ValueError: if parameters are missing, unexpected or of shapes that do not
      fit each other; the message lists them.

  Example:
    >>> from slot_attention_jax import interop
    >>> params = interop.load_tensorflow_checkpoint(
    ...   "tests/testdata/golden/official_checkpoint_set_prediction")
    >>> variables = interop.params_to_tensorflow(params)
    >>> variables["mlp_classifier/layer_with_weights-1/kernel"].shape
    (64, 19)
  """
  if "params" not in params:
    raise ValueError(
      f"Expected a dict with the key 'params', got {sorted(params)}. Pass what "
      "model.init returns."
    )
  flat = traverse_util.flatten_dict(params["params"], sep="/")
  flat = {path: _float32(path, value) for path, value in flat.items()}
  network = reference_variables.network(set(flat), ours=True)
  gru = _gru(network)
  expected = {v.ours for v in network} | {f"{gru}/recurrent_bias"}
  reference_variables.check_names(expected, set(flat))
  bias, recurrent = flat[f"{gru}/bias"], flat[f"{gru}/recurrent_bias"]
  if recurrent.ndim != 1 or bias.shape != (3 * recurrent.size,):
    raise ValueError(
      f"{gru}: expected bias [3D] and recurrent_bias [D], got "
      f"{list(bias.shape)} and {list(recurrent.shape)}."
    )
  zeros = np.zeros(2 * recurrent.size, np.float32)
  flat[f"{gru}/bias"] = np.stack([bias, np.concatenate([zeros, recurrent])])
  variables = {v.theirs: np.array(flat[v.ours]) for v in network}
  reference_variables.check_shapes(network, variables)
  return variables


def load_tensorflow_checkpoint(directory: str | os.PathLike) -> dict[str, Any]:
  """Loads a checkpoint that the reference implementation wrote.

  Args:
    directory: directory of checkpoints, whose latest is read, or the path of
      one checkpoint without `.index`, such as `.../ckpt-1`.

  Returns:
    `{"params": ...}`, as `params_from_tensorflow` returns it.

  Raises:
    FileNotFoundError: if there is no checkpoint or one of its files is missing.
    ValueError: if the files are damaged, or hold another network.

  Example:
    >>> from slot_attention_jax import interop
    >>> params = interop.load_tensorflow_checkpoint(
    ...   "tests/testdata/golden/official_checkpoint_set_prediction")
    >>> params["params"]["head"]["dense_1"]["kernel"].shape
    (64, 19)
  """
  variables = tensorflow_checkpoint.read_checkpoint(directory)
  try:
    return params_from_tensorflow(variables)
  except ValueError as error:
    raise ValueError(f"{os.fspath(directory)}: {error}") from error
