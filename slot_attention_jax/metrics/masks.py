"""From the outputs of a model to masks of the image."""

import jax
import jax.numpy as jnp


def attention_masks(
  attention: jax.Array, grid: tuple[int, int], resolution: tuple[int, int]
) -> jax.Array:
  """Attention over the inputs as masks of the image.

  Args:
    attention: [B, K, N] of one iteration, which sums to 1 over the slots at
      every input, as the models give it.
    grid: (h, w) of the inputs, row by row; N = h w.
    resolution: (H, W) of the image.

  Returns:
    [B, K, H, W] float32, upsampled bilinearly; sums to 1 over the slots.

  Raises:
    ValueError: if N is not h w.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import masks
    >>> attention = jnp.array([[[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]])
    >>> masks.attention_masks(attention, (2, 2), (2, 4))[0, 0].tolist()
    [[1.0, 0.75, 0.25, 0.0], [1.0, 0.75, 0.25, 0.0]]
  """
  h, w = grid
  if attention.ndim != 3 or attention.shape[2] != h * w:
    raise ValueError(
      f"Expected attention [B, K, N] with N = {h} x {w} = {h * w} inputs, got "
      f"{attention.shape}. Take one iteration, and the encoder's grid."
    )
  shape = attention.shape[:2]
  maps = attention.astype(jnp.float32).reshape(*shape, h, w)
  return jax.image.resize(maps, (*shape, *resolution), "linear")
