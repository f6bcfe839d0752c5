"""Set prediction: slots to property vectors."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn

from slot_attention_jax.models import presets, slot_model
from slot_attention_jax.modules import attention_moments as moments_lib
from slot_attention_jax.modules import encoder as encoder_lib
from slot_attention_jax.modules import initializers
from slot_attention_jax.modules import slot_attention as slot_attention_lib


@flax.struct.dataclass
class ClassifierOutput:
  """What the set predictor computes.

  Attributes:
    predictions: [B, K, P] property vectors in [0, 1], float32.
    slots: [B, K, D].
    attention: [B, T, K, N] attention of each iteration, float32.
  """

  predictions: jax.Array
  slots: jax.Array
  attention: jax.Array


class PropertyHead(nn.Module):
  """Maps each slot to a property vector: Dense, ReLU, Dense, sigmoid.

  Attributes:
    num_properties: P.
    hidden_size: width of the hidden layer.
    dtype: dtype of the matrix products; the sigmoid is computed in float32.
    param_dtype: dtype of the parameters.
  """

  num_properties: int
  hidden_size: int = 64
  dtype: Any = None
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, slots: jax.Array) -> jax.Array:
    """Maps slots [B, K, D] to predictions [B, K, P] in [0, 1], float32."""
    x = slots
    for i, width in enumerate((self.hidden_size, self.num_properties)):
      x = nn.relu(x) if i else x
      x = nn.Dense(
        width,
        kernel_init=initializers.glorot_uniform(self),
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f"dense_{i}",
      )(x)
    return nn.sigmoid(x.astype(jnp.promote_types(jnp.float32, x.dtype)))


class SlotAttentionClassifier(slot_model.SlotModel):
  """Supervised set prediction: image to a set of property vectors.

  The model has three parts, and any linen module with the signature below can
  take the place of one:

  * `encoder(images [B, H, W, C]) -> inputs [B, N, F]` and
    `slot_attention(inputs, **options) -> (slots [B, K, D], attention
    [B, T, K, N])`, as in `SlotAttentionAutoEncoder`;
  * `head(slots [B, K, D]) -> predictions [B, K, P]`, in [0, 1].

  A part that is not given is the paper's for CLEVR. Fields of the parts are
  keywords of the model, too, as in `SlotAttentionAutoEncoder`; those of the
  head are `num_properties` and `head_hidden_size`.

  Attributes:
    encoder: `CNNEncoder` with strides (1, 2, 2, 1), or another.
    slot_attention: `SlotAttention` with 10 slots, or another.
    head: `PropertyHead` of 19 properties, or another. Their number is the
      `PropertyLayout.size` of the dataset.
    attention_moments: whether the head also sees where the last iteration's
      attention of each slot lies: a linear map of `attention_moments`, with the
      parameters `moments/kernel` [5, D] that begin as zeros, is added to the
      slots it gets. The encoder must have a method `feature_grid`. False, as in
      the paper.

  Raises:
    TypeError: on a keyword that no part has.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import slot_attention_jax as sa
    >>> model = sa.SlotAttentionClassifier.from_preset("clevr")
    >>> images = jnp.zeros((2, 64, 64, 3))
    >>> rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
    >>> out, params = jax.jit(model.init_with_output)(rngs, images)
    >>> out.predictions.shape
    (2, 10, 19)

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 2.3 and appendix.
  """

  head: nn.Module
  attention_moments: bool = False

  PRESETS = presets.CLASSIFIER_PRESETS

  def __init__(
    self,
    *,
    encoder: nn.Module | None = None,
    slot_attention: nn.Module | None = None,
    head: nn.Module | None = None,
    attention_moments: bool = False,
    **options: Any,
  ):
    # Without a parent: see `SlotAttentionAutoEncoder`.
    if encoder is None:
      encoder = encoder_lib.CNNEncoder(strides=(1, 2, 2, 1), parent=None)
    if slot_attention is None:
      slot_attention = slot_attention_lib.SlotAttention(
        num_slots=10, parent=None
      )
    if head is None:
      head = PropertyHead(num_properties=19, parent=None)
    parts = {"encoder": encoder, "slot_attention": slot_attention, "head": head}
    options |= {"attention_moments": attention_moments}
    slot_model.init_fields(self, parts, options)

  @nn.compact
  def __call__(
    self, images: jax.Array, **slot_options: Any
  ) -> ClassifierOutput:
    """Predicts the objects of images.

    Args:
      images: [B, H, W, C] in [-1, 1].
      **slot_options: `num_slots`, `num_iterations`, `noise`, `initial_slots`,
        `mask` and `stop_after` as in `SlotAttention.__call__`; the RNG stream
        `"slots"` is used when neither noise nor initial slots are given.

    Returns:
      A `ClassifierOutput`.

    Raises:
      ValueError: if the images do not have four axes, the head's result is not
        [B, K, P], or with `attention_moments` the encoder does not say which
        grid its inputs lie on.
    """
    slots, attention = self.encode(images, **slot_options)
    seen = slots
    if self.attention_moments:
      last = _last_attention(attention, slot_options.get("stop_after"))
      _, height, width, _ = images.shape
      grid = self._moments_grid((height, width), last.shape[-1])
      seen += nn.Dense(
        slots.shape[-1],
        use_bias=False,
        kernel_init=nn.initializers.zeros,
        dtype=slots.dtype,
        param_dtype=getattr(self.slot_attention, "param_dtype", jnp.float32),
        name="moments",
      )(moments_lib.attention_moments(last, grid))
    predictions = self.head(seen)
    if predictions.ndim != 3 or predictions.shape[:2] != slots.shape[:2]:
      raise ValueError(
        f"Expected a head that makes predictions [B, K, P] of slots "
        f"{slots.shape}, got {predictions.shape} from "
        f"{type(self.head).__name__}."
      )
    return ClassifierOutput(
      predictions=predictions, slots=slots, attention=attention
    )

  @nn.nowrap
  def _moments_grid(
    self, resolution: tuple[int, int], num_inputs: int
  ) -> tuple[int, int]:
    """The grid of the inputs, as the encoder says; never a guess."""
    encoder = type(self.encoder).__name__
    if not hasattr(self.encoder, "feature_grid"):
      raise ValueError(
        "Expected an encoder that says where its inputs lie, which "
        f"attention_moments needs, got {encoder}. Give it a method "
        "`feature_grid(resolution)` that returns (h, w), or set "
        "attention_moments=False."
      )
    h, w = self.feature_grid(resolution)
    if h * w != num_inputs:
      raise ValueError(
        f"Expected {h} x {w} inputs of images of {resolution}, as "
        f"`feature_grid` of {encoder} says, got {num_inputs}. "
        "attention_moments needs inputs that lie on a grid and no others."
      )
    return h, w


def _last_attention(
  attention: jax.Array, stop_after: jax.Array | None
) -> jax.Array:
  """The attention [B, K, N] of the iteration that last changed the slots."""
  if stop_after is None:
    return attention[:, -1]
  index = (stop_after - 1)[:, None, None, None]
  return jnp.take_along_axis(attention, index, axis=1)[:, 0]
