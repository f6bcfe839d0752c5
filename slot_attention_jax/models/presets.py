"""The paper's architectures: options of the two models by dataset."""

from collections.abc import Mapping
from typing import Any

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
"""Object discovery; what is not named is `SlotAttentionAutoEncoder`'s own."""

CLASSIFIER_PRESETS: Mapping[str, Mapping[str, Any]] = {
  "clevr": {
    "num_slots": 10,
    "num_properties": 19,
    "encoder_strides": (1, 2, 2, 1),
  },
}
"""Set prediction; what is not named is `SlotAttentionClassifier`'s own."""
