"""A fixed number of rendered scenes to train on, as a dataset on disk has."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from slot_attention_jax.data import cached_dataset
from slot_attention_jax.data.procedural import scenes
from slot_attention_jax.runtime import progress

# Scenes that a device renders at once.
_RENDER_BATCH = 64


def create_fixed_scenes(
  family: scenes.SceneFamily,
  num_scenes: int,
  resolution: tuple[int, int],
  batching: cached_dataset.Batching,
) -> cached_dataset.CachedDataset:
  """Renders scenes once and serves them in epochs.

  Where rendering takes a good part of a step, as it does on a CPU, this saves
  it; and it tells how a model learns from so many images and no more. Each
  process keeps all scenes, of which a 64x64 image takes 12 KiB.

  Args:
    family: the distribution of scenes.
    num_scenes: how many, >= 1: the same for every seed, batch size and number
      of devices; fewer are the first of more.
    resolution: (H, W) in pixels.
    batching: how they become batches, of training.

  Returns:
    An endless dataset of split "train". Images are rounded to 8 bits, as those
    of files are.

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
  """A batch in the dtypes of files, without `valid`."""
  gray = jnp.round((jnp.clip(batch["image"], -1.0, 1.0) + 1.0) * 127.5)
  return {
    "image": gray.astype(jnp.uint8),
    "segmentation": batch["segmentation"].astype(jnp.uint8),
    "target": batch["target"],
  }
