"""Tests of the PyTorch twin and of the conversion of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.tree_util import tree_map

import slot_attention_jax as sa
from slot_attention_jax.interop import pytorch, pytorch_ports
from slot_attention_jax.modules import background

torch = None


@pytest.fixture(scope="module", autouse=True)
def _import_torch():
  """By the first test that needs it: it takes seconds."""
  global torch
  torch = pytest.importorskip("torch")
  torch.set_num_threads(1)  # More threads would contend for the cores.


SMALL = {
  "num_slots": 3,
  "slot_size": 12,
  "mlp_hidden_size": 10,
  "encoder_channels": (6, 5),
  "encoder_kernel_sizes": (5, 4),
  "encoder_strides": (2, 3),
  "encoder_mlp_sizes": (9, 8),
}
DECODER = {
  "broadcast_size": (3, 4),
  "decoder_channels": (7, 6),
  "decoder_kernel_sizes": (5, 2, 3),
  "decoder_strides": (2, 3, 1),
}


def randomly(params):
  """Biases and scales too, which are zeros and ones at the start."""
  rng = np.random.default_rng(0)

  def draw(x):
    return np.float32(rng.normal(0, 0.5 / np.sqrt(max(1, x.ndim)), x.shape))

  return tree_map(draw, params)


def equal(ours, theirs, channels_last=True):
  theirs = theirs.detach().numpy()
  if channels_last and theirs.ndim > 3:
    theirs = np.moveaxis(theirs, -3, -1)
  np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


def outputs(model, params, twin, inputs):
  noise = np.random.default_rng(1).normal(size=(2, 3, 12)).astype(np.float32)
  ours = jax.jit(model.apply)(params, inputs, noise=noise)
  tensor = torch.from_numpy(np.array(inputs))
  if inputs.ndim == 4:
    tensor = tensor.permute(0, 3, 1, 2)
  with torch.no_grad():
    return ours, twin(tensor, torch.from_numpy(noise))


def init(model, inputs):
  rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  shapes = jax.eval_shape(model.init, rngs, inputs)
  return randomly(shapes)


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"mlp_hidden_size": 0, "num_iterations": 1},
    {"slot_init": "per_slot", "epsilon": 0.01},
    {"slot_init": "background", "layer_norm_epsilon": 1e-5},
    {"slot_init": "learned"},
    {"normalization": "sum"},
    {"normalization": "scaled_sum"},
  ],
)
def test_slot_attention_equals_its_twin(options):
  model = sa.SlotAttention(**{"num_slots": 3, "slot_size": 12, **options})
  inputs = jax.random.normal(jax.random.key(2), (2, 20, 7))
  params = init(model, inputs)
  twin = pytorch.create_twin(model, params)
  ours, theirs = outputs(model, params, twin, inputs)
  for a, b in zip(ours, theirs, strict=True):
    equal(a, b, channels_last=False)
  back = pytorch.params_from_pytorch(twin.state_dict())
  tree_map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize(
  "size", [(17, 20), pytest.param((18, 24), marks=pytest.mark.thorough)]
)
def test_the_autoencoder_equals_its_twin(size):
  model = sa.SlotAttentionAutoEncoder(
    decoder_output_size=size, resolution=size, **SMALL, **DECODER
  )
  images = jax.random.uniform(jax.random.key(2), (2, *size, 3), minval=-1)
  params = init(model, images)
  twin = pytorch.create_twin(model, params)
  ours, theirs = outputs(model, params, twin, images)
  for name in ("reconstruction", "images", "masks"):
    equal(getattr(ours, name), theirs[name])
  for name in ("slots", "attention"):
    equal(getattr(ours, name), theirs[name], channels_last=False)
  back = pytorch.params_from_pytorch(twin.state_dict())
  tree_map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize("grid", [1, 4])
def test_a_background_equals_its_twin(grid):
  model = sa.SlotAttentionAutoEncoder(
    decoder_output_size=(17, 20),
    resolution=(17, 20),
    background=background.SmoothBackground(grid=grid, logit=1.5),
    **SMALL,
    **DECODER,
  )
  images = jax.random.uniform(jax.random.key(2), (2, 17, 20, 3), minval=-1)
  params = init(model, images)
  twin = pytorch.create_twin(model, params)
  ours, theirs = outputs(model, params, twin, images)
  for name in ("reconstruction", "images", "masks"):
    equal(getattr(ours, name), theirs[name])
  assert theirs["masks"][:, 0].std() > 0.01
  back = pytorch.params_from_pytorch(twin.state_dict())
  tree_map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize("moments", [False, True])
def test_the_classifier_equals_its_twin(moments):
  model = sa.SlotAttentionClassifier(
    num_properties=5, head_hidden_size=11, attention_moments=moments, **SMALL
  )
  images = jax.random.uniform(jax.random.key(2), (2, 13, 17, 3), minval=-1)
  params = init(model, images)
  twin = pytorch.create_twin(model, params)
  ours, theirs = outputs(model, params, twin, images)
  equal(ours.predictions, theirs["predictions"])
  back = pytorch.params_from_pytorch(twin.state_dict())
  tree_map(np.testing.assert_array_equal, back, params)


def test_a_trained_model_has_a_twin():
  model, params = sa.load_pretrained("quickstart")
  twin = pytorch.create_twin(model, params)
  assert sum(p.numel() for p in twin.parameters()) == (
    sum(x.size for x in jax.tree.leaves(params)) + 2 * 64  # Of the GRU.
  )
  images = torch.zeros(2, 3, 28, 28)
  assert twin(images)["masks"].shape == (2, 5, 1, 28, 28)


@pytest.mark.thorough
@pytest.mark.parametrize("name", sa.pretrained_names())
def test_all_weights_of_the_package_have_a_twin(name):
  model, params = sa.load_pretrained(name)
  twin = pytorch.create_twin(model, params)
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (1, *sa.pretrained_metadata(name).resolution, 3))
  images = np.float32(images)
  noise = np.float32(rng.normal(size=(1, model.num_slots, model.slot_size)))
  ours = jax.jit(model.apply)(params, images, noise=noise)
  with torch.no_grad():
    theirs = twin(
      torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(noise)
    )
  for key in ("predictions", "masks", "reconstruction", "slots"):
    if key in theirs:
      expected = theirs[key].numpy()
      if key in ("masks", "reconstruction"):
        expected = np.moveaxis(expected, -3, -1)
      np.testing.assert_allclose(getattr(ours, key), expected, atol=3e-3)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"background": nn.Dense(3)}, "SmoothBackground for the twin, got Dense"),
    ({"slot_update": "residual"}, "ablations"),
    ({"decoder_output_channels": 1}, "RGB images for the twin, got 1"),
    ({"encoder": pytorch_ports.JointNormEncoder()}, "CNNEncoder"),
  ],
)
def test_what_the_twin_does_not_have_is_an_error(options, message):
  model = sa.SlotAttentionAutoEncoder(**options)
  state = {"slot_attention": {"norm_inputs": {"scale": np.ones(4)}}}
  with pytest.raises(ValueError, match=message):
    pytorch.create_twin(model, {"params": state})


def test_incomplete_states_are_errors():
  with pytest.raises(ValueError, match="weight_ih"):
    pytorch.params_from_pytorch({"gru.weight_hh": np.ones((6, 2))})
  with pytest.raises(ValueError, match="key 'params'"):
    pytorch.params_to_pytorch({"encoder": {}})


def port_outputs(module, *inputs):
  with torch.no_grad():
    return module(*map(torch.from_numpy, inputs))


@pytest.mark.thorough
def test_weights_of_lucidrains():
  from tests.interop import torch_ports

  torch.manual_seed(0)
  port = torch_ports.Slots(16, 24, 4, lucidrains=True)
  state = port.state_dict()
  module, params = pytorch_ports.from_lucidrains(
    state, num_slots=3, num_iterations=4
  )
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(2, 20, 16)).astype(np.float32)
  noise = rng.normal(size=(2, 3, 16)).astype(np.float32)
  slots, _ = jax.jit(module.apply)(params, inputs, noise=noise)
  theirs = port_outputs(port, inputs, noise)
  np.testing.assert_allclose(slots, theirs, rtol=1e-3, atol=1e-4)
  # The tree is the module's own.
  init = module.init(jax.random.key(0), inputs, noise=noise)
  assert tree_map(jnp.shape, init) == tree_map(jnp.shape, params)


@pytest.mark.thorough
def test_weights_of_evelinehong():
  from tests.interop import torch_ports

  torch.manual_seed(0)
  port = torch_ports.AutoEncoder(8, 3)
  state = {f"module.{k}": v for k, v in port.state_dict().items()}
  model, params = pytorch_ports.from_evelinehong(state, num_slots=2)
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (1, 128, 128, 3)).astype(np.float32)
  noise = rng.normal(size=(1, 2, 8)).astype(np.float32)
  ours = jax.jit(model.apply)(params, images, noise=noise)
  theirs = port_outputs(port, images.transpose(0, 3, 1, 2).copy(), noise)
  names = ("reconstruction", "images", "masks", "slots")
  for name, tensor in zip(names, theirs, strict=True):
    np.testing.assert_allclose(
      getattr(ours, name), tensor, rtol=1e-3, atol=1e-4, err_msg=name
    )


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda s: s.pop("to_q.bias"), r"missing: \['to_q.bias'\]"),
    (lambda s: s.update(extra=np.ones(1)), r"unexpected: \['extra'\]"),
    (lambda s: s["to_k.weight"].zero_(), "to_k.weight to be invertible"),
  ],
)
def test_states_that_do_not_fit_are_errors(change, message):
  from tests.interop import torch_ports

  state = torch_ports.Slots(8, 8, 3, lucidrains=True).state_dict()
  change(state)
  with pytest.raises(ValueError, match=message):
    pytorch_ports.from_lucidrains(state, num_slots=3)


def test_a_singular_projection_without_a_bias_is_fine():
  from tests.interop import torch_ports

  state = torch_ports.Slots(8, 8, 3, lucidrains=True).state_dict()
  state["to_k.weight"].zero_()
  state["to_k.bias"].zero_()
  pytorch_ports.from_lucidrains(state, num_slots=3)


def test_a_scale_below_zero_is_an_error():
  from tests.interop import torch_ports

  state = torch_ports.AutoEncoder(8, 3).state_dict()
  state["slot_attention.slots_sigma"][0, 0, 2] = -1
  with pytest.raises(ValueError, match="slots_sigma above 0"):
    pytorch_ports.from_evelinehong(state)
