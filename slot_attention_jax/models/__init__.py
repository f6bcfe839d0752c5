"""The two models of the paper, autoencoder and set predictor, from their parts.

Each puts modules together and any part can be another module. The modules
themselves, losses, data and training live elsewhere.
"""

from slot_attention_jax.models.autoencoder import (
  AutoEncoderOutput,
  SlotAttentionAutoEncoder,
)
from slot_attention_jax.models.presets import (
  AUTOENCODER_PRESETS,
  CLASSIFIER_PRESETS,
)
from slot_attention_jax.models.set_predictor import (
  ClassifierOutput,
  PropertyHead,
  SlotAttentionClassifier,
)
