"""The benchmark of the parts of the step takes apart the whole step."""

import math

import jax
import numpy as np
import pytest

import slot_attention_jax as sa
from experiments.benchmarks import batches, flops, layers
from slot_attention_jax.tasks import set_prediction

_PARTS = [
  "encoder/conv_0",
  "encoder/conv_1",
  "encoder/mlp",
  "slot_attention",
  "head",
]


@pytest.mark.thorough
def test_the_parts_are_those_of_the_step():
  layout = sa.CLEVR_LAYOUT
  task = set_prediction.SetPrediction(
    model=sa.SlotAttentionClassifier(
      num_slots=5,
      num_iterations=1,
      slot_size=8,
      mlp_hidden_size=12,
      num_properties=layout.size,
      encoder_channels=(4, 6),
      encoder_kernel_sizes=(5, 3),
      encoder_strides=(1, 2),
      encoder_mlp_sizes=(10, 8),
    ),
    image_shape=(9, 12, 3),
    num_slots=5,
    num_iterations=1,
    layout=layout,
    weights=None,
    thresholds=(1.0,),
  )
  batch = batches.random_batch(task, 2, max_objects=4)
  params = jax.jit(task.init)(jax.random.key(0))
  noise = task.draw_noise(params, 2, jax.random.key(1))

  found = layers.model_parts(task, params, batch, noise)
  parts = {part.name: part for part in found}
  assert [n for n in parts if not n.endswith(" forward")] == _PARTS
  counts = flops.flops_by_layer(task.model, task.image_shape)
  for i, name in enumerate(_PARTS):
    assert parts[f"{name} forward"].flop == 2 * counts[name]
    assert parts[name].flop == 2 * counts[name] * (3 if i else 2)
  parts["head"].time()
  assert parts["head"].seconds < math.inf  # It was timed.
  optimizer, whole = layers.step_parts(task, params, batch, noise)
  assert optimizer.name == "optimizer"
  layers.check_loss(found, whole)
  # The head's gradients are those of the whole.
  _, (of_head, _) = parts["head"].result
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
    of_head,
    whole.result[1]["params"]["head"],
  )
  # Other parts are found out.
  parts["head"].result = (2 * parts["head"].result[0],)
  with pytest.raises(ValueError, match="task's loss"):
    layers.check_loss(found, whole)
