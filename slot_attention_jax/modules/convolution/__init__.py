"""Convolutions in the form that is fastest on each platform.

`Conv` and `ConvTranspose` hold parameters; all other files compute the values
of XLA's convolution in another way. Nothing here knows about slots.
"""

from slot_attention_jax.modules.convolution.layers import (
  Conv,
  ConvTranspose,
  conv_stack,
  conv_transpose_stack,
  promote,
)
