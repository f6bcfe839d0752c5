"""Object discovery on a folder of images, from a dozen on.

Run: `slot-attention --config=folder --config.data.data_dir=DIR`, which is
  `python -m slot_attention_jax.main --config=folder` with the same flag.
Data: PNG or JPEG files in DIR, and masks in DIR/masks if there are any, which
  are used for scores only. All images are trained on, and all are shown in
  evaluations: with few images, it is their slots that one wants to see.
Variants, after a colon: `held_out`, a tenth of the images for validation and a
  tenth for test, or the folders DIR/train, DIR/validation and DIR/test.
Cost: as `clevr_discovery:small` per step; half as many steps.
Sizes: see docs/choosing.md. `model.num_slots` is one more than the largest
  number of objects; `data.resolution` any size, for which `model.preset` finds
  the layers.
"""

import ml_collections

from slot_attention_jax.config import arguments, base


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `arg` names variants, separated by commas."""
  config = base.base_config()
  config.task = "discovery"

  config.data.name = "folder"
  config.data.resolution = (64, 64)
  config.data.folder.train_split = "all"

  config.model.preset = "auto"
  config.model.num_slots = 7
  config.model.num_iterations = 3
  config.model.slot_size = 64
  config.model.slot_init = "per_slot"
  config.model.unroll = 3

  config.optim.name = "muon"
  config.optim.schedule = "cosine"
  config.optim.learning_rate = 2e-3
  config.optim.warmup_steps = 250
  config.optim.decay_steps = 10_000
  config.optim.clip_norm = 1.0

  config.train.batch_size = 8
  config.train.num_steps = 10_000
  config.eval.split = "all"
  config.eval.batch_size = 8
  config.eval.every_steps = 1_000
  config.checkpoint.every_steps = 1_000
  config.checkpoint.best_metric = "auto"
  return arguments.apply_arguments(config, arg, held_out)


def held_out(config: ml_collections.ConfigDict) -> None:
  """Scores are of images that were not trained on."""
  config.data.folder.train_split = "train"
  config.eval.split = "validation"
