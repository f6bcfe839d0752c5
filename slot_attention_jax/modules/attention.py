"""How slots compete for the inputs: equations 1 and 2 of the paper."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

NORMALIZATIONS = ("mean", "sum", "scaled_sum")
"""How values are aggregated: see `SlotAttention.normalization`."""


def attend(
  queries: jax.Array,
  keys: jax.Array,
  values: jax.Array,
  mask: jax.Array | None = None,
  *,
  epsilon: float = 1e-8,
  normalization: str = "mean",
  num_slots: int | None = None,
  dtype: Any = jnp.float32,
) -> tuple[jax.Array, jax.Array]:
  r"""Attention that is normalized over the slots, and what it gives to each.

  .. math::
    A_{kn} = \operatorname{softmax}_k(q_k \cdot k_n), \quad
    u_k = \frac{\sum_n (A_{kn} + \epsilon)\, v_n}{\sum_n (A_{kn} + \epsilon)}

  Args:
    queries: [B, K, D] of the slots, scaled already.
    keys: [B, N, D] of the inputs.
    values: [B, N, D] of the inputs.
    mask: [B, N] bool; inputs where it is False give nothing and get attention
      0. A slot of an example without inputs gets 0.
    epsilon: added to the attention.
    normalization: `"mean"` as above; `"sum"`, without the denominator; or
      `"scaled_sum"`, with the constant N / K in its place.
    num_slots: K of that constant; None: of the queries.
    dtype: of the softmax and of the results.

  Returns:
    A pair (updates [B, K, D], attention [B, K, N] in [0, 1]).

  Raises:
    ValueError: on an unknown normalization.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.modules import attention
    >>> queries, keys = jnp.zeros((1, 2, 3)), jnp.ones((1, 5, 3))
    >>> updates, shares = attention.attend(queries, keys, 4 * keys)
    >>> float(updates[0, 0, 0]), float(shares[0, 0, 0])
    (4.0, 0.5)
  """
  if normalization not in NORMALIZATIONS:
    raise ValueError(
      f"Expected normalization out of {NORMALIZATIONS}, got {normalization!r}."
    )
  logits = jnp.einsum(
    "bkd,bnd->bkn", queries, keys, preferred_element_type=dtype
  )
  attention = nn.softmax(logits, axis=1)  # [B, K, N]
  weights = attention + epsilon
  if mask is not None:
    weights = jnp.where(mask[:, None], weights, 0)
    attention = jnp.where(mask[:, None], attention, 0)
  if normalization == "mean":
    total = weights.sum(axis=-1, keepdims=True)  # [B, K, 1]
    if mask is not None:
      total = jnp.where(total > 0, total, 1)
    weights = weights / total
  elif normalization == "scaled_sum":
    count = keys.shape[-2]
    if mask is not None:
      count = jnp.maximum(mask.sum(axis=-1), 1)[:, None, None]
    weights = weights * ((num_slots or queries.shape[-2]) / count)
  updates = jnp.einsum(
    "bkn,bnd->bkd",
    weights.astype(values.dtype),
    values,
    preferred_element_type=dtype,
  )
  return updates, attention
