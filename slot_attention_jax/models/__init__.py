"""The two models of the paper, autoencoder and set predictor, from their parts.

Each puts modules together and any part can be another module. The modules
themselves, losses, data and training live elsewhere.
"""

from jax import export as _export

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

# So that `jax.export` can write a whole model to a file.
for _output in (AutoEncoderOutput, ClassifierOutput):
  _export.register_pytree_node_serialization(
    _output,
    serialized_name=f"slot_attention_jax.{_output.__name__}",
    serialize_auxdata=lambda auxiliary: b"",  # They have none.
    deserialize_auxdata=lambda serialized: (),
  )
