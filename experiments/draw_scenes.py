"""Draws figures of the package's synthetic scenes.

  python -m experiments.draw_scenes --out=docs

`scenes.png`: the families that configs use; `harder_scenes.png`: their harder
variants. Each row shows scenes of the validation split; every second image is
the segmentation of the one to its left.
"""

import pathlib

import jax
import numpy as np
from absl import app, flags

from slot_attention_jax.data import procedural
from slot_attention_jax.evaluation import visualize
from slot_attention_jax.runtime import files, mesh

_OUT = flags.DEFINE_string("out", "docs", "Directory of the figures.")
_COLUMNS = flags.DEFINE_integer("columns", 4, "Scenes in a row.")
_SIDE = flags.DEFINE_integer("side", 128, "Side of a scene in pixels.")

FIGURES = {
  "scenes": (
    procedural.Clevr(crop="paper"),
    procedural.MultiDSprites("colored_on_grayscale"),
    procedural.MultiDSprites("colored_on_colored"),
    procedural.MultiDSprites("binarized"),
    procedural.Tetrominoes(),
  ),
  "harder_scenes": (
    procedural.Clevr(num_objects=(11, 16), crop="paper"),
    procedural.Clevr(textured=True, crop="paper"),
    procedural.Clevr(num_objects=(11, 16), textured=True, crop="paper"),
    procedural.Clevr(held_out="cogent_a", crop="paper"),
    procedural.Clevr(held_out="cogent_b", crop="paper"),
  ),
}


def _draw(family: procedural.SceneFamily) -> np.ndarray:
  """Draws a row of images next to their segmentations, uint8."""
  dataset = procedural.SceneDataset(
    family,
    split="validation",
    batch_size=_COLUMNS.value,
    sharding=mesh.batch_sharding(mesh.create_mesh()),
    resolution=(_SIDE.value, _SIDE.value),
    num_examples=_COLUMNS.value,
  )
  batch = jax.device_get(dataset.batch(0))
  return visualize.scene_grid(
    visualize.to_uint8(batch["image"]),
    batch["segmentation"],
    columns=_COLUMNS.value,
  )


def main(argv):
  """Writes the figures."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  for name, families in FIGURES.items():
    figure = np.concatenate([_draw(family) for family in families])
    path = pathlib.Path(_OUT.value) / f"{name}.png"
    files.save_png(path, figure)
    print(f"{path}: {', '.join(family.name for family in families)}")


if __name__ == "__main__":
  app.run(main)
