"""Object discovery on Multi-dSprites: the paper's model.

Paper: Locatello et al. 2020, section 3.1 and appendix.
Run: `python -m slot_attention_jax.main --config=configs/multi_dsprites.py`.
Recipes, behind a colon: `paper`, the config as it is; `fast`, for one GPU;
  `small`, own scenes at 32x32 pixels for a CPU; `masks`, the data of
  multi_object_datasets and nothing in their place.
Cost: 0.55 EFLOP.
Expected: the paper reports FG-ARI 91.3 +- 0.3 % on Multi-dSprites of
  multi_object_datasets (5 seeds).
Deviations: where the data were not prepared, endless own scenes take their
  place, and the run says so.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is recipes, `debug`, `key=value`, with commas between."""
  config = common.base()
  common.use_autoencoder(config, "multi_dsprites")
  config.data.name = "multi_dsprites"
  config.checkpoint.best_metric = "fg_ari"
  config.checkpoint.best_mode = "max"
  recipes = {
    "paper": common.as_it_is,
    "fast": _fast,
    "small": _small,
    "masks": _masks,
  }
  return common.apply_arguments(config, arg, recipes)


def _fast(config):
  _briefly(config, 64, 64, 50_000)
  config.model.precision = "bfloat16"


def _small(config):
  _briefly(config, 32, 32, 20_000)
  config.data.name = "multi_dsprites_scenes"
  config.train.batch_size = 8


def _briefly(config, size, channels, num_steps):
  config.model.slot_start = "per_slot"
  common.use_strided_autoencoder(config, size, 2, channels)
  common.train_briefly(config, num_steps)
  # With twice as much, a run saw the background alone for 1,500 updates.
  config.optim.learning_rate = 1e-3


def _masks(config):
  common.use_masks(config, "multi_dsprites", "colored_on_grayscale")
