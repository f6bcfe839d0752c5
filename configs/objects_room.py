"""Object discovery on Objects Room, with the paper's Multi-dSprites model.

Data: Kabra et al. 2019, multi_object_datasets; not in the Slot Attention paper.
  64x64 pixels, at most three objects; sky, floor and walls are the background.
Run: `python -m slot_attention_jax.main --config=objects_room`, with the data
  prepared by `slot_attention_jax.data.prepare`; there are no synthetic scenes
  of this kind.
Cost: as `multi_dsprites`, 0.55 EFLOP.
Expected: not measured with this package yet.
Other test scenes: `--config.data.variant=six_objects --config.eval.split=test`;
  likewise `empty_room` and `identical_color`.
"""

import ml_collections

from slot_attention_jax.config import arguments, base


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `arg` names variants, separated by commas."""
  config = base.base_config()
  config.task = "discovery"

  config.data.name = "objects_room"
  config.data.fallback = False
  config.data.resolution = (64, 64)

  # Three objects, and three of the background's four parts look different.
  config.model.num_slots = 7
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
  return arguments.apply_arguments(config, arg, with_masks)


def with_masks(config: ml_collections.ConfigDict) -> None:
  """The config as it is: this dataset always has masks."""
