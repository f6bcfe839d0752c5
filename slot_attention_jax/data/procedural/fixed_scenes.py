"""A training set with a fixed number of scenes, like a dataset on disk."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from slot_attention_jax.data import cached_dataset
from slot_attention_jax.data.procedural import scenes
from slot_attention_jax.runtime import progress

# Number of scenes that a device renders at once.
_RENDER_BATCH = 64


def create_fixed_scenes(
  family: scenes.SceneFamily,
  num_scenes: int,
  resolution: tuple[int, int],
  batching: cached_dataset.Batching,
) -> cached_dataset.CachedDataset:
  """Renders scenes once and serves them in epochs.

  This saves the time for rendering, a good part of a step on a CPU, and shows
  how a model learns from a limited number of images. Each process holds all
  scenes in memory; a 64x64 image takes 12 KiB.

  Args:
    family: the distribution of scenes.
    num_scenes: number of scenes, >= 1. They are the same for every seed, batch
      size and number of devices, and a smaller number gives the first of them.
    resolution: (H, W) in pixels.
    batching: how scenes become batches, of training.

  Returns:
    An endless dataset of split "train". Images are rounded to 8 bits, as in
    image files.

  Raises:
    ValueError: if there are no scenes, or the batch does not divide over the
      devices.
  """
  rendered = scenes.SceneDataset(
    family,
    split="train",
    batch_size=_RENDER_BATCH * batching.sharding.num_devices,
    sharding=batching.sharding,
    resolution=resolution,
    num_examples=num_scenes,
  )
  parts: dict[str, list[np.ndarray]] = {}
  with progress.Progress(
    num_scenes, f"Rendering {family.name}", "scenes", log=True
  ) as bar:
    for i in range(rendered.num_batches or 0):
      batch = _compact(rendered.batch(i))
      if jax.process_count() > 1:
        batch = multihost_utils.process_allgather(batch, tiled=True)
      for name, values in jax.device_get(batch).items():
        parts.setdefault(name, []).append(values)
      bar.update(min((i + 1) * rendered.batch_size, num_scenes))
  arrays = {k: np.concatenate(v)[:num_scenes] for k, v in parts.items()}
  return cached_dataset.CachedDataset(
    arrays,
    np.arange(num_scenes),
    rendered.info,
    batch_size=batching.batch_size,
    sharding=batching.sharding,
    seed=batching.seed,
    shuffle=True,
    on_device=batching.on_device,
  )


@jax.jit
def _compact(batch):
  """Converts a batch to the dtypes of files and drops `valid`."""
  gray = jnp.round((jnp.clip(batch["image"], -1.0, 1.0) + 1.0) * 127.5)
  return {
    "image": gray.astype(jnp.uint8),
    "segmentation": batch["segmentation"].astype(jnp.uint8),
    "target": batch["target"],
  }
