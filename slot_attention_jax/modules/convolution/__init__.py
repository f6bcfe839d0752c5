"""Convolutions in the form that is fastest on each platform.

`Conv` and `ConvTranspose` hold parameters; the rest computes the same values as
XLA's convolution in other ways. Nothing here knows slots.
"""

from slot_attention_jax.modules.convolution.layers import (
  Conv,
  ConvTranspose,
  conv_stack,
  conv_transpose_stack,
  promote,
)
