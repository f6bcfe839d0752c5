"""Set prediction on CLEVR: the properties of up to 10 objects.

Paper: Locatello et al. 2020, section 3.2 and appendix.
Run: `python -m slot_attention_jax.main --config=configs/clevr_set.py`, with
  CLEVR prepared by TFDS (see the README); without it the run takes the
  package's own CLEVR scenes and says so.
Recipes, behind a colon: `paper`, the config as it is; `fast`, for one GPU;
  `small`, own scenes at 64x64 pixels for a CPU; `masks`, the images and
  annotations of CLEVR with masks.
Cost: 0.33 EFLOP.
Expected: AP 94.3 / 86.7 / 56.0 / 10.8 / 0.9 % at distances infinity / 1 / 0.5
  / 0.25 / 0.125 on CLEVR's 15,000 validation images (the paper, 5 seeds);
  position weights above 1 (`model.position_weight`) trade the first for the
  last.
Deviations: none known.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is recipes, `debug`, `key=value`, with commas between."""
  config = common.base()
  common.use_classifier(config, "clevr")
  config.task = "set_prediction"
  config.data.crop = ""
  # As TFDS has CLEVR.
  config.data.scenes.frame = (320, 480)
  config.optim.warmup_steps = 1_000
  config.optim.decay_steps = 50_000
  config.train.batch_size = 512
  config.train.num_steps = 150_000
  config.eval.batch_size = 512
  config.eval.every_steps = 5_000
  config.checkpoint.best_metric = "ap_inf"
  config.checkpoint.best_mode = "max"
  recipes = {
    "paper": common.as_it_is,
    "fast": _fast,
    "small": _small,
    "masks": _masks,
  }
  return common.apply_arguments(config, arg, recipes)


def _fast(config):
  config.model.encoder_strides = (2, 2, 1, 1)
  config.model.precision = "bfloat16"
  common.train_briefly(config, 80_000)
  config.train.batch_size = 128


def _small(config):
  config.data.name = "clevr_scenes"
  config.data.resolution = (64, 64)
  config.data.scenes.num_train = 50_000
  config.model.encoder_channels = (32, 64, 64)
  config.model.encoder_kernel_sizes = (6, 5, 5)
  config.model.encoder_strides = (2, 2, 1)
  common.train_briefly(config, 20_000)
  config.train.batch_size = 32


def _masks(config):
  common.use_masks(config, "clevr_with_masks")
