"""Gated recurrent unit that updates the slots."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import dtypes

from slot_attention_jax.modules import initializers


def _orthogonal(key, shape, dtype):
  """Orthogonal rows; LAPACK has no QR of 16-bit numbers."""
  wide = jnp.promote_types(jnp.float32, dtype)
  return nn.initializers.orthogonal()(key, shape, wide).astype(dtype)


class GRUCell(nn.Module):
  r"""Gated recurrent unit as Keras' `GRUCell(reset_after=True)`.

  .. math::
    z &= \sigma(W_z x + U_z h + b_z) \\
    r &= \sigma(W_r x + U_r h + b_r) \\
    c &= \tanh(W_h x + b_h + r \odot (U_h h + b'_h)) \\
    h' &= z \odot h + (1 - z) \odot c

  Kernels are fused over the gates in Keras' order z, r, h, which also makes
  the initializers those of Keras: Glorot over [X, 3D], orthogonal over
  [D, 3D]. Keras keeps two biases for z and r of which only the sum matters;
  here their sum is the parameter. (Both receive the same gradient, so an
  optimizer that normalizes each coordinate, such as Adam, moves Keras' sum
  twice as far per step as this one; after loading, outputs are the same.)

  Attributes:
    features: D, size of the state.
    dtype: dtype of the matrix products; gates are computed in the state's.
    param_dtype: dtype of the parameters `kernel` [X, 3D], `recurrent_kernel`
      [D, 3D], `bias` [3D] and `recurrent_bias` [D].
  """

  features: int
  dtype: Any = None
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, state: jax.Array, inputs: jax.Array) -> jax.Array:
    """Maps state [..., D] and inputs [..., X] to the next state [..., D]."""
    d = self.features
    kernel = self.param(
      "kernel",
      initializers.glorot_uniform(self),
      (inputs.shape[-1], 3 * d),
      self.param_dtype,
    )
    recurrent_kernel = self.param(
      "recurrent_kernel",
      initializers.if_missing(self, _orthogonal),
      (d, 3 * d),
      self.param_dtype,
    )
    zeros = nn.initializers.zeros
    bias = self.param("bias", zeros, (3 * d,), self.param_dtype)
    recurrent_bias = self.param("recurrent_bias", zeros, (d,), self.param_dtype)
    x, h, kernel, recurrent_kernel = dtypes.promote_dtype(
      inputs, state, kernel, recurrent_kernel, dtype=self.dtype
    )
    from_inputs = (x @ kernel).astype(state.dtype)
    from_inputs = from_inputs + jnp.broadcast_to(bias, from_inputs.shape)
    from_state = (h @ recurrent_kernel).astype(state.dtype)
    gates = nn.sigmoid(from_inputs[..., : 2 * d] + from_state[..., : 2 * d])
    z, r = gates[..., :d], gates[..., d:]
    recurrent = from_state[..., 2 * d :]
    recurrent = recurrent + jnp.broadcast_to(recurrent_bias, recurrent.shape)
    candidate = jnp.tanh(from_inputs[..., 2 * d :] + r * recurrent)
    return z * state + (1.0 - z) * candidate
