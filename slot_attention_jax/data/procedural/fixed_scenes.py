"""A training set with a fixed number of scenes, like a dataset on disk."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from slot_attention_jax.data import cached_dataset
from slot_attention_jax.data.procedural import scene_family, scenes
from slot_attention_jax.runtime import memory, progress

# Number of scenes that a device renders at once.
_RENDER_BATCH = 64


def create_fixed_scenes(
  family: scene_family.SceneFamily,
  num_scenes: int,
  resolution: tuple[int, int],
  batching: cached_dataset.Batching,
) -> cached_dataset.CachedDataset:
  """Renders scenes once and serves them in epochs.

  This saves the time for rendering, a good part of a step on a CPU, and shows
  how a model learns from a limited number of images. Each process holds all
  scenes in memory; one of 64x64 takes 16 KiB and its targets.

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
    ValueError: if there are no scenes, they do not fit into memory, or the
      batch does not divide over the devices.
  """
  _check_memory(family, num_scenes, resolution)
  rendered = scenes.SceneDataset(
    family,
    split="train",
    batch_size=_RENDER_BATCH * batching.sharding.num_devices,
    sharding=batching.sharding,
    resolution=resolution,
    num_examples=num_scenes,
    quick=batching.quick,
  )
  arrays: dict[str, np.ndarray] = {}
  with progress.Progress(
    num_scenes, f"Rendering {family.name}", "scenes", log=True
  ) as bar:
    for i in range(rendered.num_batches or 0):
      batch = _compact(rendered.batch(i))
      if jax.process_count() > 1:
        batch = multihost_utils.process_allgather(batch, tiled=True)
      first = i * rendered.batch_size
      last = min(first + rendered.batch_size, num_scenes)
      for name, values in jax.device_get(batch).items():
        if name not in arrays:
          arrays[name] = np.empty((num_scenes, *values.shape[1:]), values.dtype)
        arrays[name][first:last] = values[: last - first]
      bar.update(last)
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


def _check_memory(
  family: scene_family.SceneFamily, num_scenes: int, resolution: tuple[int, int]
) -> None:
  """Raises ValueError if scenes do not fit into memory, before any is made."""
  height, width = resolution
  # uint8 images and segmentations, float32 targets.
  each = 4 * height * width + 4 * family.max_objects * family.layout.size
  available = memory.available_bytes()
  if available is not None and num_scenes * each > available:
    raise ValueError(
      f"Expected data.scenes.num_train scenes that fit into memory, got "
      f"{num_scenes:,} of {height}x{width}, {num_scenes * each / 1e9:.1f} GB, "
      f"with {available / 1e9:.1f} GB available. Lower data.scenes.num_train, "
      "or set it to 0 for new scenes in each step, which need no memory."
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
