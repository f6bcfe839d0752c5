"""Tests of the benchmark of the train step: FLOPs and the PyTorch model."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import slot_attention_jax as sa
from experiments.benchmarks import batches, step
from experiments.benchmarks import flops as flops_lib
from slot_attention_jax.tasks import object_discovery, set_prediction

_ENCODER = {
  "slot_size": 8,
  "mlp_hidden_size": 12,
  "encoder_channels": (4, 6),
  "encoder_mlp_sizes": (10, 8),
}


def test_flops_of_the_papers_models():
  clevr = sa.SlotAttentionAutoEncoder.from_preset("clevr")
  flops = flops_lib.forward_flops(clevr, (128, 128, 3))
  assert flops == pytest.approx(42e9, rel=0.02)
  predictor = sa.SlotAttentionClassifier.from_preset("clevr")
  flops = flops_lib.forward_flops(predictor, (128, 128, 3))
  assert flops == pytest.approx(1.4e9, rel=0.05)


def test_flops_counted_by_hand():
  model = sa.SlotAttentionClassifier(
    num_slots=2,
    num_iterations=1,
    num_properties=5,
    head_hidden_size=7,
    encoder_kernel_sizes=(3, 2),
    encoder_strides=(1, 2),
    **_ENCODER,
  )
  encoder = 16 * 9 * 3 * 4 + 4 * 4 * 4 * 6 + 4 * (6 * 10 + 10 * 8)
  slots = 4 * 8 * 8 * 2 + 2 * 2 * 4 * 8 + 2 * 7 * 8 * 8 + 2 * 2 * 8 * 12
  head = 2 * 7 * (8 + 5)
  flops = flops_lib.forward_flops(model, (4, 4, 3))
  assert flops == 2 * (encoder + slots + head)
  model = model.clone(attention_moments=True)
  assert flops_lib.forward_flops(model, (4, 4, 3)) == flops + 2 * 2 * 5 * 8


def _discovery():
  model = sa.SlotAttentionAutoEncoder(
    resolution=(12, 16),
    num_slots=3,
    encoder_kernel_sizes=(6, 5),
    encoder_strides=(2, 2),
    broadcast_size=(3, 4),
    decoder_channels=(5, 6),
    decoder_kernel_sizes=(5, 6, 3),
    decoder_strides=(2, 2, 1),
    slot_init="per_slot",
    **_ENCODER,
  )
  return object_discovery.ObjectDiscovery(
    model=model,
    image_shape=(12, 16, 3),
    num_slots=3,
    num_iterations=3,
    max_objects=0,
  )


def _set_prediction():
  layout = sa.CLEVR_LAYOUT
  return set_prediction.SetPrediction(
    model=sa.SlotAttentionClassifier(
      num_slots=5,
      num_properties=layout.size,
      encoder_kernel_sizes=(5, 3),
      encoder_strides=(1, 2),
      **_ENCODER,
    ),
    image_shape=(9, 12, 3),
    num_slots=5,
    num_iterations=3,
    layout=layout,
    weights=tuple(np.linspace(0.5, 2, layout.size).tolist()),
    thresholds=(1.0,),
  )


@pytest.mark.thorough
@pytest.mark.parametrize("create", [_discovery, _set_prediction])
def test_the_peer_equals_the_package(create):
  torch = pytest.importorskip("torch")
  torch.set_num_threads(1)  # More threads would contend for the cores.
  from experiments.benchmarks import torch_peer, torch_step, torch_weights

  task = create()
  params = jax.device_get(task.init(jax.random.key(0)))
  batch = batches.random_batch(task, 2, max_objects=4)
  peer = torch_peer.Peer(task)
  peer.load_state_dict(torch_weights.to_state_dict(params["params"]))
  torch_step.check_peer(task, params, batch, peer)
  # The check fails if the models differ.
  peer.slot_attention.epsilon = 0.1
  with pytest.raises(ValueError, match="another model"):
    torch_step.check_peer(task, params, batch, peer)


def test_the_peer_has_no_attention_moments():
  pytest.importorskip("torch")
  from experiments.benchmarks import torch_peer

  task = _set_prediction()
  model = task.model.clone(attention_moments=True)
  with pytest.raises(ValueError, match=r"Set model\.attention_moments=False"):
    torch_peer.Peer(dataclasses.replace(task, model=model))


@pytest.mark.slow
def test_the_last_line_is_json(capsys):
  arguments = ["--config=quickstart:debug", "--steps=2", "--matmul_size=64"]
  result = step.main([*arguments, "--peer=none"])
  lines = capsys.readouterr().out.splitlines()
  assert json.loads(lines[-1]) == result
  assert result["step_seconds"] > 0
