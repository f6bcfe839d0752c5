"""Weights of the TensorFlow reference implementation, read without TensorFlow.

Files of weights of this package are read in `pretrained`.
"""

from slot_attention_jax.interop.tensorflow import (
  load_tensorflow_checkpoint,
  params_from_tensorflow,
  params_to_tensorflow,
)

__all__ = [
  "load_tensorflow_checkpoint",
  "params_from_tensorflow",
  "params_to_tensorflow",
]
