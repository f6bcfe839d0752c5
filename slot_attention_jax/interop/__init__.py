"""Weights of other implementations: the TensorFlow reference, PyTorch.

`load_tensorflow_checkpoint` and `params_from_tensorflow` need no TensorFlow.
`interop.pytorch` has a twin of the models in PyTorch, `interop.pytorch_ports`
reads the weights of two ports. Files of weights of this package are read in
`pretrained`.
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
