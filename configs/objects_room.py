"""Object discovery on Objects Room, with the paper's model of Multi-dSprites.

Data: Kabra et al. 2019, multi_object_datasets; not in the paper of Slot
  Attention. 64x64 pixels, at most three objects; sky, floor and walls are the
  background.
Run: `python -m slot_attention_jax.main --config=configs/objects_room.py`, with
  the data prepared by `slot_attention_jax.data.prepare`; the package has no
  scenes of its own to take their place.
Recipes, behind a colon: `masks`, the config as it is, for the name is that of
  the other sets' recipe.
Cost: as `configs/multi_dsprites.py`, 0.55 EFLOP.
Expected: no number of this package yet.
Tests with other scenes: `data.variant=six_objects,eval.split=test` and the same
  with `empty_room` and `identical_color`.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The config; `arg` is recipes, `debug`, `key=value`, with commas between."""
  config = common.base()
  common.use_autoencoder(config, "multi_dsprites")
  common.use_masks(config, "objects_room")
  # Three objects, and three of the four parts of the background look unlike.
  config.model.num_slots = 7
  recipes = {"masks": common.as_it_is}
  return common.apply_arguments(config, arg, recipes)
