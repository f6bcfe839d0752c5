"""Slot Attention in JAX and Flax."""

from slot_attention_jax.models import AutoEncoderOutput
from slot_attention_jax.models import ClassifierOutput
from slot_attention_jax.models import SlotAttentionAutoEncoder
from slot_attention_jax.models import SlotAttentionClassifier
from slot_attention_jax.modules.decoder import SpatialBroadcastDecoder
from slot_attention_jax.modules.encoder import CNNEncoder
from slot_attention_jax.modules.position import SoftPositionEmbed
from slot_attention_jax.modules.slot_attention import SlotAttention
