import pathlib
import re

import numpy as np
import pytest

from slot_attention_jax import interop
from slot_attention_jax.interop import tensorflow_checkpoint

GOLDEN = pathlib.Path(__file__).parents[1] / "testdata" / "golden"
AUTOENCODER = GOLDEN / "official_checkpoint_object_discovery"
CLASSIFIER = GOLDEN / "official_checkpoint_set_prediction"
PREFIX = "network/layer_with_weights-0/"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def reference_variables(kind):
  """Variables of the reference by path inside the network."""
  if kind == "module":
    with np.load(GOLDEN / "slot_attention.npz") as file:
      return {k[2:]: file[k] for k in file.files if k.startswith("w/")}
  directory = AUTOENCODER if kind == "autoencoder" else CLASSIFIER
  tensors = tensorflow_checkpoint.read_checkpoint(directory)
  return {
    k.removeprefix(PREFIX).removesuffix(SUFFIX): v
    for k, v in tensors.items()
    if k.startswith(PREFIX)
  }


@pytest.mark.parametrize("kind", ["module", "autoencoder", "classifier"])
def test_missing_and_unexpected_variables_are_listed(kind):
  variables = reference_variables(kind)
  missing = [path for path in variables if path.endswith("beta")]
  for path in missing:
    del variables[path]
  variables["norm_extra/gamma"] = np.ones(3)
  expected = f"missing: {sorted(missing)}; unexpected: ['norm_extra/gamma']"
  with pytest.raises(ValueError, match=re.escape(expected)):
    interop.params_from_tensorflow(variables)


def test_a_gap_between_layers_is_an_error():
  variables = reference_variables("classifier")
  del variables["encoder_cnn/layer_with_weights-1/kernel"]
  del variables["encoder_cnn/layer_with_weights-1/bias"]
  with pytest.raises(ValueError, match=r"missing: \['encoder_cnn/.*-1/bias'"):
    interop.params_from_tensorflow(variables)


def test_an_incomplete_mlp_is_an_error():
  variables = reference_variables("module")
  del variables["norm_mlp/gamma"], variables["norm_mlp/beta"]
  with pytest.raises(ValueError, match=r"missing: \['norm_mlp/beta'"):
    interop.params_from_tensorflow(variables)


def test_wrong_shapes_are_listed():
  variables = reference_variables("autoencoder")
  variables["slot_attention/slots_mu"] = np.zeros((1, 1, 32))
  variables["decoder_pos/dense/kernel"] = np.zeros((64, 4))
  variables["slot_attention/gru/bias"] = np.zeros(192)
  with pytest.raises(ValueError, match="do not fit") as error:
    interop.params_from_tensorflow(variables)
  message = str(error.value)
  assert message.count("expected") == 3
  assert (
    "slots_mu in TensorFlow): expected [1, 1, 64], got [1, 1, 32]" in message
  )
  assert "expected [4, 64], got [64, 4]" in message
  assert "expected [2, 192], got [192]" in message


def test_ambiguous_networks_are_errors():
  variables = reference_variables("classifier")
  both = variables | {"decoder_cnn/layer_with_weights-0/bias": np.zeros(4)}
  with pytest.raises(ValueError, match="got both"):
    interop.params_from_tensorflow(both)
  headless = {k: v for k, v in variables.items() if "classifier" not in k}
  with pytest.raises(ValueError, match="beside 'slot_attention'"):
    interop.params_from_tensorflow(headless)
  with pytest.raises(ValueError, match=r"Variable 'x': expected numbers"):
    interop.params_from_tensorflow({"x": "text"})
