"""The two models of the paper: autoencoder and set predictor."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn

from slot_attention_jax.modules import decoder, encoder, slot_attention


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


AUTOENCODER_PRESETS: Mapping[str, Mapping[str, Any]] = {
  "clevr": {
    "resolution": (128, 128),
    "num_slots": 7,
  },
  "multi_dsprites": {
    "resolution": (64, 64),
    "num_slots": 6,
    "encoder_channels": (32, 32, 32, 32),
    "encoder_mlp_sizes": (64, 64),
    "broadcast_size": (64, 64),
    "decoder_channels": (32, 32, 32),
    "decoder_kernel_sizes": (5, 5, 5, 3),
    "decoder_strides": (1, 1, 1, 1),
  },
  "tetrominoes": {
    "resolution": (35, 35),
    "num_slots": 4,
    "encoder_channels": (32, 32, 32, 32),
    "encoder_mlp_sizes": (64, 64),
    "broadcast_size": (35, 35),
    "decoder_channels": (32, 32, 32),
    "decoder_kernel_sizes": (5, 5, 5, 3),
    "decoder_strides": (1, 1, 1, 1),
  },
}
"""The paper's three object-discovery architectures."""

CLASSIFIER_PRESETS: Mapping[str, Mapping[str, Any]] = {
  "clevr": {
    "num_slots": 10,
    "num_properties": 19,
    "encoder_strides": (1, 2, 2, 1),
  },
}
"""The paper's set-prediction architecture."""


class _SlotModel(nn.Module):
  """What both models share: the encoder, the slots and their fields."""

  num_slots: int = 7
  num_iterations: int = 3
  slot_size: int = 64
  mlp_hidden_size: int | None = 128
  epsilon: float = 1e-8
  encoder_channels: Sequence[int] = (64, 64, 64, 64)
  encoder_kernel_sizes: Sequence[int] = (5, 5, 5, 5)
  encoder_strides: Sequence[int] = (1, 1, 1, 1)
  encoder_mlp_sizes: Sequence[int] = (64, 64)
  unroll: int = 1
  slot_start: str = "shared"
  slot_update: str = "gru"
  normalization: str = "mean"
  gradient: str = "unrolled"
  dtype: Any = None
  param_dtype: Any = jnp.float32

  PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]]

  @classmethod
  def from_preset(cls, name: str, **overrides) -> Self:
    """The paper's architecture for one dataset.

    Args:
      name: one of `PRESETS`.
      **overrides: fields that differ from the preset.

    Returns:
      The module.

    Raises:
      ValueError: if there is no such preset.
    """
    if name not in cls.PRESETS:
      raise ValueError(
        f"Expected a preset of {cls.__name__} out of {sorted(cls.PRESETS)}, "
        f"got {name!r}."
      )
    return cls(**{**cls.PRESETS[name], **overrides})

  @property
  def _dtypes(self):
    return {"dtype": self.dtype, "param_dtype": self.param_dtype}

  def setup(self):
    self.encoder = encoder.CNNEncoder(
      channels=self.encoder_channels,
      kernel_sizes=self.encoder_kernel_sizes,
      strides=self.encoder_strides,
      mlp_sizes=self.encoder_mlp_sizes,
      **self._dtypes,
    )
    self.slot_attention = slot_attention.SlotAttention(
      num_slots=self.num_slots,
      num_iterations=self.num_iterations,
      slot_size=self.slot_size,
      mlp_hidden_size=self.mlp_hidden_size,
      epsilon=self.epsilon,
      unroll=self.unroll,
      slot_start=self.slot_start,
      slot_update=self.slot_update,
      normalization=self.normalization,
      gradient=self.gradient,
      **self._dtypes,
    )

  def encode(
    self, images: jax.Array, **slot_options
  ) -> tuple[jax.Array, jax.Array]:
    """Finds the slots of images.

    Args:
      images: [B, H, W, 3] in [-1, 1], of any size.
      **slot_options: keyword arguments of `SlotAttention.__call__`.

    Returns:
      A pair (slots [B, K, D], attention [B, T, K, N]).
    """
    return self.slot_attention(self.encoder(images), **slot_options)

  def grid_of(self, resolution: tuple[int, int]) -> tuple[int, int]:
    """The grid (h, w) of the N = h w inputs for images of (H, W) pixels."""
    h, w = resolution
    for stride in self.encoder_strides:
      h, w = -(-h // stride), -(-w // stride)
    return h, w

  def draw_noise(self, batch_size: int) -> jax.Array:
    """Noise [B, K, D] that a call draws; see `SlotAttention.draw_noise`."""
    return self.slot_attention.draw_noise(batch_size)


class SlotAttentionAutoEncoder(_SlotModel):
  """Unsupervised object discovery: image to slots and back.

  Attributes:
    resolution: (H, W) of the images, in pixels.
    num_slots: K, unless the call says otherwise.
    num_iterations: T, unless the call says otherwise.
    slot_size: D.
    mlp_hidden_size: hidden width of the module's MLP; None or 0: no MLP.
    epsilon: see `SlotAttention`.
    encoder_channels: see `CNNEncoder.channels`.
    encoder_kernel_sizes: see `CNNEncoder.kernel_sizes`.
    encoder_strides: see `CNNEncoder.strides`.
    encoder_mlp_sizes: see `CNNEncoder.mlp_sizes`.
    broadcast_size: see `SpatialBroadcastDecoder.broadcast_size`.
    decoder_channels: see `SpatialBroadcastDecoder.channels`.
    decoder_kernel_sizes: see `SpatialBroadcastDecoder.kernel_sizes`.
    decoder_strides: see `SpatialBroadcastDecoder.strides`.
    remat_decoder: recompute the decoder in the backward pass, which trades
      time for memory.
    unroll: see `SlotAttention.unroll`.
    slot_start: see `SlotAttention.slot_start`.
    slot_update: see `SlotAttention.slot_update`.
    normalization: see `SlotAttention.normalization`.
    gradient: see `SlotAttention.gradient`.
    dtype: dtype of convolutions and matrix products; None: that of inputs and
      parameters. Softmaxes and the mixture stay in float32.
    param_dtype: dtype of the parameters.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import slot_attention_jax as sa
    >>> model = sa.SlotAttentionAutoEncoder.from_preset("tetrominoes")
    >>> images = jnp.zeros((2, 35, 35, 3))
    >>> rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
    >>> out, params = model.init_with_output(rngs, images)
    >>> out.reconstruction.shape, out.masks.shape
    ((2, 35, 35, 3), (2, 4, 35, 35, 1))

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 2.2 and appendix.
  """

  resolution: tuple[int, int] = (128, 128)
  broadcast_size: tuple[int, int] = (8, 8)
  decoder_channels: Sequence[int] = (64, 64, 64, 64, 64)
  decoder_kernel_sizes: Sequence[int] = (5, 5, 5, 5, 5, 3)
  decoder_strides: Sequence[int] = (2, 2, 2, 2, 1, 1)
  remat_decoder: bool = False

  PRESETS = AUTOENCODER_PRESETS

  def setup(self):
    super().setup()
    cls = decoder.SpatialBroadcastDecoder
    self.decoder = (nn.remat(cls) if self.remat_decoder else cls)(
      broadcast_size=self.broadcast_size,
      channels=self.decoder_channels,
      kernel_sizes=self.decoder_kernel_sizes,
      strides=self.decoder_strides,
      name="decoder",
      **self._dtypes,
    )

  def decode(self, slots: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Renders slots.

    Args:
      slots: [B, K, D].

    Returns:
      A triple (reconstruction [B, H, W, 3], images [B, K, H, W, 3],
      masks [B, K, H, W, 1]); see `AutoEncoderOutput`.
    """
    images, alpha_logits = self.decoder(slots)
    masks = nn.softmax(alpha_logits.astype(jnp.float32), axis=1)
    reconstruction = (masks * images.astype(jnp.float32)).sum(axis=1)
    return reconstruction, images, masks

  def __call__(self, images: jax.Array, **slot_options) -> AutoEncoderOutput:
    """Encodes and decodes images.

    Args:
      images: [B, H, W, 3] in [-1, 1], of the module's resolution.
      **slot_options: `num_slots`, `num_iterations`, `noise`, `initial_slots`
        and `mask` as in `SlotAttention.__call__`; the RNG stream `"slots"` is
        used when neither noise nor initial slots are given.

    Returns:
      An `AutoEncoderOutput`.

    Raises:
      ValueError: if the images are not of the module's resolution, or the
        decoder's layers do not lead to it.
    """
    if images.ndim != 4 or images.shape[1:3] != tuple(self.resolution):
      raise ValueError(
        f"Expected images [B, {self.resolution[0]}, {self.resolution[1]}, 3], "
        f"got {images.shape}. Resize them or set `resolution`."
      )
    slots, attention = self.encode(images, **slot_options)
    reconstruction, slot_images, masks = self.decode(slots)
    if reconstruction.shape != images.shape:
      raise ValueError(
        f"The decoder makes images {reconstruction.shape} out of a broadcast "
        f"grid {self.broadcast_size} and strides {tuple(self.decoder_strides)}"
        f", expected {images.shape}: change `broadcast_size` or "
        "`decoder_strides`."
      )
    return AutoEncoderOutput(
      reconstruction=reconstruction,
      images=slot_images,
      masks=masks,
      slots=slots,
      attention=attention,
    )


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
        kernel_init=nn.initializers.glorot_uniform(),
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        name=f"dense_{i}",
      )(x)
    return nn.sigmoid(x.astype(jnp.promote_types(jnp.float32, x.dtype)))


class SlotAttentionClassifier(_SlotModel):
  """Supervised set prediction: image to a set of property vectors.

  Attributes:
    num_properties: P, the size of the dataset's `PropertyLayout`.
    num_slots: K, unless the call says otherwise.
    num_iterations: T, unless the call says otherwise.
    slot_size: D.
    mlp_hidden_size: hidden width of the module's MLP; None or 0: no MLP.
    epsilon: see `SlotAttention`.
    encoder_channels: see `CNNEncoder.channels`.
    encoder_kernel_sizes: see `CNNEncoder.kernel_sizes`.
    encoder_strides: see `CNNEncoder.strides`.
    encoder_mlp_sizes: see `CNNEncoder.mlp_sizes`.
    head_hidden_size: width of the hidden layer of the head.
    unroll: see `SlotAttention.unroll`.
    slot_start: see `SlotAttention.slot_start`.
    slot_update: see `SlotAttention.slot_update`.
    normalization: see `SlotAttention.normalization`.
    gradient: see `SlotAttention.gradient`.
    dtype: dtype of convolutions and matrix products; None: that of inputs and
      parameters.
    param_dtype: dtype of the parameters.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import slot_attention_jax as sa
    >>> model = sa.SlotAttentionClassifier.from_preset("clevr")
    >>> images = jnp.zeros((2, 64, 64, 3))
    >>> rngs = {"params": jax.random.key(0), "slots": jax.random.key(1)}
    >>> out, params = model.init_with_output(rngs, images)
    >>> out.predictions.shape
    (2, 10, 19)

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 2.3 and appendix.
  """

  num_properties: int = 19
  num_slots: int = 10
  encoder_strides: Sequence[int] = (1, 2, 2, 1)
  head_hidden_size: int = 64

  PRESETS = CLASSIFIER_PRESETS

  def setup(self):
    super().setup()
    self.head = PropertyHead(
      self.num_properties, self.head_hidden_size, **self._dtypes
    )

  def __call__(self, images: jax.Array, **slot_options) -> ClassifierOutput:
    """Predicts the objects of images.

    Args:
      images: [B, H, W, 3] in [-1, 1].
      **slot_options: `num_slots`, `num_iterations`, `noise`, `initial_slots`
        and `mask` as in `SlotAttention.__call__`; the RNG stream `"slots"` is
        used when neither noise nor initial slots are given.

    Returns:
      A `ClassifierOutput`.

    Raises:
      ValueError: if the images do not have four axes.
    """
    slots, attention = self.encode(images, **slot_options)
    return ClassifierOutput(
      predictions=self.head(slots), slots=slots, attention=attention
    )
