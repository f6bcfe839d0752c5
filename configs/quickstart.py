"""Object discovery on a laptop: Tetrominoes scenes, a small autoencoder.

Run: `python -m slot_attention_jax.main --config=quickstart`.
Variants, after a colon: `plain`, without a slot for the background, a fifth
  less time a step; `robust`, `plain` with twice the steps and other numbers of
  iterations.
Cost and expected result: see experiments/README.md.
Architecture: the paper's modules, smaller, on scenes of 28x28 pixels: the
  encoder sees patches of 6x6 pixels every 2 pixels (a 14x14 grid of inputs),
  the decoder works on the same grid and its last layer paints 2x2 pixels per
  cell.
Slots: one for the background, which paints a single color and begins with most
  of the image, and four as in the paper. Each learns its own initialization:
  with the paper's, one Gaussian for all slots, two slots often share an object
  for much longer; see experiments/README.md.
Optimizer: Muon; with Adam, one seed of five of `plain` never left the state in
  which two slots share all objects.
"""

import ml_collections

from slot_attention_jax.config import arguments, base


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `arg` names variants, separated by commas."""
  config = base.base_config()
  config.task = "discovery"

  config.data.name = "tetrominoes_scenes"
  config.data.resolution = (28, 28)

  # Slot 0 is for the background.
  config.model.num_slots = 5
  config.model.background_grid = 1
  config.model.background_logit = 3.0
  # Once objects are found, slots that share one are to be told apart.
  config.model.overlap_weight = 0.05
  config.model.overlap_ramp = (1_200, 2_000)
  config.model.num_iterations = 5
  config.model.train_iterations = (3, 5)
  config.model.slot_size = 64
  config.model.mlp_hidden_size = 128
  config.model.slot_init = "per_slot"
  config.model.encoder_channels = (32, 32, 32)
  config.model.encoder_kernel_sizes = (6, 5, 5)
  config.model.encoder_strides = (2, 1, 1)
  config.model.encoder_mlp_sizes = (128, 64)
  config.model.broadcast_size = (14, 14)
  # The layer of 1x1 costs little, and shapes are learned in fewer steps.
  config.model.decoder_channels = (64, 32, 32)
  config.model.decoder_kernel_sizes = (5, 1, 5, 6)
  config.model.decoder_strides = (1, 1, 1, 2)
  config.model.unroll = 3

  config.optim.name = "muon"
  config.optim.schedule = "cosine"
  config.optim.learning_rate = 2e-3
  config.optim.warmup_steps = 100
  config.optim.decay_steps = 8_000
  config.optim.clip_norm = 1.0

  config.train.batch_size = 8
  config.train.num_steps = 8_000
  config.eval.every_steps = 800
  config.checkpoint.every_steps = 800
  config.checkpoint.best_metric = "fg_ari"
  config.checkpoint.best_mode = "max"
  return arguments.apply_arguments(config, arg, plain, robust)


def plain(config: ml_collections.ConfigDict) -> None:
  """Without a slot for the background, which all slots may share."""
  config.model.num_slots = 4
  config.model.background_grid = 0
  config.model.background_logit = 0.0
  config.model.overlap_weight = 0.0
  config.model.overlap_ramp = (0, 0)
  config.model.num_iterations = 3
  config.model.train_iterations = (0, 0)
  config.model.decoder_channels = (32, 32)
  config.model.decoder_kernel_sizes = (5, 5, 6)
  config.model.decoder_strides = (1, 1, 2)


def robust(config: ml_collections.ConfigDict) -> None:
  """`plain`, and draws the number of iterations, in the first steps from 1."""
  plain(config)
  config.model.num_iterations = 5
  config.model.train_iterations = (3, 5)
  config.model.early_iterations = (1, 5)
  config.model.early_steps = 1_000
  config.optim.decay_steps = 16_000
  config.train.num_steps = 16_000
  config.eval.every_steps = 2_000
  config.checkpoint.every_steps = 2_000
