"""Opens synthetic scenes as a dataset: an endless stream or a fixed list."""

from slot_attention_jax.data import cached_dataset, types
from slot_attention_jax.data.procedural import (
  fixed_scenes,
  scene_family,
  scenes,
)


def open(
  family: scene_family.SceneFamily,
  split: str,
  resolution: tuple[int, int],
  batching: cached_dataset.Batching,
  *,
  num_eval: int,
  num_train: int = 0,
) -> types.Dataset:
  """Opens a split of synthetic scenes.

  Args:
    family: the distribution of scenes.
    split: `"train"`, `"validation"`, `"test"`, or `"train_eval"`, which is the
      same as `"validation"`.
    resolution: (H, W) of the images.
    batching: how scenes become batches.
    num_eval: number of scenes in an evaluation split.
    num_train: number of training scenes, rendered once; 0 for endless training
      on new scenes.

  Returns:
    A dataset, endless if `split` is `"train"`.

  Raises:
    ValueError: on an unknown split, a bad resolution or a negative number.
  """
  if num_train < 0:
    raise ValueError(
      f"Expected data.scenes.num_train of at least 0, got {num_train}; 0 means "
      "endless training on new scenes."
    )
  if split == "train" and num_train:
    return fixed_scenes.create_fixed_scenes(
      family, num_train, resolution, batching
    )
  return scenes.SceneDataset(
    family,
    split="validation" if split == "train_eval" else split,
    batch_size=batching.batch_size,
    sharding=batching.sharding,
    resolution=resolution,
    seed=batching.seed,
    num_examples=None if split == "train" else num_eval,
    quick=batching.quick,
  )
