"""Slot Attention in JAX and Flax."""

from slot_attention_jax.models import (
  AutoEncoderOutput,
  ClassifierOutput,
  SlotAttentionAutoEncoder,
  SlotAttentionClassifier,
)
from slot_attention_jax.modules.decoder import SpatialBroadcastDecoder
from slot_attention_jax.modules.encoder import CNNEncoder
from slot_attention_jax.modules.position import SoftPositionEmbed
from slot_attention_jax.modules.slot_attention import SlotAttention
