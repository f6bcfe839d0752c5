"""Standard errors over the images of a split, in float64 on the host."""

import jax
import numpy as np

Array = jax.Array | np.ndarray


def mean_and_standard_error(
  values: Array, valid: Array | None = None
) -> tuple[float, float | None]:
  r"""Mean of one value per image, and the standard error of that mean.

  .. math::
    \mathrm{SE}^2 = \frac{1}{N (N - 1)} \sum_n (x_n - \bar x)^2

  It says how far another sample of images of the same kind would move the mean,
  not how far another training run would.

  Args:
    values: [N], finite; a value that is not makes the mean NaN or infinite, so
      that a model that diverged is seen.
    valid: [N] bool, False for images that only fill up a batch or that should
      not count, whatever their values are. None for all True.

  Returns:
    A pair (mean, standard error), both for the valid images. The error is None
    of a single image, which says nothing about the spread.

  Raises:
    ValueError: if the values are not [N], `valid` is of another shape, or no
      image is valid.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.metrics import standard_errors
    >>> values = np.array([1.0, 3.0, 9.0])
    >>> standard_errors.mean_and_standard_error(
    ...     values, valid=np.array([True, True, False]))
    (2.0, 1.0)
    >>> standard_errors.mean_and_standard_error(values[:1])
    (1.0, None)
  """
  ones = np.ones(np.shape(values))
  return ratio_and_standard_error(values, ones, valid)


def ratio_and_standard_error(
  above: Array, below: Array, valid: Array | None = None
) -> tuple[float, float | None]:
  r"""Ratio of two sums over images, and its standard error.

  Such as the share of all objects that are right, where images have several:

  .. math::
    r = \frac{\sum_n a_n}{\sum_n b_n}, \qquad
    \mathrm{SE}^2 = \frac{N}{N - 1}
      \frac{\sum_n (a_n - r b_n)^2}{(\sum_n b_n)^2},

  linearized in the sums, since the objects of an image are not independent of
  each other but images are. With :math:`b_n = 1` it is the mean and its error.

  Args:
    above: [N] numbers to sum.
    below: [N] numbers to sum, whose sum is positive.
    valid: [N] bool, see `mean_and_standard_error`.

  Returns:
    A pair (ratio, standard error); the error is None of a single image.

  Raises:
    ValueError: if the shapes are not [N], no image is valid, or the sum of
      `below` over the valid images is 0 or negative.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.metrics import standard_errors
    >>> right, objects = np.array([2, 1]), np.array([2, 2])
    >>> standard_errors.ratio_and_standard_error(right, objects)
    (0.75, 0.25)

  References:
    Cochran, Sampling Techniques, 3rd edition, 1977, section 6.3.
  """
  above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
  keep = np.ones(above.shape, bool) if valid is None else np.asarray(valid)
  if above.ndim != 1 or not above.shape == below.shape == keep.shape:
    raise ValueError(
      "Expected one number per image, arrays of one shape [N], got "
      f"{above.shape}, {below.shape} and valid {keep.shape}."
    )
  # A mask of 0 and 1 would otherwise be read as indices.
  keep = keep.astype(bool)
  above, below = above[keep], below[keep]
  n, total = len(above), below.sum()
  # Of NaN, too, the comparison is false, and NaN is returned.
  if n == 0 or total <= 0:
    raise ValueError(
      "Expected at least one valid image and a positive sum to divide by, got "
      f"{n} images and {total:g}: leave out what has no examples."
    )
  ratio = above.sum() / total
  if n == 1:
    return float(ratio), None
  squares = np.square(above - ratio * below).sum()
  return float(ratio), float(np.sqrt(n / (n - 1) * squares) / total)
