"""Tiny models with random weights, as files, for tests of predictions."""

import pathlib

import jax
import jax.numpy as jnp

import slot_attention_jax as sa
from slot_attention_jax.data import types
from slot_attention_jax.pretrained import weights_file

# A discovery model for images of 35 x 35, T 2, K 4, which per_slot fixes; and
# its run.
COMPAT = pathlib.Path(__file__).parents[1] / "testdata" / "compat"
WEIGHTS = COMPAT / "weights.safetensors"
RUN = COMPAT / "discovery_run"


def metadata(**changes):
  """Metadata of a set predictor for images of 8 x 12."""
  fields = {
    "task": "set_prediction",
    "model": {
      "num_slots": 3,
      "num_iterations": 2,
      "slot_size": 4,
      "mlp_hidden_size": 0,
      "epsilon": 1e-8,
      "slot_init": "shared",
      "encoder_channels": [4],
      "encoder_kernel_sizes": [3],
      "encoder_strides": [2],
      "encoder_mlp_sizes": [4],
      "head_hidden_size": 4,
      "unroll": 1,
      "precision": "float32",
    },
    "resolution": (8, 12),
    "layout": types.CLEVR_LAYOUT,
    "command": "--config=configs/clevr_set.py",
    "data": "clevr_scenes",
    "synthetic_scenes": True,
    "seed": 0,
    "steps": 4,
    "planned_steps": 4,
    "hardware": "none",
    "minutes": None,
    "evaluation": {},
    "metrics": {},
    "date": "2026-01-01",
    "license": "Apache-2.0",
    "versions": {},
    "notes": "",
  }
  return sa.WeightsMetadata(**(fields | changes))


def save_set_predictor(path, **changes):
  """Writes random weights of a set predictor; returns the path."""
  about = metadata(**changes)
  keys = {"params": jax.random.key(0), "slots": jax.random.key(1)}
  images = jnp.zeros((1, *about.resolution, 3))
  params = jax.jit(about.create_model().init)(keys, images)
  weights_file.save_weights(path, params, about)
  return path
