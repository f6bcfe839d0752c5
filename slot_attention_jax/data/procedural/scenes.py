"""Batches of synthetic scenes, rendered on the devices.

`SceneDataset` renders inside the compiled step that makes a batch. Every scene
has its own PRNG key, derived from its number:

- Training is endless. Scene i of batch `step` has the key
  `fold_in(fold_in(root(seed), step), i)`, so that a batch is a pure function of
  (seed, step) on any number of devices. Each device renders its own rows.
- An evaluation split, and a training split with a number of examples, is a
  fixed list of scenes, whatever the seed and the batch size. Scene n has the
  key `fold_in(root(split), n)`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import types
from slot_attention_jax.data.procedural import scene_family
from slot_attention_jax.runtime import compilation, kept_programs

Rendering = scene_family.Rendering
SceneFamily = scene_family.SceneFamily
check_resolution = scene_family.check_resolution

EVALUATION_SPLITS = ("validation", "test")
# Largest number of pixels rendered at once on a device: a renderer needs a few
# hundred bytes per pixel.
_CHUNK_PIXELS = 64 * 128 * 128


def _root_key(seed: int, split: str, fixed: bool = True) -> jax.Array:
  """Root key of a split; that of a fixed list differs from every seed's."""
  if split == "train" and fixed:
    words = (0xFFFFFFFE, 0)
  elif split == "train":
    if not 0 <= seed < 2**32:
      raise ValueError(f"Expected a seed in [0, 2**32), got {seed}.")
    words = (0, seed)
  elif split in EVALUATION_SPLITS:
    words = (0xFFFFFFFF, EVALUATION_SPLITS.index(split))
  else:
    raise ValueError(
      f"Expected split 'train' or one of {EVALUATION_SPLITS}, got {split!r}."
    )
  return jax.random.wrap_key_data(
    jnp.array(words, jnp.uint32), impl="threefry2x32"
  )


def dataset_info(
  family: SceneFamily,
  split: str,
  resolution: tuple[int, int],
  num_examples: int | None = None,
) -> types.DatasetInfo:
  """Describes a split of synthetic scenes.

  Args:
    family: the distribution of scenes.
    split: name of the split.
    resolution: (H, W).
    num_examples: length of a fixed list of scenes; None if it is endless or not
      known yet.

  Returns:
    The description.
  """
  return types.DatasetInfo(
    name=family.name,
    split=split,
    image_shape=(resolution[0], resolution[1], 3),
    num_examples=num_examples,
    layout=family.layout,
    max_objects=family.max_objects,
    has_segmentation=True,
    own_scenes=True,
    # A family of one's own may lack it.
    scenes_version=getattr(family, "version", None),
  )


@functools.lru_cache(maxsize=32)
def _batch_program(
  family: SceneFamily,
  size: tuple[int, int],
  batch_size: int,
  sharding: jax.sharding.NamedSharding,
  describe: Callable[[Any, Rendering], dict[str, Any]] | None,
  chunk: int,
  quick: bool,
) -> Callable[..., types.Batch]:
  """Compiles the batches of a family.

  Args:
    family: the distribution of scenes.
    size: (H, W).
    batch_size: B, over all devices.
    sharding: sharding of the batch axis.
    describe: as of `SceneDataset`.
    chunk: most scenes that a device renders at once.
    quick: as of `SceneDataset`.

  Returns:
    A function of root [2] uint32, the words of the split's root key; the number
    of the batch; whether the scenes are endless; and, unless they are, their
    number. It returns a batch with `valid`.
  """

  def describe_for_training(scene, rendering):
    return {
      "image": rendering.image,
      "segmentation": rendering.segmentation,
      "target": family.targets(scene),
    }

  def example(key):
    scene = family.sample(key)
    return (describe or describe_for_training)(
      scene, family.render(scene, size)
    )

  def shard(root, step, endless, num_examples, rows):
    """Examples of the rows that one device holds."""
    root = jax.random.wrap_key_data(root, impl="threefry2x32")
    parent = jnp.where(endless, jax.random.fold_in(root, step), root)
    numbers = jnp.where(endless, rows, step * batch_size + rows)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(parent, numbers)
    if rows.shape[0] <= chunk:
      batch = jax.vmap(example)(keys)
    else:
      batch = jax.lax.map(example, keys, batch_size=chunk)
    return batch | {"valid": numbers < num_examples}

  def make(root, step, endless, num_examples):
    rows = jnp.arange(batch_size, dtype=jnp.uint32)
    # Each device loops over its own scenes, only as long as those need.
    everywhere = jax.P()
    return jax.shard_map(
      shard,
      mesh=sharding.mesh,
      in_specs=(everywhere, everywhere, everywhere, everywhere, sharding.spec),
      out_specs=sharding.spec,
      check_vma=False,
    )(root, step, endless, num_examples, rows)

  return kept_programs.jit(
    make,
    out_shardings=sharding,
    compiler_options=compilation.quick_options(quick),
  )


class SceneDataset:
  """Batches of scenes, rendered on the devices that consume them.

  Endless for training, a fixed list for evaluation; the module's docstring says
  how scenes get their keys.

  Attributes:
    info: a `types.DatasetInfo`.
    batch_size: B, over all devices and processes.
  """

  def __init__(
    self,
    family: SceneFamily,
    *,
    split: str,
    batch_size: int,
    sharding: jax.sharding.NamedSharding,
    resolution: tuple[int, int] | None = None,
    seed: int = 0,
    num_examples: int | None = None,
    describe: Callable[[Any, Rendering], dict[str, Any]] | None = None,
    quick: bool = False,
  ):
    """Sets up the dataset; nothing is rendered yet.

    Args:
      family: the distribution of scenes.
      split: `"train"`, `"validation"` or `"test"`.
      batch_size: B, over all devices.
      sharding: sharding of the batch axis.
      resolution: (H, W); default: the family's.
      seed: seed of the endless training scenes, in [0, 2**32).
      num_examples: length of a fixed list of scenes; None for endless training.
      describe: maps a scene and its rendering to an example, arrays by name;
        None for image, segmentation and target.
      quick: compiled for a few batches, see `compilation.quick_options`.

    Raises:
      ValueError: on an unknown split, a bad resolution, or an evaluation split
        without `num_examples`.
    """
    size = resolution or family.resolution
    check_resolution(size)
    size = (size[0], size[1])  # Lists are not hashable.
    endless = num_examples is None
    root = _root_key(seed, split, not endless)
    if (endless and split != "train") or (not endless and num_examples < 1):
      raise ValueError(
        "Expected num_examples of at least 1, or None for endless training, "
        f"got {num_examples} for split {split!r}."
      )
    self.batch_size = batch_size
    self.info = dataset_info(family, split, size, num_examples)

    chunk = max(1, _CHUNK_PIXELS // (size[0] * size[1]))
    arguments = (family, size, batch_size, sharding, describe, chunk)
    # Compiled once for all splits and seeds if the family is hashable.
    program = _batch_program
    try:
      hash(arguments)
    except TypeError:
      program = _batch_program.__wrapped__
    self._program = program(*arguments, quick)
    # A part of another program has no options of its own.
    self._part = program(*arguments, False) if quick else self._program
    self._root = np.asarray(jax.random.key_data(root))

  @property
  def num_batches(self) -> int | None:
    """Number of batches in a fixed list of scenes; None if endless."""
    if self.info.num_examples is None:
      return None
    return -(-self.info.num_examples // self.batch_size)

  def batch(self, step: int) -> types.Batch:
    """Renders batch number `step`; see `types.Batch` for its keys.

    Args:
      step: number of the batch, >= 0.

    Returns:
      A dict of arrays, sharded over the batch axis.
    """
    return self._strip(self._program(*self._arguments(np.uint32(step))))

  def _arguments(self, step):
    """Arguments of the program."""
    endless = self.info.num_examples is None
    count = np.uint32(self.info.num_examples or 0)
    return self._root, step, np.bool_(endless), count

  def _strip(self, batch):
    if self.info.num_examples is None:
      del batch["valid"]
    return batch

  @property
  def make_batch(self) -> Callable[[Any, Any], types.Batch]:
    """Renders a batch, given its number; see `types.Dataset.make_batch`."""
    return lambda _, step: self._strip(self._part(*self._arguments(step)))

  @property
  def device_arrays(self) -> Any:
    """Empty: scenes depend on their numbers alone."""
    return ()

  def step_inputs(self, first: int, count: int) -> np.ndarray:
    """Numbers [count] uint32 of `count` consecutive batches."""
    return np.arange(first, first + count, dtype=np.uint32)
