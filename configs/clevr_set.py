"""Set prediction on CLEVR: the properties of up to 10 objects.

Paper: Locatello et al. 2020, section 3.2 and appendix.
Run: `python -m slot_attention_jax.main --config=clevr_set`, with CLEVR prepared
  by TFDS (see the README); without it, the run trains on synthetic CLEVR
  scenes and says so.
Variants, after a colon: `fast`, for one GPU; `small`, synthetic scenes at 64x64
  pixels for a CPU; `small,enlarged`, at 128x128 pixels from the weights of a
  run of `small`; `with_masks`, the images and annotations of CLEVR with masks.
Cost: 0.33 EFLOP.
Expected: AP 94.3 / 86.7 / 56.0 / 10.8 / 0.9 % at distances infinity / 1 / 0.5
  / 0.25 / 0.125 on CLEVR's 15,000 validation images (the paper, 5 seeds);
  a position weight above 1 (`model.position_weight`) raises the last at the
  cost of the first.
Deviations: none known.
"""

import ml_collections

from slot_attention_jax.config import arguments, base


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `arg` names variants, separated by commas."""
  config = base.base_config()
  config.task = "set_prediction"

  config.data.name = "clevr"
  config.data.resolution = (128, 128)
  config.data.crop = ""
  # Synthetic scenes get the frame of TFDS's CLEVR.
  config.data.scenes.frame = (320, 480)

  config.model.num_slots = 10
  config.model.num_iterations = 3
  config.model.slot_size = 64
  config.model.mlp_hidden_size = 128
  config.model.encoder_channels = (64, 64, 64, 64)
  config.model.encoder_kernel_sizes = (5, 5, 5, 5)
  config.model.encoder_strides = (1, 2, 2, 1)
  config.model.encoder_mlp_sizes = (64, 64)
  config.model.head_hidden_size = 64

  config.optim.name = "adam"
  config.optim.schedule = "exponential"
  config.optim.learning_rate = 4e-4
  config.optim.warmup_steps = 1_000
  config.optim.decay_rate = 0.5
  config.optim.decay_steps = 50_000

  config.train.batch_size = 512
  config.train.num_steps = 150_000
  config.eval.batch_size = 512
  config.eval.every_steps = 5_000
  config.checkpoint.best_metric = "ap_inf"
  config.checkpoint.best_mode = "max"
  return arguments.apply_arguments(
    config, arg, fast, small, enlarged, with_masks
  )


def fast(config: ml_collections.ConfigDict) -> None:
  """For one GPU: a coarser grid, bfloat16, smaller batches, half the steps."""
  _short_training(config, num_steps=80_000)
  config.model.encoder_strides = (2, 2, 1, 1)
  config.model.precision = "bfloat16"
  config.train.batch_size = 128


def small(config: ml_collections.ConfigDict) -> None:
  """For a CPU: 50,000 synthetic scenes at 64x64 pixels."""
  _short_training(config, num_steps=20_000)
  config.data.name = "clevr_scenes"
  config.data.resolution = (64, 64)
  config.data.scenes.num_train = 50_000
  config.model.encoder_channels = (32, 64, 64)
  config.model.encoder_kernel_sizes = (6, 5, 5)
  config.model.encoder_strides = (2, 2, 1)
  config.train.batch_size = 32


def enlarged(config: ml_collections.ConfigDict) -> None:
  """After `small`: larger images; the head sees where slots' attention lies.

  `train.initial_weights` must be those of a run of `small`, or empty, to start
  from random ones.
  """
  is_small = tuple(config.data.resolution) == (64, 64)
  arguments.check_order("small", "enlarged", is_small)
  config.train.initial_weights = config.train.initial_weights or base.REQUIRED
  config.data.resolution = (128, 128)
  config.data.scenes.num_train = 50_000
  config.model.encoder_kernel_sizes = (12, 5, 5)
  config.model.encoder_strides = (4, 2, 1)
  config.model.num_iterations = 5
  config.model.train_iterations = (3, 5)
  # Slots alone tell half as many positions to within 0.5 units.
  config.model.attention_moments = True
  # With 1, a wrong class costs 200 times what a coordinate costs that is
  # wrong by a tenth of the scene, 0.6 units.
  config.model.position_weight = 10.0
  # 1e-3 undoes much of what the weights know.
  config.optim.learning_rate = 3e-4
  config.optim.warmup_steps = 200
  config.optim.decay_steps = 15_000
  config.train.num_steps = 15_000
  config.eval.every_steps = 1_000
  config.checkpoint.every_steps = 500


def with_masks(config: ml_collections.ConfigDict) -> None:
  """CLEVR with masks, from multi_object_datasets; an error if it is missing."""
  config.data.name = "clevr_with_masks"
  config.data.fallback = False


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
