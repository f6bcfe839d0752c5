"""Object discovery on Multi-dSprites: the paper's model.

Paper: Locatello et al. 2020, section 3.1 and appendix.
Run: `python -m slot_attention_jax.main --config=multi_dsprites`.
Variants, after a colon: `fast`, for one GPU; `small`, synthetic scenes at 32x32
  pixels for a CPU; `with_masks`, the images of multi_object_datasets and
  nothing in their place.
Cost: 0.55 EFLOP.
Expected: FG-ARI 91.3 +- 0.3 % on Multi-dSprites of multi_object_datasets (the
  paper, 5 seeds).
Deviations: where that dataset was not prepared, the run trains on endless
  synthetic scenes and says so.
"""

import ml_collections

from slot_attention_jax.config import arguments, base


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `arg` names variants, separated by commas."""
  config = base.base_config()
  config.task = "discovery"

  config.data.name = "multi_dsprites"
  config.data.resolution = (64, 64)

  config.model.num_slots = 6
  config.model.num_iterations = 3
  config.model.slot_size = 64
  config.model.mlp_hidden_size = 128
  config.model.encoder_channels = (32, 32, 32, 32)
  config.model.encoder_kernel_sizes = (5, 5, 5, 5)
  config.model.encoder_strides = (1, 1, 1, 1)
  config.model.encoder_mlp_sizes = (64, 64)
  config.model.broadcast_size = (64, 64)
  config.model.decoder_channels = (32, 32, 32)
  config.model.decoder_kernel_sizes = (5, 5, 5, 3)
  config.model.decoder_strides = (1, 1, 1, 1)

  config.optim.name = "adam"
  config.optim.schedule = "exponential"
  config.optim.learning_rate = 4e-4
  config.optim.warmup_steps = 10_000
  config.optim.decay_rate = 0.5
  config.optim.decay_steps = 100_000

  config.train.batch_size = 64
  config.train.num_steps = 500_000
  config.eval.every_steps = 10_000
  config.checkpoint.best_metric = "fg_ari"
  config.checkpoint.best_mode = "max"
  return arguments.apply_arguments(config, arg, fast, small, with_masks)


def fast(config: ml_collections.ConfigDict) -> None:
  """For one GPU: a coarser grid, bfloat16, a tenth of the steps."""
  _coarse_model(config, size=64, channels=64)
  _short_training(config, num_steps=50_000)
  config.model.precision = "bfloat16"


def small(config: ml_collections.ConfigDict) -> None:
  """For a CPU: synthetic scenes at 32x32 pixels."""
  _coarse_model(config, size=32, channels=32)
  _short_training(config, num_steps=20_000)
  config.data.name = "multi_dsprites_scenes"
  config.train.batch_size = 8


def with_masks(config: ml_collections.ConfigDict) -> None:
  """The dataset with its masks; an error if it is missing."""
  config.data.name = "multi_dsprites"
  config.data.variant = "colored_on_grayscale"
  config.data.fallback = False


def _coarse_model(config, size, channels):
  """Slots attend to, and are decoded on, a grid half the image's."""
  config.data.resolution = (size, size)
  config.model.slot_init = "per_slot"
  config.model.encoder_channels = (channels,) * 3
  config.model.encoder_kernel_sizes = (6, 5, 5)
  config.model.encoder_strides = (2, 1, 1)
  config.model.encoder_mlp_sizes = (128, 64)
  config.model.broadcast_size = (size // 2, size // 2)
  config.model.decoder_channels = (channels,) * 2
  config.model.decoder_kernel_sizes = (5, 5, 6)
  config.model.decoder_strides = (1, 1, 2)


def _short_training(config, num_steps):
  """Makes few steps go far: Muon, a high rate, a cosine down to 0."""
  config.model.unroll = 3
  config.optim.name = "muon"
  config.optim.schedule = "cosine"
  # At twice this rate, a run saw only the background for 1,500 steps.
  config.optim.learning_rate = 1e-3
  config.optim.warmup_steps = num_steps // 40
  config.optim.decay_steps = num_steps
  config.optim.clip_norm = 1.0
  config.train.num_steps = num_steps
  config.eval.every_steps = num_steps // 10
  config.checkpoint.every_steps = num_steps // 10
