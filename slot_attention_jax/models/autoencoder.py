"""Object discovery: the slot attention autoencoder."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn

from slot_attention_jax.models import presets, slot_model
from slot_attention_jax.modules import background as background_lib
from slot_attention_jax.modules import decoder as decoder_lib
from slot_attention_jax.modules import encoder as encoder_lib
from slot_attention_jax.modules import slot_attention as slot_attention_lib


@flax.struct.dataclass
class AutoEncoderOutput:
  """What the autoencoder computes.

  Attributes:
    reconstruction: [B, H, W, C] the mixture of the slots' images, float32.
    images: [B, K, H, W, C] the image that each slot decodes to.
    masks: [B, K, H, W, 1] mixture weights, float32 in [0, 1], sum to 1 over K.
    slots: [B, K, D].
    attention: [B, T, K, N] attention of each iteration, float32.
  """

  reconstruction: jax.Array
  images: jax.Array
  masks: jax.Array
  slots: jax.Array
  attention: jax.Array


class SlotAttentionAutoEncoder(slot_model.SlotModel):
  """Unsupervised object discovery: image to slots and back.

  The model has three parts, and any linen module with the signature below can
  take the place of one:

  * `encoder(images [B, H, W, C]) -> inputs [B, N, F]`. Evaluation scores the
    attention on the grid of the N inputs: that of images downscaled by an
    integer, unless the encoder has a method `feature_grid((H, W)) -> (h, w)`.
  * `slot_attention(inputs, **options) -> (slots [B, K, D], attention
    [B, T, K, N])`, with those options of `SlotAttention.__call__` that calls
    use. Training and evaluation by a `Task` pass `noise` and
    `num_iterations` (with `train_iterations` also `stop_after`), call
    `draw_noise(batch_size) -> [B, K, D]` and read the fields `num_slots` and
    `slot_size`.
  * `decoder(slots [B, K, D]) -> (images [B, K, H, W, C], alpha_logits
    [B, K, H, W, 1])`. The softmax of the logits over the slots mixes the
    images.
  * `background(slots [B, D], (H, W)) -> images [B, H, W, C]`, which the paper
    does not have: if it is given, it paints slot 0, with its field `logit` or
    else 0 as alpha logit, and the decoder the others in front of it; see
    `modules.background`.

  A part that is not given is the paper's for CLEVR. Fields of the parts are
  keywords of the model, too: those of `SlotAttention` by their own names
  (`num_slots`, `slot_size`, ...), the others prefixed with the name of the part
  (`encoder_channels` is `CNNEncoder.channels`, `decoder_strides` is
  `SpatialBroadcastDecoder.strides`), except `broadcast_size`; `dtype` and
  `param_dtype` go to all parts. `clone` takes the same keywords, and the
  options can be read as attributes of the model.

  Attributes:
    encoder: `CNNEncoder`, or another.
    slot_attention: `SlotAttention` with 7 slots, or another.
    decoder: `SpatialBroadcastDecoder`, or another.
    resolution: (H, W) that images must have, in pixels; None: that of the
      decoder's images. With the default decoder (128, 128).
    remat_decoder: recompute the decoder in the backward pass, which trades
      time for memory.
    background: None, as in the paper, `SmoothBackground`, or another.

  Raises:
    TypeError: on a keyword that no part has.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import slot_attention_jax as sa
    >>> model = sa.SlotAttentionAutoEncoder.from_preset("tetrominoes")
    >>> images = jnp.zeros((2, 35, 35, 3))
    >>> rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
    >>> out, params = jax.jit(model.init_with_output)(rngs, images)
    >>> out.reconstruction.shape, out.masks.shape
    ((2, 35, 35, 3), (2, 4, 35, 35, 1))

    Other parts, other fields:

    >>> model = sa.SlotAttentionAutoEncoder(
    ...   encoder=sa.CNNEncoder(strides=(2, 2, 1, 1)),
    ...   slot_attention=sa.SlotAttention(num_slots=5, slot_size=32))
    >>> model.num_slots, model.clone(num_slots=11).slot_attention.num_slots
    (5, 11)

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 2.2 and appendix.
  """

  decoder: nn.Module
  resolution: tuple[int, int] | None = None
  remat_decoder: bool = False
  background: nn.Module | None = None

  PRESETS = presets.AUTOENCODER_PRESETS

  def __init__(
    self,
    *,
    encoder: nn.Module | None = None,
    slot_attention: nn.Module | None = None,
    decoder: nn.Module | None = None,
    resolution: tuple[int, int] | None = None,
    remat_decoder: bool = False,
    background: nn.Module | None = None,
    **options: Any,
  ):
    if decoder is None and resolution is None:
      resolution = (128, 128)
    # Without a parent, so that a module which makes this one in its own
    # compact method does not count the parts among its children.
    if encoder is None:
      encoder = encoder_lib.CNNEncoder(parent=None)
    if slot_attention is None:
      slot_attention = slot_attention_lib.SlotAttention(
        num_slots=7, parent=None
      )
    if decoder is None:
      decoder = decoder_lib.SpatialBroadcastDecoder(parent=None)
    parts = {
      "encoder": encoder,
      "slot_attention": slot_attention,
      "decoder": decoder,
    }
    if background is not None:
      parts["background"] = background
    own = {"resolution": resolution, "remat_decoder": remat_decoder}
    slot_model.init_fields(self, parts, options | own)

  def decode_each(self, slots: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Decodes each slot on its own, before the slots compete for pixels.

    Args:
      slots: [B, K, D].

    Returns:
      A pair (images [B, K, H, W, C], alpha logits [B, K, H, W, 1]). The softmax
      of the logits over any of the slots gives the masks of a scene of these.

    Raises:
      ValueError: if the decoder's results have other shapes.
    """

    def run(decoder, slots):
      return decoder(slots)

    run = nn.remat(run) if self.remat_decoder else run
    in_front = slots if self.background is None else slots[:, 1:]
    alone = in_front.shape[1] == 0  # Not every decoder takes zero slots.
    if alone:
      in_front = slots
    images, alpha_logits = run(self.decoder, in_front)
    if (
      images.ndim != 5
      or images.shape[:2] != in_front.shape[:2]
      or alpha_logits.shape != (*images.shape[:4], 1)
    ):
      raise ValueError(
        "Expected a decoder that makes images [B, K, H, W, C] and alpha logits "
        f"[B, K, H, W, 1] of slots {in_front.shape}, got {images.shape} and "
        f"{alpha_logits.shape} from {type(self.decoder).__name__}."
      )
    if self.background is not None:
      if alone:
        images, alpha_logits = images[:, :0], alpha_logits[:, :0]
      behind = self.background(slots[:, 0], images.shape[2:4])
      images, alpha_logits = background_lib.put_behind(
        behind, images, alpha_logits, getattr(self.background, "logit", 0.0)
      )
    return images, alpha_logits

  def decode(self, slots: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Renders slots.

    Args:
      slots: [B, K, D].

    Returns:
      A triple (reconstruction [B, H, W, C], images [B, K, H, W, C],
      masks [B, K, H, W, 1]); see `AutoEncoderOutput`.

    Raises:
      ValueError: if the decoder's results have other shapes.
    """
    images, alpha_logits = self.decode_each(slots)
    masks = nn.softmax(alpha_logits.astype(jnp.float32), axis=1)
    reconstruction = (masks * images.astype(jnp.float32)).sum(axis=1)
    return reconstruction, images, masks

  def __call__(
    self, images: jax.Array, **slot_options: Any
  ) -> AutoEncoderOutput:
    """Encodes and decodes images.

    Args:
      images: [B, H, W, C] in [-1, 1], of the module's resolution.
      **slot_options: `num_slots`, `num_iterations`, `noise`, `initial_slots`,
        `mask` and `stop_after` as in `SlotAttention.__call__`; the RNG stream
        `"slots"` is used when neither noise nor initial slots are given.

    Returns:
      An `AutoEncoderOutput`.

    Raises:
      ValueError: if the images are not of the module's resolution, have no
        batch axis or are integers, or the decoder's layers do not lead to it.
    """
    encoder_lib.check_images(images, self.resolution)
    slots, attention = self.encode(images, **slot_options)
    reconstruction, slot_images, masks = self.decode(slots)
    if reconstruction.shape != images.shape:
      raise ValueError(
        f"Expected a decoder of images {images.shape}, got "
        f"{reconstruction.shape} from {type(self.decoder).__name__}. Change "
        "its output size (`broadcast_size` or `decoder_strides` of the "
        "spatial broadcast decoder) or the images."
      )
    return AutoEncoderOutput(
      reconstruction=reconstruction,
      images=slot_images,
      masks=masks,
      slots=slots,
      attention=attention,
    )
