"""Quality of reconstructed images."""

import jax
import jax.numpy as jnp


def psnr(
  reconstruction: jax.Array,
  images: jax.Array,
  *,
  data_range: float = 2.0,
  clip: bool = True,
) -> jax.Array:
  r"""Peak signal-to-noise ratio of each image, in dB.

  .. math::
    \mathrm{PSNR} = 10 \log_{10} \frac{\mathrm{range}^2}{\mathrm{MSE}}

  The reconstruction is clipped to the range of images first, as it is when it
  is shown; a model's MSE, which is its loss, is not, and `clip=False` gives the
  decibels of that. Over a dataset it is the mean of the images' decibels, not
  the decibels of the mean.

  Args:
    reconstruction: [B, H, W, C].
    images: [B, H, W, C] in [-data_range / 2, data_range / 2].
    data_range: between the darkest and the brightest value; static.
    clip: whether to clip the reconstruction to the range; static.

  Returns:
    [B] float32, in dB; at most 100, which an exact reconstruction has.

  Raises:
    ValueError: if the shapes differ or the range is not positive.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.metrics import reconstruction
    >>> images = jnp.zeros((1, 4, 4, 3))
    >>> reconstruction.psnr(images + 0.2, images).round(3).tolist()
    [20.0]
  """
  if reconstruction.shape != images.shape or images.ndim < 2:
    raise ValueError(
      "psnr: expected reconstruction and images of one shape [B, H, W, C], got "
      f"{reconstruction.shape} and {images.shape}."
    )
  if not data_range > 0:
    raise ValueError(
      "psnr: expected a positive data_range, such as 2 for images in [-1, 1], "
      f"got {data_range}."
    )
  half = data_range / 2
  reconstruction = jnp.asarray(reconstruction, jnp.float32)
  if clip:
    reconstruction = jnp.clip(reconstruction, -half, half)
  error = reconstruction - jnp.asarray(images, jnp.float32)
  mse = jnp.mean(jnp.square(error), axis=tuple(range(1, images.ndim)))  # [B]
  return 10.0 * jnp.log10(
    data_range**2 / jnp.maximum(mse, data_range**2 * 1e-10)
  )
