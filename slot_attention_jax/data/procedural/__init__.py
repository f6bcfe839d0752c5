"""The package's own scenes, rendered on the device."""

from slot_attention_jax.data.procedural.clevr import Clevr
from slot_attention_jax.data.procedural.multi_dsprites import MultiDSprites
from slot_attention_jax.data.procedural.scenes import (
  Rendering,
  SceneDataset,
  SceneFamily,
)
from slot_attention_jax.data.procedural.tetrominoes import Tetrominoes
