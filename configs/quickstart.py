"""Object discovery on a laptop: Tetrominoes scenes, a small autoencoder.

Run: `python -m slot_attention_jax.main --config=configs/quickstart.py`.
Cost and expected result: see experiments/README.md.
Architecture: the paper's modules, smaller, on scenes of 28x28 pixels: the
  encoder sees patches of 6x6 pixels every 2 pixels (a 14x14 grid of inputs),
  the decoder works on the same grid and its last layer paints 2x2 pixels a
  cell.
Start of the slots: each learns its own (`slot_start="per_slot"`). With the
  paper's start, one Gaussian for all slots, two slots often share an object for
  much longer; see experiments/README.md.
Optimizer: Muon; with Adam, a seed of five never left the state in which two
  slots share all objects.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is `debug` or `key=value`, separated by commas."""
  config = common.base()
  config.data.name = "tetrominoes_scenes"
  config.data.resolution = (28, 28)
  config.model.num_slots = 4
  config.model.slot_start = "per_slot"
  config.model.encoder_channels = (32, 32, 32)
  config.model.encoder_kernel_sizes = (6, 5, 5)
  config.model.encoder_strides = (2, 1, 1)
  config.model.encoder_mlp_sizes = (128, 64)
  config.model.broadcast_size = (14, 14)
  config.model.decoder_channels = (32, 32)
  config.model.decoder_kernel_sizes = (5, 5, 6)
  config.model.decoder_strides = (1, 1, 2)
  common.train_briefly(config, 8_000)
  config.optim.warmup_steps = 100
  config.train.batch_size = 8
  config.checkpoint.best_metric = "fg_ari"
  config.checkpoint.best_mode = "max"
  return common.apply_arguments(config, arg)
