"""Draws scenes taken apart by a pretrained model, beside the ground truth.

  python -m experiments.draw_decomposition --pretrained=clevr6 \
    --figure=docs/clevr_decomposition.png

The first scenes of the split "test", not chosen, in the figure that a training
draws after every evaluation (`slot_attention_jax.evaluation.decomposition`),
with the FG-ARI and ARI of each image.
"""

import pathlib

import jax
import numpy as np
from absl import app, flags

import slot_attention_jax as sa
from slot_attention_jax.data import procedural
from slot_attention_jax.evaluation import decomposition, figures
from slot_attention_jax.runtime import files
from slot_attention_jax.runtime import mesh as mesh_lib

_PRETRAINED = flags.DEFINE_string(
  "pretrained", "clevr6", "Name of the package's weights."
)
_FIGURE = flags.DEFINE_string(
  "figure", "docs/clevr_decomposition.png", "File of the figure."
)
_ROWS = flags.DEFINE_integer("rows", 4, "Scenes to draw.")
_MAX_OBJECTS = 6


def _scenes(count: int, resolution: tuple[int, int]) -> dict[str, np.ndarray]:
  """The first synthetic CLEVR6 scenes of the split "test"."""
  dataset = procedural.SceneDataset(
    procedural.Clevr(num_objects=(3, _MAX_OBJECTS), crop="paper"),
    split="test",
    batch_size=count,
    sharding=mesh_lib.batch_sharding(mesh_lib.create_mesh()),
    resolution=resolution,
    num_examples=count,
  )
  return jax.device_get(dataset.batch(0))


def main(argv):
  """Writes the figure."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  model, params = sa.load_pretrained(_PRETRAINED.value)
  resolution = tuple(model.resolution)
  batch = _scenes(_ROWS.value, resolution)
  rngs = {"slots": jax.random.key(0)}
  output = jax.jit(model.apply)(params, batch["image"], rngs=rngs)
  output = jax.device_get(output)
  segments = output.masks[..., 0].argmax(axis=1)
  scores = {
    name: np.asarray(
      sa.adjusted_rand_index(
        batch["segmentation"],
        segments,
        num_true_groups=_MAX_OBJECTS + 1,
        num_pred_groups=output.masks.shape[1],
        foreground_only=foreground_only,
      )
    )
    for name, foreground_only in (("FG-ARI", True), ("ARI", False))
  }
  figure = decomposition.figure(
    batch["image"],
    output,
    model.feature_grid(resolution, output.attention.shape[-1]),
    segmentation=batch["segmentation"],
    scores=scores,
  )
  files.save_png(pathlib.Path(_FIGURE.value), figures.to_array(figure))
  shown = {k: v.round(3).tolist() for k, v in scores.items()}
  print(f"{_FIGURE.value}: {shown}")


if __name__ == "__main__":
  app.run(main)
