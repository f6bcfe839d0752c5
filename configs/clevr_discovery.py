"""Object discovery on CLEVR images: the paper's CLEVR6 model.

Paper: Locatello et al. 2020, section 3.1 and appendix.
Run: `python -m slot_attention_jax.main --config=configs/clevr_discovery.py`,
  with CLEVR prepared by TFDS (see the README); without it the run takes the
  package's own CLEVR scenes and says so.
Cost: 4.0 EFLOP; the authors trained for days on one V100 of 16 GB.
Expected: FG-ARI 98.8 +- 0.3 % on CLEVR-with-masks of at most 6 objects (the
  paper, 5 seeds). TFDS's CLEVR has no masks, so here only the MSE is measured.
Deviations: the paper trained on the first 70,000 images of CLEVR-with-masks;
  this config, as the reference code, on TFDS's CLEVR.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is `debug` or `key=value`, separated by commas."""
  config = common.base()
  common.use_autoencoder(config, "clevr")
  config.data.max_objects = 6
  return common.apply_arguments(config, arg)
