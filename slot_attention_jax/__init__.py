"""Slot Attention in JAX and Flax: modules, models, losses, metrics, weights.

The names below are the public API. Importing them needs neither TensorFlow
nor TensorFlow Datasets, orbax or matplotlib; training lives in
`slot_attention_jax.main`.
"""

from slot_attention_jax import interop
from slot_attention_jax.config.load import load_config
from slot_attention_jax.data.transforms import preprocess
from slot_attention_jax.data.types import (
  CLEVR_LAYOUT,
  Property,
  PropertyLayout,
)
from slot_attention_jax.losses import (
  pairwise_huber,
  reconstruction_loss,
  set_prediction_loss,
)
from slot_attention_jax.matching import hungarian_match
from slot_attention_jax.metrics.ari import adjusted_rand_index
from slot_attention_jax.metrics.attributes import (
  attribute_counts,
  attribute_scores,
)
from slot_attention_jax.metrics.average_precision import average_precision
from slot_attention_jax.metrics.masks import attention_masks
from slot_attention_jax.metrics.overlap import (
  mean_best_overlap,
  mean_iou,
  segmentation_covering,
)
from slot_attention_jax.metrics.reconstruction import psnr
from slot_attention_jax.metrics.segmentation import (
  background_segments,
  slots_in_use,
)
from slot_attention_jax.metrics.standard_errors import (
  mean_and_standard_error,
  ratio_and_standard_error,
)
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
from slot_attention_jax.predict.predictions import Predictions, predict
from slot_attention_jax.pretrained import (
  WeightsFacts,
  WeightsMetadata,
  load_pretrained,
  load_weights,
  pretrained_facts,
  pretrained_metadata,
  pretrained_names,
  push_to_hub,
  read_weights_facts,
  read_weights_metadata,
)
from slot_attention_jax.report.write import write_report

__version__ = "0.1.0"
