"""Synthetic scenes, rendered on the device that uses them.

A family (`Clevr`, `MultiDSprites`, `Tetrominoes`) samples, renders and
describes scenes; `open` makes batches of them. Files that are read live in
`data.images` and `data.multi_object`.
"""

from slot_attention_jax.data.procedural.clevr import Clevr
from slot_attention_jax.data.procedural.datasets import open
from slot_attention_jax.data.procedural.multi_dsprites import MultiDSprites
from slot_attention_jax.data.procedural.scene_family import (
  Rendering,
  SceneFamily,
)
from slot_attention_jax.data.procedural.scenes import SceneDataset
from slot_attention_jax.data.procedural.tetrominoes import Tetrominoes
