"""Object discovery on Tetrominoes scenes, rendered on the device.

Paper: Locatello et al. 2020, section 3.1 and appendix.
Run: `python -m slot_attention_jax.main --config=configs/tetrominoes.py`.
Recipes, behind a colon: `paper`, the config as it is; `fast`, for one GPU;
  `masks`, the data of multi_object_datasets and nothing in their place. On a
  CPU: `configs/quickstart.py`.
Cost: 0.12 EFLOP.
Expected: the paper reports FG-ARI 99.5 +- 0.2 % on the Tetrominoes of
  multi_object_datasets (4 of 5 seeds, one outlier dropped).
Deviations: where the data were not prepared, endless own scenes take the place
  of 60,000 images, and the run says so.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is recipes, `debug`, `key=value`, with commas between."""
  config = common.base()
  common.use_autoencoder(config, "tetrominoes")
  config.data.name = "tetrominoes"
  config.checkpoint.best_metric = "fg_ari"
  config.checkpoint.best_mode = "max"
  recipes = {"paper": common.as_it_is, "fast": _fast, "masks": _masks}
  return common.apply_arguments(config, arg, recipes)


def _fast(config):
  config.model.slot_start = "per_slot"
  config.model.precision = "bfloat16"
  common.train_briefly(config, 20_000)


def _masks(config):
  common.use_masks(config, "tetrominoes")
