"""Object discovery on a laptop: Tetrominoes scenes, a small autoencoder."""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is `debug` or `key=value`, separated by commas."""
  config = common.base()
  config.data.name = "tetrominoes"
  config.data.resolution = (35, 35)
  config.model.num_slots = 4
  config.model.encoder_channels = (32, 32, 32)
  config.model.encoder_kernel_sizes = (5, 3, 3)
  config.model.encoder_strides = (2, 1, 1)
  config.model.broadcast_size = (7, 7)
  config.model.decoder_channels = (64,)
  config.model.decoder_kernel_sizes = (3, 15)
  config.model.decoder_strides = (1, 5)
  config.model.unroll = 3
  config.optim.learning_rate = 1e-3
  config.optim.warmup_steps = 200
  config.optim.clip_norm = 1.0
  config.train.batch_size = 32
  config.train.num_steps = 2_000
  config.eval.every_steps = 500
  config.checkpoint.best_metric = "fg_ari"
  config.checkpoint.best_mode = "max"
  return common.apply_arguments(config, arg)
