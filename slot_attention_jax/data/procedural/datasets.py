"""The door to synthetic scenes: an endless stream or a fixed list of them."""

from slot_attention_jax.data import cached_dataset, types
from slot_attention_jax.data.procedural import fixed_scenes, scenes


def open(
  family: scenes.SceneFamily,
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
    resolution: (h, w) of the images.
    batching: how scenes become batches.
    num_eval: scenes of an evaluation split.
    num_train: train on so many scenes, rendered once; 0 for endlessly many.

  Returns:
    A dataset, endless if `split` is `"train"`.

  Raises:
    ValueError: on an unknown split, a bad resolution or a negative number.
  """
  if num_train < 0:
    raise ValueError(
      "Expected data.scenes.num_train of at least 0, which means endlessly "
      f"many, got {num_train}."
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
  )
