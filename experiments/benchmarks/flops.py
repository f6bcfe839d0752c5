"""Floating-point operations of the models, counted by hand."""

from collections.abc import Sequence
from typing import Any


def forward_flops(model: Any, image_shape: Sequence[int]) -> int:
  """Floating-point operations of a forward pass of one image.

  Twice the multiplications of convolutions, dense layers and attention as the
  paper words the model (every slot's grid goes through the whole decoder);
  position embeddings, norms and other elementwise operations are left out.

  Args:
    model: a model of the package.
    image_shape: (H, W, 3).

  Returns:
    The count.
  """
  k, d = model.num_slots, model.slot_size
  (h, w, channels), products = image_shape, 0
  for features, size, stride in zip(
    model.encoder_channels,
    model.encoder_kernel_sizes,
    model.encoder_strides,
    strict=True,
  ):
    h, w = -(-h // stride), -(-w // stride)
    products += h * w * size**2 * channels * features
    channels = features
  n = h * w
  for width in (*model.encoder_mlp_sizes,):
    products += n * channels * width
    channels = width
  products += 2 * n * channels * d  # Keys and values.
  # Queries and the GRU's two products with three gates; logits and updates.
  iteration = k * d * (d + 6 * d) + 2 * k * n * d
  iteration += 2 * k * d * (model.mlp_hidden_size or 0)
  products += model.num_iterations * iteration
  if hasattr(model, "broadcast_size"):
    (h, w), channels = model.broadcast_size, d
    for features, size, stride in zip(
      (*model.decoder_channels, 4),
      model.decoder_kernel_sizes,
      model.decoder_strides,
      strict=True,
    ):
      products += k * h * w * size**2 * channels * features
      h, w, channels = h * stride, w * stride, features
  else:
    products += k * model.head_hidden_size * (d + model.num_properties)
  return 2 * products
