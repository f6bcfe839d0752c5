"""The two models of the paper: autoencoder and set predictor.

They put modules together; losses, data and training live elsewhere.
"""

from slot_attention_jax.models.autoencoder import (
  AUTOENCODER_PRESETS,
  CLASSIFIER_PRESETS,
  AutoEncoderOutput,
  ClassifierOutput,
  PropertyHead,
  SlotAttentionAutoEncoder,
  SlotAttentionClassifier,
)
