"""Names and shapes of the reference implementation's variables, and ours.

One table per part of a network, from which both directions of the conversion
and their checks follow.

References:
  github.com/google-research/google-research, `slot_attention/model.py`.
"""

import collections
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Variable(NamedTuple):
  """One variable of a network.

  Attributes:
    ours: path in the Flax tree.
    theirs: path in the reference's checkpoint.
    shape: its axes, each a number or a letter for a size that must agree
      between variables, if need be times a number: `"D 3D"`.
  """

  ours: str
  theirs: str
  shape: str


def _layer(ours: str, theirs: str, kernel: str) -> list[Variable]:
  """Kernel and bias of a dense layer or a convolution."""
  return [
    Variable(f"{ours}/kernel", f"{theirs}/kernel", kernel),
    Variable(f"{ours}/bias", f"{theirs}/bias", kernel.split()[-1]),
  ]


def _norm(ours: str, theirs: str, size: str) -> list[Variable]:
  """Scale and bias of a layer normalization."""
  return [
    Variable(f"{ours}/scale", f"{theirs}/gamma", size),
    Variable(f"{ours}/bias", f"{theirs}/beta", size),
  ]


def _slot_attention(prefix: str, has_mlp: bool) -> list[Variable]:
  """Slot Attention: F input features, slot size D, M units in the MLP."""
  variables = [
    Variable("slots_mu", "slots_mu", "1 1 D"),
    Variable("slots_log_sigma", "slots_log_sigma", "1 1 D"),
    *_norm("norm_inputs", "norm_inputs", "F"),
    *_norm("norm_slots", "norm_slots", "D"),
    Variable("project_q/kernel", "project_q/kernel", "D D"),
    Variable("project_k/kernel", "project_k/kernel", "F D"),
    Variable("project_v/kernel", "project_v/kernel", "F D"),
    Variable("gru/kernel", "gru/kernel", "D 3D"),
    Variable("gru/recurrent_kernel", "gru/recurrent_kernel", "D 3D"),
    Variable("gru/bias", "gru/bias", "2 3D"),
  ]
  if has_mlp:
    variables += _norm("norm_mlp", "norm_mlp", "D")
    variables += _layer("mlp_0", "mlp/layer_with_weights-0", "D M")
    variables += _layer("mlp_1", "mlp/layer_with_weights-1", "M D")
  return [
    Variable(prefix + v.ours, prefix + v.theirs, v.shape) for v in variables
  ]


def _encoder(num_layers: int) -> list[Variable]:
  """Encoder: layer i has C{i + 1} channels; its MLP has E units."""
  variables = []
  for i in range(num_layers):
    theirs = f"encoder_cnn/layer_with_weights-{i}"
    shape = f"Y{i} X{i} C{i} C{i + 1}"
    variables += _layer(f"encoder/conv_{i}", theirs, shape)
  last = f"C{num_layers}"
  position = "encoder/position/dense"
  variables += _layer(position, "encoder_pos/dense", f"4 {last}")
  variables += _norm("encoder/norm", "layer_norm", last)
  mlp = "mlp/layer_with_weights"
  variables += _layer("encoder/mlp_0", f"{mlp}-0", f"{last} E")
  variables += _layer("encoder/mlp_1", f"{mlp}-1", "E F")
  return variables


def _decoder(num_layers: int) -> list[Variable]:
  """Decoder: layer i has G{i} channels, layer 0 decodes slots, G0 = D."""
  variables = _layer("decoder/position/dense", "decoder_pos/dense", "4 D")
  for i in range(num_layers):
    ours, theirs = f"decoder/conv_{i}", f"decoder_cnn/layer_with_weights-{i}"
    inputs = f"G{i}" if i else "D"
    # A transposed convolution: kernel [H, W, outputs, inputs].
    kernel = f"V{i} U{i} G{i + 1} {inputs}"
    variables += [
      Variable(f"{ours}/kernel", f"{theirs}/kernel", kernel),
      Variable(f"{ours}/bias", f"{theirs}/bias", f"G{i + 1}"),
    ]
  return variables


def _count(paths: set[str], pattern: str) -> int:
  """The number of layers whose paths start with `pattern`, at least 1."""
  found = {m[1] for path in paths if (m := re.match(pattern, path))}
  # At least 1, so that the error for a network without any names what it lacks.
  return max(len(found), 1)


def network(paths: set[str], ours: bool) -> list[Variable]:
  """Lists the variables of the network that has these paths.

  Args:
    paths: paths of the network's variables; some may be missing.
    ours: whether the paths are those of the Flax tree.

  Returns:
    All variables of that kind of network, with as many layers as are found.

  Raises:
    ValueError: if the paths belong to no network or to two.

  Example:
    >>> from slot_attention_jax.interop import reference_variables
    >>> variables = reference_variables.network({"slots_mu"}, ours=True)
    >>> variables[2]
    Variable(ours='norm_inputs/scale', theirs='norm_inputs/gamma', shape='F')
  """
  roots = {path.split("/")[0] for path in paths}
  decoder, head, encoder_layer, decoder_layer = (
    ("decoder", "head", r"encoder/conv_(\d+)/", r"decoder/conv_(\d+)/")
    if ours
    else (
      "decoder_cnn",
      "mlp_classifier",
      r"encoder_cnn/layer_with_weights-(\d+)/",
      r"decoder_cnn/layer_with_weights-(\d+)/",
    )
  )
  if decoder in roots and head in roots:
    raise ValueError(
      f"Expected either {decoder!r} (an autoencoder) or {head!r} (a "
      "classifier), got both. Convert one network at a time."
    )
  module = "" if not {decoder, head} & roots else "slot_attention/"
  if not module and "slot_attention" in roots:
    raise ValueError(
      f"Expected {decoder!r} (an autoencoder) or {head!r} (a classifier) "
      f"beside 'slot_attention', got {sorted(roots)}."
    )
  mlp = ("mlp_0/", "mlp_1/", "norm_mlp/") if ours else ("mlp/", "norm_mlp/")
  starts = tuple(module + start for start in mlp)
  has_mlp = any(path.startswith(starts) for path in paths)
  variables = _slot_attention(module, has_mlp)
  if module:
    variables += _encoder(_count(paths, encoder_layer))
  if decoder in roots:
    variables += _decoder(_count(paths, decoder_layer))
  elif head in roots:
    theirs = "mlp_classifier/layer_with_weights"
    variables += _layer("head/dense_0", f"{theirs}-0", "D H")
    variables += _layer("head/dense_1", f"{theirs}-1", "H P")
  return variables


def _sizes(text: str) -> list[tuple[int, str]]:
  """The axes of a shape, "2 3D" -> [(2, ""), (3, "D")]."""
  axes = [re.fullmatch(r"(\d*)(\w*)", axis) for axis in text.split()]
  return [(int(m[1] or 1), m[2]) for m in axes if m]


def check_shapes(
  variables: list[Variable], arrays: Mapping[str, np.ndarray]
) -> None:
  """Checks that the shapes of a network's variables fit each other.

  Args:
    variables: what `network` returns.
    arrays: the array of each variable by its path in the reference.

  Raises:
    ValueError: if some do not fit the majority; the message lists them.
  """
  # The size that most variables agree on is right: the others are listed.
  votes = collections.defaultdict(collections.Counter)
  for variable in variables:
    axes, shape = _sizes(variable.shape), arrays[variable.theirs].shape
    if len(axes) == len(shape):
      for (factor, letter), size in zip(axes, shape, strict=True):
        votes[letter][size // factor] += 1
  sizes = {letter: v.most_common(1)[0][0] for letter, v in votes.items()}
  sizes[""] = 1
  wrong = []
  for variable in variables:
    shape = arrays[variable.theirs].shape
    axes = _sizes(variable.shape)
    expected = tuple(f * sizes[n] if n in sizes else n for f, n in axes)
    if shape != expected:
      wrong.append(
        f"{variable.ours} ({variable.theirs} in TensorFlow): expected "
        f"{list(expected)}, got {list(shape)}"
      )
  if wrong:
    raise ValueError(
      "Variables whose shapes do not fit the others: " + "; ".join(wrong) + "."
    )


def check_names(expected: set[str], got: set[str]) -> None:
  """Checks that a network has exactly the variables it should have.

  Args:
    expected: the paths it should have.
    got: the paths it has.

  Raises:
    ValueError: if they differ; the message lists missing and unexpected paths.
  """
  missing, unexpected = sorted(expected - got), sorted(got - expected)
  if missing or unexpected:
    raise ValueError(
      f"Expected the {len(expected)} variables of this network; missing: "
      f"{missing}; unexpected: {unexpected}."
    )
