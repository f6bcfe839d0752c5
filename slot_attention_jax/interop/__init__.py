"""Weights of other implementations, in and out."""

from slot_attention_jax.interop.tensorflow import (
  load_tensorflow_checkpoint,
  params_from_tensorflow,
  params_to_tensorflow,
  save_tensorflow_checkpoint,
)

__all__ = [
  "load_tensorflow_checkpoint",
  "params_from_tensorflow",
  "params_to_tensorflow",
  "save_tensorflow_checkpoint",
]
