"""Object discovery on CLEVR images: the paper's CLEVR6 model.

Paper: Locatello et al. 2020, section 3.1 and appendix.
Run: `python -m slot_attention_jax.main --config=clevr_discovery`, with CLEVR
  prepared by TFDS (see the README); without it, the run trains on synthetic
  CLEVR scenes and says so.
Variants, after a colon: `fast`, for one GPU, a tenth of the FLOP per image;
  `small`, synthetic scenes at 64x64 pixels for a CPU; `small,background`, with
  the background in a slot of its own; `small,background,enlarged`, at 128x128
  pixels from the weights of a run of the former; `with_masks`, CLEVR with
  masks, with the paper's splits and metrics.
Cost: 4.0 EFLOP; the authors trained for days on one V100 of 16 GB.
Expected: FG-ARI 98.8 +- 0.3 % on CLEVR with masks, scenes of at most 6 objects
  (the paper, 5 seeds). TFDS's CLEVR has no masks: on it only the MSE is known.
Deviations: the paper trained on the first 70,000 images of CLEVR with masks, as
  `with_masks` does; by default this trains on TFDS's CLEVR, as the reference
  code does.
"""

import ml_collections

from slot_attention_jax.config import arguments, base


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `arg` names variants, separated by commas."""
  config = base.base_config()
  config.task = "discovery"

  config.data.name = "clevr"
  config.data.resolution = (128, 128)
  config.data.max_objects = 6

  config.model.num_slots = 7
  config.model.num_iterations = 3
  config.model.slot_size = 64
  config.model.mlp_hidden_size = 128
  config.model.encoder_channels = (64, 64, 64, 64)
  config.model.encoder_kernel_sizes = (5, 5, 5, 5)
  config.model.encoder_strides = (1, 1, 1, 1)
  config.model.encoder_mlp_sizes = (64, 64)
  config.model.broadcast_size = (8, 8)
  config.model.decoder_channels = (64, 64, 64, 64, 64)
  config.model.decoder_kernel_sizes = (5, 5, 5, 5, 5, 3)
  config.model.decoder_strides = (2, 2, 2, 2, 1, 1)

  config.optim.name = "adam"
  config.optim.schedule = "exponential"
  config.optim.learning_rate = 4e-4
  config.optim.warmup_steps = 10_000
  config.optim.decay_rate = 0.5
  config.optim.decay_steps = 100_000

  config.train.batch_size = 64
  config.train.num_steps = 500_000
  config.eval.every_steps = 10_000
  config.checkpoint.best_metric = "mse"
  config.checkpoint.best_mode = "min"
  return arguments.apply_arguments(
    config, arg, fast, small, background, enlarged, with_masks
  )


def fast(config: ml_collections.ConfigDict) -> None:
  """For one GPU: a coarser grid, bfloat16, a tenth of the steps."""
  _coarse_model(config, size=128, channels=64)
  _short_training(config, num_steps=50_000)
  config.model.precision = "bfloat16"


def small(config: ml_collections.ConfigDict) -> None:
  """For a CPU: synthetic scenes at 64x64 pixels."""
  _coarse_model(config, size=64, channels=32)
  _short_training(config, num_steps=20_000)
  config.data.name = "clevr_scenes"
  config.train.batch_size = 8
  config.checkpoint.best_metric = "auto"


def background(config: ml_collections.ConfigDict) -> None:
  """After `small`: slot 0 paints a smooth image, the background."""
  # As many slots as in the paper, and one that paints an image of 4x4 colors
  # and begins with most of the image.
  config.model.num_slots = 8
  config.model.background_grid = 4
  config.model.background_logit = 3.0
  # Once objects are found, slots that share one are to be told apart.
  config.model.overlap_weight = 0.02
  config.model.overlap_ramp = (3_000, 5_000)
  config.model.num_iterations = 5
  config.model.train_iterations = (3, 5)
  config.optim.warmup_steps = 300
  config.optim.decay_steps = 12_000
  config.train.num_steps = 12_000
  config.eval.every_steps = 1_000
  config.checkpoint.every_steps = 1_000


def enlarged(config: ml_collections.ConfigDict) -> None:
  """After `small` or `small,background`: images twice as large.

  `train.initial_weights` must be those of a run without `enlarged`, or empty,
  to start from random ones.
  """
  is_small = tuple(config.data.resolution) == (64, 64)
  arguments.check_order("small", "enlarged", is_small)
  config.train.initial_weights = config.train.initial_weights or base.REQUIRED
  config.data.resolution = (128, 128)
  config.model.encoder_kernel_sizes = (12, 5, 5)
  config.model.encoder_strides = (4, 2, 1)
  config.model.decoder_kernel_sizes = (5, 6, 12)
  config.model.decoder_strides = (1, 2, 4)
  config.model.overlap_weight = 0.02
  config.model.overlap_ramp = (0, 0)
  # A higher rate undoes what was learned.
  config.optim.learning_rate = 5e-4
  config.optim.warmup_steps = 100
  config.optim.decay_steps = 6_000
  config.train.num_steps = 6_000
  config.eval.every_steps = 1_000
  config.checkpoint.every_steps = 1_000


def with_masks(config: ml_collections.ConfigDict) -> None:
  """CLEVR with masks, from multi_object_datasets; an error if it is missing."""
  config.data.name = "clevr_with_masks"
  config.data.fallback = False
  config.checkpoint.best_metric = "fg_ari"
  config.checkpoint.best_mode = "max"


def _coarse_model(config, size, channels):
  """Slots attend to, and are decoded on, a grid a quarter of the image's."""
  config.data.resolution = (size, size)
  config.model.slot_init = "per_slot"
  config.model.encoder_channels = (channels,) * 3
  config.model.encoder_kernel_sizes = (6, 5, 5)
  config.model.encoder_strides = (2, 2, 1)
  config.model.encoder_mlp_sizes = (128, 64)
  config.model.broadcast_size = (size // 4, size // 4)
  config.model.decoder_channels = (channels,) * 2
  config.model.decoder_kernel_sizes = (5, 6, 6)
  config.model.decoder_strides = (1, 2, 2)


def _short_training(config, num_steps):
  """Makes few steps go far: Muon, a high rate, a cosine down to 0."""
  config.model.unroll = 3
  config.optim.name = "muon"
  config.optim.schedule = "cosine"
  config.optim.learning_rate = 2e-3
  config.optim.warmup_steps = num_steps // 40
  config.optim.decay_steps = num_steps
  config.optim.clip_norm = 1.0
  config.train.num_steps = num_steps
  config.eval.every_steps = num_steps // 10
  config.checkpoint.every_steps = num_steps // 10
