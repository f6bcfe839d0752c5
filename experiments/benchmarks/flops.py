"""Floating-point operations of the models, counted by hand."""

from collections.abc import Sequence
from typing import Any


def forward_flops(model: Any, image_shape: Sequence[int]) -> int:
  """Floating-point operations of a forward pass of one image.

  The sum of `flops_by_layer`.

  Args:
    model: a model of the package.
    image_shape: (H, W, 3).

  Returns:
    The count.
  """
  return sum(flops_by_layer(model, image_shape).values())


def flops_by_layer(model: Any, image_shape: Sequence[int]) -> dict[str, int]:
  """Floating-point operations of a forward pass of one image, by layer.

  Twice the multiplications of convolutions, dense layers and attention as the
  paper words the model (every slot's grid goes through the whole decoder);
  position embeddings, norms and other elementwise operations are left out.

  Args:
    model: a model of the package.
    image_shape: (H, W, 3).

  Returns:
    The counts of `encoder/conv_0` and so on, `encoder/mlp`, `slot_attention`,
    and `decoder/conv_0` and so on or `head`.
  """
  k, d = model.num_slots, model.slot_size
  (h, w, channels), counts = image_shape, {}
  for i, (features, size, stride) in enumerate(
    zip(
      model.encoder_channels,
      model.encoder_kernel_sizes,
      model.encoder_strides,
      strict=True,
    )
  ):
    h, w = -(-h // stride), -(-w // stride)
    counts[f"encoder/conv_{i}"] = 2 * h * w * size**2 * channels * features
    channels = features
  n = h * w
  counts["encoder/mlp"] = 0
  for width in (*model.encoder_mlp_sizes,):
    counts["encoder/mlp"] += 2 * n * channels * width
    channels = width
  # Queries and the GRU's two products with three gates; logits and updates.
  iteration = k * d * (d + 6 * d) + 2 * k * n * d
  iteration += 2 * k * d * (model.mlp_hidden_size or 0)
  products = 2 * n * channels * d  # Keys and values.
  products += model.num_iterations * iteration
  counts["slot_attention"] = 2 * products
  if not hasattr(model, "broadcast_size"):
    counts["head"] = 2 * k * model.head_hidden_size * (d + model.num_properties)
    if model.attention_moments:
      counts["moments"] = 2 * k * 5 * d
    return counts
  (h, w), channels = model.broadcast_size, d
  for i, (features, size, stride) in enumerate(
    zip(
      (*model.decoder_channels, 4),
      model.decoder_kernel_sizes,
      model.decoder_strides,
      strict=True,
    )
  ):
    counts[f"decoder/conv_{i}"] = 2 * k * h * w * size**2 * channels * features
    h, w, channels = h * stride, w * stride, features
  return counts
