import importlib.util
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from slot_attention_jax import interop, models
from slot_attention_jax.interop import tensorflow_checkpoint
from slot_attention_jax.modules import slot_attention
from tests.interop import checkpoint_writer

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


def random_params(module, inputs):
  """Parameters of a module, all different, without running it."""
  rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  shapes = jax.eval_shape(module.init, rngs, inputs)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32), shapes
  )


MODULES = {
  "module": (
    slot_attention.SlotAttention(num_slots=3, slot_size=16),
    jnp.zeros((1, 9, 24)),
  ),
  "module_without_mlp": (
    slot_attention.SlotAttention(num_slots=3, mlp_hidden_size=None),
    jnp.zeros((1, 9, 64)),
  ),
  "clevr": (
    models.SlotAttentionAutoEncoder.from_preset("clevr"),
    jnp.zeros((1, 128, 128, 3)),
  ),
  "multi_dsprites": (
    models.SlotAttentionAutoEncoder.from_preset("multi_dsprites"),
    jnp.zeros((1, 64, 64, 3)),
  ),
  "tetrominoes": (
    models.SlotAttentionAutoEncoder.from_preset("tetrominoes"),
    jnp.zeros((1, 35, 35, 3)),
  ),
  "classifier": (
    models.SlotAttentionClassifier.from_preset("clevr"),
    jnp.zeros((1, 64, 64, 3)),
  ),
  "classifier_of_12_layers": (
    models.SlotAttentionClassifier(
      encoder_channels=tuple(range(8, 20)),
      encoder_kernel_sizes=(3,) * 12,
      encoder_strides=(1,) * 12,
      num_properties=5,
      mlp_hidden_size=None,
    ),
    jnp.zeros((1, 16, 16, 1)),
  ),
}


@pytest.mark.parametrize("name", MODULES)
def test_params_survive_a_round_trip(name):
  params = random_params(*MODULES[name])
  variables = interop.params_to_tensorflow(params)
  got = interop.params_from_tensorflow(variables)
  assert jax.tree.structure(got) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, got, params)


@pytest.mark.parametrize("kind", ["module", "autoencoder", "classifier"])
def test_variables_survive_a_round_trip_except_the_split_gru_bias(kind):
  variables = reference_variables(kind)
  got = interop.params_to_tensorflow(interop.params_from_tensorflow(variables))
  assert set(got) == set(variables)
  for path, value in variables.items():
    assert got[path].dtype == np.float32
    if not path.endswith("gru/bias"):
      np.testing.assert_array_equal(got[path], value, err_msg=path)
      continue
    # z and r see the sum of both biases, the candidate h each of them.
    assert np.abs(value[1, :128]).min() > 0
    np.testing.assert_array_equal(
      got[path][:, :128].sum(0), value[:, :128].sum(0)
    )
    np.testing.assert_array_equal(got[path][:, 128:], value[:, 128:])


def test_paths_of_an_autoencoder():
  variables = reference_variables("autoencoder")
  params = interop.load_tensorflow_checkpoint(AUTOENCODER)
  flat = traverse_util.flatten_dict(params["params"], sep="/")
  for ours, theirs in {
    "encoder/conv_3/kernel": "encoder_cnn/layer_with_weights-3/kernel",
    "encoder/position/dense/bias": "encoder_pos/dense/bias",
    "encoder/norm/scale": "layer_norm/gamma",
    "encoder/mlp_1/kernel": "mlp/layer_with_weights-1/kernel",
    "slot_attention/norm_mlp/bias": "slot_attention/norm_mlp/beta",
    "slot_attention/mlp_0/bias": "slot_attention/mlp/layer_with_weights-0/bias",
    "slot_attention/project_k/kernel": "slot_attention/project_k/kernel",
    "slot_attention/slots_log_sigma": "slot_attention/slots_log_sigma",
    "decoder/position/dense/kernel": "decoder_pos/dense/kernel",
    "decoder/conv_5/kernel": "decoder_cnn/layer_with_weights-5/kernel",
  }.items():
    np.testing.assert_array_equal(flat[ours], variables[theirs], err_msg=ours)
  assert sum(x.size for x in flat.values()) == 890308 - 128
  assert {x.dtype for x in flat.values()} == {np.dtype(np.float32)}


def test_gru_biases():
  variables = reference_variables("module")
  gates = np.arange(192, dtype=np.float32)
  variables["gru/bias"] = np.stack([gates, 1000 + gates])
  gru = interop.params_from_tensorflow(variables)["params"]["gru"]
  expected = np.where(gates < 128, 1000 + 2 * gates, gates)
  np.testing.assert_array_equal(gru["bias"], expected)
  np.testing.assert_array_equal(gru["recurrent_bias"], 1000 + gates[128:])


def test_converted_weights_match_reference_outputs():
  params = interop.params_from_tensorflow(reference_variables("module"))
  module = slot_attention.SlotAttention(num_slots=5, num_iterations=3)
  with np.load(GOLDEN / "slot_attention.npz") as file:
    run = jax.jit(module.apply)
    slots, _ = run(params, file["inputs"], noise=file["noise"])
    np.testing.assert_allclose(slots, file["slots_T3"], atol=2e-5)


def test_names_with_and_without_prefixes():
  variables = reference_variables("module")
  expected = interop.params_from_tensorflow(variables)
  state = {
    "global_step" + SUFFIX: np.int64(3),
    "save_counter" + SUFFIX: np.int64(1),
    "optimizer/beta_1" + SUFFIX: np.float32(0.9),
    f"{PREFIX}gru/kernel/.OPTIMIZER_SLOT/optimizer/m{SUFFIX}": np.zeros(2),
    "_CHECKPOINTABLE_OBJECT_GRAPH": b"graph",
  }
  for spelling in ("w/{}", "{}", PREFIX + "{}" + SUFFIX):
    named = {spelling.format(k): v for k, v in variables.items()}
    got = interop.params_from_tensorflow(named | state)
    jax.tree.map(np.testing.assert_array_equal, got, expected)
  with pytest.raises(
    ValueError, match=r"one variable 'gru/bias', got it twice"
  ):
    interop.params_from_tensorflow(
      variables | {"w/gru/bias": variables["gru/bias"]}
    )


def test_results_share_no_memory_with_the_arguments():
  variables = reference_variables("module")
  params = interop.params_from_tensorflow(variables)
  variables["slots_mu"][:] = 5
  assert params["params"]["slots_mu"].max() < 5
  back = interop.params_to_tensorflow(params)
  params["params"]["slots_mu"][:] = 6
  assert back["slots_mu"].max() < 5


def test_params_of_no_network_are_errors():
  params = random_params(*MODULES["module"])
  with pytest.raises(ValueError, match="key 'params'"):
    interop.params_to_tensorflow(params["params"])
  gru = params["params"]["gru"]
  recurrent = gru.pop("recurrent_bias")
  with pytest.raises(ValueError, match=r"missing: \['gru/recurrent_bias'\]"):
    interop.params_to_tensorflow(params)
  gru["recurrent_bias"] = recurrent[:-1]
  with pytest.raises(ValueError, match=r"got \[48\] and \[15\]"):
    interop.params_to_tensorflow(params)
  gru["recurrent_bias"] = recurrent
  params["params"]["project_k"]["kernel"] = np.zeros((16, 16), np.float32)
  with pytest.raises(ValueError, match=r"expected \[24, 16\], got \[16, 16\]"):
    interop.params_to_tensorflow(params)


def test_another_checkpoint_is_named_in_the_error(tmp_path):
  checkpoint_writer.write(tmp_path, {"other": np.zeros(3)})
  expected = re.escape(str(tmp_path)) + r".*unexpected: \['other'\]"
  with pytest.raises(ValueError, match=expected):
    interop.load_tensorflow_checkpoint(tmp_path)


_IN_TENSORFLOW = r"""
import sys
import numpy as np
import tensorflow as tf

directory, variables = sys.argv[1], dict(np.load(sys.argv[2]))
# Objects found by the names of their attributes, as in the reference.
network = tf.Module()
for path, value in variables.items():
  node = network
  *parents, leaf = ("layer_with_weights-0/" + path).split("/")
  for name in parents:
    if not hasattr(node, name):
      setattr(node, name, tf.Module())
    node = getattr(node, name)
  setattr(node, leaf, tf.Variable(value))
checkpoint = tf.train.Checkpoint(network=network)
tf.train.CheckpointManager(checkpoint, directory, max_to_keep=3).save()
"""


@pytest.mark.thorough
@pytest.mark.skipif(
  importlib.util.find_spec("tensorflow") is None,
  reason="TensorFlow is not installed",
)
def test_checkpoints_that_tensorflow_saves_are_read(tmp_path):
  params = random_params(*MODULES["clevr"])
  arrays = tmp_path / "variables.npz"
  np.savez(arrays, **interop.params_to_tensorflow(params))
  # In a process of its own: importing TensorFlow warns, which is an error here.
  result = subprocess.run(
    [sys.executable, "-c", _IN_TENSORFLOW, str(tmp_path / "run"), str(arrays)],
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  got = interop.load_tensorflow_checkpoint(tmp_path / "run")
  jax.tree.map(np.testing.assert_array_equal, got, params)
