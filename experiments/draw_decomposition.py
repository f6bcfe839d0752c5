"""Draws scenes taken apart by a pretrained model, beside the ground truth.

  python -m experiments.draw_decomposition --pretrained=clevr6_small \
    --figure=docs/clevr_decomposition.png

The first scenes of the split "test", not chosen. A column each: the image, the
true objects, the reconstruction, the predicted segments, and what every slot
explains, on a checkerboard. Segments have the color of their slot; true objects
have the color of the slot that overlaps most with them. The number beside a row
is the FG-ARI of its image.
"""

import pathlib

import jax
import numpy as np
from absl import app, flags

import slot_attention_jax as sa
from experiments.common import figures
from slot_attention_jax.data import procedural
from slot_attention_jax.evaluation import visualize
from slot_attention_jax.runtime import mesh as mesh_lib

_PRETRAINED = flags.DEFINE_string(
  "pretrained", "clevr6_small", "Name of the package's weights."
)
_FIGURE = flags.DEFINE_string(
  "figure", "docs/clevr_decomposition.png", "File of the figure."
)
_ROWS = flags.DEFINE_integer("rows", 4, "Scenes to draw.")

# Okabe and Ito's colors, which color-blind people tell apart.
_COLORS = np.array(
  [
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (120, 120, 120),
  ],
  np.uint8,
)


def _scenes(count: int, resolution: tuple[int, int]) -> dict[str, np.ndarray]:
  """The first synthetic CLEVR6 scenes of the split "test"."""
  dataset = procedural.SceneDataset(
    procedural.Clevr(num_objects=(3, 6), crop="paper"),
    split="test",
    batch_size=count,
    sharding=mesh_lib.batch_sharding(mesh_lib.create_mesh()),
    resolution=resolution,
    num_examples=count,
  )
  return jax.device_get(dataset.batch(0))


def _checkerboard(h: int, w: int) -> np.ndarray:
  """A light gray checkerboard [H, W, 1] in [-1, 1]."""
  size = max(1, h // 16)
  y, x = np.mgrid[:h, :w] // size
  return np.where((y + x) % 2, 0.85, 0.6)[..., None]


def _true_colors(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
  """Colors [H, W, 3] of true objects: those of the slots that cover them."""
  canvas = np.full((*true.shape, 3), 255, np.uint8)
  for i in range(1, true.max() + 1):
    inside = true == i
    if inside.any():
      slot = np.bincount(predicted[inside]).argmax()
      canvas[inside] = _COLORS[slot % len(_COLORS)]
  return canvas


def _panels(batch, output, b: int) -> list[np.ndarray]:
  """Pictures [H, W, 3] uint8 of one row."""
  masks = np.asarray(output.masks[b], np.float32)  # [K, H, W, 1]
  segments = masks[..., 0].argmax(axis=0)
  board = _checkerboard(*segments.shape)
  images = np.clip(np.asarray(output.images[b], np.float32), -1.0, 1.0)
  return [
    visualize.to_uint8(batch["image"][b]),
    _true_colors(batch["segmentation"][b], segments),
    visualize.to_uint8(output.reconstruction[b]),
    _COLORS[segments % len(_COLORS)],
    *(
      visualize.to_uint8(m * x + (1.0 - m) * board)
      for m, x in zip(masks, images, strict=True)
    ),
  ]


def main(argv):
  """Writes the figure."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {argv[1:]}.")
  model, params = sa.load_pretrained(_PRETRAINED.value)
  batch = _scenes(_ROWS.value, tuple(model.resolution))
  rngs = {"slots": jax.random.key(0)}
  output = jax.jit(model.apply)(params, batch["image"], rngs=rngs)
  output = jax.device_get(output)
  k = output.masks.shape[1]
  scores = sa.adjusted_rand_index(
    batch["segmentation"],
    output.masks[..., 0].argmax(axis=1),
    num_true_groups=7,
    num_pred_groups=k,
    foreground_only=True,
  )
  titles = ["image", "true objects", "reconstruction", "segments"]
  titles += [f"slot {i + 1}" for i in range(k)]
  pyplot = figures.import_pyplot()
  figure, axes = pyplot.subplots(
    _ROWS.value,
    len(titles),
    figsize=(1.15 * len(titles), 1.25 * _ROWS.value),
    squeeze=False,
  )
  for b in range(_ROWS.value):
    for axis, panel in zip(axes[b], _panels(batch, output, b), strict=True):
      axis.imshow(panel, interpolation="nearest")
      axis.set_xticks([])
      axis.set_yticks([])
      for spine in axis.spines.values():
        spine.set_visible(False)
    axes[b, 0].set_ylabel(f"FG-ARI\n{float(scores[b]):.2f}", fontsize=9)
  for i, (axis, title) in enumerate(zip(axes[0], titles, strict=True)):
    color = _COLORS[(i - 4) % len(_COLORS)] / 255 if i >= 4 else "black"
    axis.set_title(title, fontsize=9, color=color)
  figures.save(figure, pathlib.Path(_FIGURE.value))
  print(f"{_FIGURE.value}: FG-ARI {np.round(np.asarray(scores), 3).tolist()}")


if __name__ == "__main__":
  app.run(main)
