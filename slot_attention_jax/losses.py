"""Losses of both tasks, one value per example."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax import matching


def pairwise_huber(
  predictions: jax.Array,
  targets: jax.Array,
  weights: jax.Array | np.ndarray | Sequence[float] | None = None,
) -> jax.Array:
  r"""Huber cost of every prediction with every target.

  .. math::
    C_{ko} = \frac{1}{P} \sum_{p=1}^{P} w_p\, h(\hat y_{kp} - y_{op}), \qquad
    h(d) = \begin{cases} d^2 / 2 & |d| \le 1 \\ |d| - 1/2 & |d| > 1
    \end{cases}

  Args:
    predictions: [B, K, P], in [0, 1] from a sigmoid (any range works).
    targets: [B, O, P], in [0, 1].
    weights: [P] non-negative weight of each dimension, such as a larger one for
      the position; None for ones. The mean still divides by P, not by the sum
      of the weights: raising one weight leaves the other terms as they are.

  Returns:
    [B, K, O] float32 costs.

  Raises:
    ValueError: if the shapes do not fit.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax import losses
    >>> predictions = jnp.array([[[0.0, 1.0]]])  # [1, 1, 2]
    >>> targets = jnp.array([[[0.0, 0.0], [0.0, 1.0]]])  # [1, 2, 2]
    >>> losses.pairwise_huber(predictions, targets).tolist()
    [[[0.25, 0.0]]]

  References:
    Huber, `Robust Estimation of a Location Parameter
    <https://doi.org/10.1214/aoms/1177703732>`_, 1964.
  """
  if (
    predictions.ndim != 3
    or targets.ndim != 3
    or predictions.shape[0] != targets.shape[0]
    or predictions.shape[2] != targets.shape[2]
  ):
    raise ValueError(
      "pairwise_huber: expected predictions [B, K, P] and targets [B, O, P] "
      f"with the same B and P, got {predictions.shape} and {targets.shape}; "
      "compare the model's output size with the dataset's layout."
    )
  predictions = jnp.asarray(predictions, jnp.float32)
  targets = jnp.asarray(targets, jnp.float32)
  import optax  # Takes a tenth of a second, which most users do not need.

  cost = optax.losses.huber_loss(
    predictions[:, :, None, :], targets[:, None, :, :], delta=1.0
  )  # [B, K, O, P]
  if weights is not None:
    weights = jnp.asarray(weights, jnp.float32)
    if weights.shape != predictions.shape[2:]:
      raise ValueError(
        f"pairwise_huber: expected weights {predictions.shape[2:]}, one for "
        f"each dimension of a property vector, got {weights.shape}."
      )
    cost = cost * weights[None, None, None, :]
  return jnp.mean(cost, axis=-1)  # [B, K, O]


def set_prediction_loss(
  predictions: jax.Array,
  targets: jax.Array,
  *,
  weights: jax.Array | np.ndarray | Sequence[float] | None = None,
) -> jax.Array:
  r"""Huber loss of two sets under their best matching.

  .. math::
    L = \min_\pi \sum_{m=1}^{M} C_{\pi(m)}, \qquad M = O,

  with the :math:`C` of `pairwise_huber`: the matching minimizes the loss
  itself. Padding rows are matched, too, which trains the confidence. Where
  there are fewer predictions than targets, rows of zeros stand for those that
  are missing, so that objects cannot be missed for nothing. The
  gradient flows through the matched costs, not through the choice of pairs.

  Args:
    predictions: [B, K, P], in [0, 1].
    targets: [B, O, P], in [0, 1], rows of zeros as padding.
    weights: [P] non-negative weight of each dimension in the loss and the
      matching; None for ones.

  Returns:
    [B] float32, the sum over the matched pairs of each example. The reference's
    training loss is its mean over the batch, which is left to the caller, who
    may have padding examples to leave out. An example with a NaN gets NaN.

  Raises:
    ValueError: if the shapes do not fit.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax import losses
    >>> targets = jnp.array([[[0.0, 1.0], [1.0, 0.0]]])  # [1, 2, 2]
    >>> losses.set_prediction_loss(targets[:, ::-1], targets).tolist()
    [0.0]
    >>> losses.set_prediction_loss(jnp.zeros((1, 2, 2)), targets).tolist()
    [0.5]

  References:
    Zhang et al., `Deep Set Prediction Networks
    <https://arxiv.org/abs/1906.06565>`_, 2019, equation 2; Locatello et al.,
    `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 3.2; the reference's
    `hungarian_huber_loss` in `slot_attention/utils.py`.
  """
  cost = pairwise_huber(predictions, targets, weights)  # [B, K, O]
  if (missing := cost.shape[2] - cost.shape[1]) > 0:
    # Every target counts: what no prediction is left for, one of zeros gets.
    nothing = jnp.zeros((cost.shape[0], 1, predictions.shape[2]))
    absent = pairwise_huber(nothing, targets, weights)  # [B, 1, O]
    cost = jnp.concatenate([cost, jnp.repeat(absent, missing, axis=1)], axis=1)
  rows, cols = matching.hungarian_match(cost)  # [B, M], [B, M]
  # vmap, because the partitioner keeps a gather per example on its device.
  matched = jax.vmap(lambda c, row, col: c[row, col])(
    cost, rows, cols
  )  # [B, M]
  return jnp.sum(matched, axis=-1)  # [B]


def reconstruction_loss(
  reconstruction: jax.Array, images: jax.Array
) -> jax.Array:
  r"""Mean squared error of each reconstructed image.

  .. math::
    L = \frac{1}{HWC} \sum_{h, w, c} (\hat x_{hwc} - x_{hwc})^2

  Args:
    reconstruction: [B, H, W, C], float32 or bfloat16.
    images: [B, H, W, C], in [-1, 1].

  Returns:
    [B] float32, whatever the dtype of the inputs: the H * W * C terms are
    squared and added in float32.

  Raises:
    ValueError: if the shapes differ or are not four-dimensional.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax import losses
    >>> images = jnp.ones((2, 8, 8, 3))
    >>> losses.reconstruction_loss(-images, images).tolist()
    [4.0, 4.0]

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 3.1; the reference's
    `l2_loss` in `slot_attention/utils.py`.
  """
  if reconstruction.shape != images.shape or images.ndim != 4:
    raise ValueError(
      "reconstruction_loss: expected reconstruction and images of one shape "
      f"[B, H, W, C], got {reconstruction.shape} and {images.shape}; compare "
      "the decoder's resolution with the dataset's."
    )
  error = jnp.asarray(reconstruction, jnp.float32) - jnp.asarray(
    images, jnp.float32
  )
  return jnp.mean(jnp.square(error), axis=(1, 2, 3))  # [B]


def mask_overlap(masks: jax.Array) -> jax.Array:
  r"""How much slots share pixels.

  .. math::
    \frac{1}{HW} \sum_{p} \sum_{k \ne l} m_k(p)\, m_l(p)

  Args:
    masks: [B, K, H, W, 1], in [0, 1]; of all slots, or of some.

  Returns:
    [B] float32, at least 0: 0 where no pixel is covered by two of the slots,
    and 1 - 1 / K where each has an equal share of every pixel.

  Raises:
    ValueError: if the masks do not have five axes.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax import losses
    >>> losses.mask_overlap(jnp.full((2, 4, 8, 8, 1), 0.25)).tolist()
    [0.75, 0.75]
    >>> losses.mask_overlap(jnp.ones((2, 1, 8, 8, 1))).tolist()
    [0.0, 0.0]
  """
  if masks.ndim != 5:
    raise ValueError(
      f"mask_overlap: expected masks [B, K, H, W, 1], got {masks.shape}. They "
      "are the `masks` of an autoencoder's output."
    )
  masks = masks.astype(jnp.float32)
  pairs = jnp.square(masks.sum(axis=1)) - jnp.square(masks).sum(axis=1)
  return pairs.mean(axis=(1, 2, 3))
