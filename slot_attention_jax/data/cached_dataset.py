"""Batches from cached arrays, each a pure function of (seed, step)."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import cache, transforms, types
from slot_attention_jax.data import device_arrays as device_arrays_lib
from slot_attention_jax.data.permutations import permutation


@dataclasses.dataclass(frozen=True)
class Batching:
  """How examples become batches.

  Attributes:
    batch_size: B, over all devices.
    sharding: how batches lie on the devices, split along their first axis.
    seed: decides the order in training.
    train: endless and shuffled, or one pass in order.
    on_device: whether to hold the examples in the memory of every device;
      `"auto"` does so on accelerators if they fit into half of the memory that
      is free.
    quick: whether rendering is compiled for a few batches, see
      `compilation.quick_options`.
  """

  batch_size: int
  sharding: jax.sharding.NamedSharding
  seed: int = 0
  train: bool = False
  on_device: bool | Literal["auto"] = "auto"
  quick: bool = False


class CachedDataset(types.Dataset):
  """Batches gathered from arrays in host or device memory.

  For training, position p = step * batch_size + i of the endless stream is row
  `permutation(seed, p // n)[p % n]` of the n rows: every epoch visits each row
  once, and the batch of any step can be had at any time. For evaluation the
  rows come in their order, and the last batch is filled up with the first row
  and `valid` False.

  In host memory each process reads only the rows of its own devices. In device
  memory every device holds all rows and the batch is gathered there. Both give
  the same batches bit for bit.

  Attributes:
    info: what is known about the data.
    batch_size: B, over all devices.

  Example:
    >>> import jax
    >>> import numpy as np
    >>> from slot_attention_jax.data import cached_dataset, types
    >>> mesh = jax.make_mesh(
    ...   (1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,),
    ...   devices=jax.devices()[:1])
    >>> sharding = jax.NamedSharding(mesh, jax.P("data"))
    >>> dataset = cached_dataset.CachedDataset(
    ...   {"image": np.zeros((5, 8, 8, 3), np.uint8)}, rows=np.arange(5),
    ...   info=types.DatasetInfo("zeros", "test", (8, 8, 3), 5),
    ...   batch_size=4, sharding=sharding, seed=0, shuffle=False)
    >>> dataset.num_batches, dataset.batch(1)["valid"].tolist()
    (2, [True, False, False, False])
  """

  def __init__(
    self,
    arrays: Mapping[str, np.ndarray],
    rows: np.ndarray,
    info: types.DatasetInfo,
    *,
    batch_size: int,
    sharding: jax.sharding.NamedSharding,
    seed: int,
    shuffle: bool,
    on_device: bool | Literal["auto"] = False,
  ):
    """Checks the settings and, if asked, moves the rows to the devices.

    Args:
      arrays: [N, ...] by name of the batch's entry. `"image"` [N, H, W, 3]
        must be uint8 and comes out as float32 in [-1, 1], `"segmentation"`
        comes out as int32, others unchanged.
      rows: [n] int64, the selected rows, in the order of the split.
      info: what is known about the data.
      batch_size: B, over all devices.
      sharding: how batches lie on the devices, split along their first axis.
      seed: decides the order in training.
      shuffle: endless and shuffled, for training, or one pass in order.
      on_device: whether to hold the selected rows in the memory of every
        device; `"auto"` does so on accelerators if they fit into half of the
        memory that is free.

    Raises:
      ValueError: if there are no rows, images are not uint8, `on_device` is
        unknown, or the batch does not divide over the devices.
    """
    if len(rows) < 1:
      raise ValueError(f"{info.name} {info.split}: expected at least 1 row.")
    if "image" in arrays and arrays["image"].dtype != np.uint8:
      raise ValueError(
        f"Expected uint8 images, got {arrays['image'].dtype}. Normalization is "
        "done on the device."
      )
    if on_device not in (True, False, "auto"):
      raise ValueError(
        f"Expected on_device True, False or 'auto', got {on_device!r}."
      )
    devices = sharding.num_devices
    shards = devices // sharding.shard_shape((devices,))[0]
    if batch_size < 1 or batch_size % shards:
      raise ValueError(
        f"Expected a batch size that {shards} devices can share equally, got "
        f"{batch_size}. Use a multiple of {shards}."
      )
    self.info = info
    self.batch_size = batch_size
    self._rows = np.asarray(rows, np.int64)
    self._sharding = sharding
    self._shuffle = shuffle
    self._order = functools.lru_cache(maxsize=2)(
      functools.partial(permutation, seed, size=len(rows))
    )
    self._arrays = dict(arrays)
    if on_device == "auto":
      num_bytes = sum(len(rows) * (a.nbytes // len(a)) for a in arrays.values())
      on_device = device_arrays_lib.fits(num_bytes, sharding)
    self.on_device = on_device
    self._finish = jax.jit(_finish, out_shardings=sharding)
    if on_device:
      everywhere = jax.sharding.NamedSharding(sharding.mesh, jax.P())
      self._device_arrays = {
        name: device_arrays_lib.put(np.asarray(array[self._rows]), everywhere)
        for name, array in arrays.items()
      }
      self._gather = jax.jit(_gather, out_shardings=sharding)

  @property
  def num_batches(self) -> int | None:
    """Batches in one pass; None in training, which is endless."""
    if self._shuffle:
      return None
    return math.ceil(len(self._rows) / self.batch_size)

  def _select(self, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [B] in the selected rows, and [B] whether they count."""
    size = len(self._rows)
    first = step * self.batch_size
    position = np.arange(first, first + self.batch_size, dtype=np.int64)
    if not self._shuffle:
      valid = position < size
      return np.where(valid, position, 0), valid
    epoch, within = position // size, position % size
    chosen = np.empty_like(position)
    for number in np.unique(epoch).tolist():
      now = epoch == number
      chosen[now] = self._order(number)[within[now]]
    return chosen, np.ones(self.batch_size, bool)

  def batch(self, step: int) -> types.Batch:
    """Batch number `step`, the same for the same (seed, step).

    Args:
      step: number of the batch, at least 0; in evaluation less than
        `num_batches`.

    Returns:
      Global arrays, sharded as asked for: `"image"` [B, H, W, 3] in [-1, 1],
      the other arrays, and in evaluation `"valid"` [B] bool.

    Raises:
      ValueError: if there is no such batch.
    """
    last = self.num_batches
    if step < 0 or (last is not None and step >= last):
      raise ValueError(
        f"{self.info.name} {self.info.split}: expected a step in [0, "
        f"{'infinity' if last is None else last}), got {step}."
      )
    chosen, valid = self._select(step)
    if self.on_device:
      raw = self._gather(
        self._device_arrays, device_arrays_lib.put(chosen, self._sharding)
      )
    else:
      rows = self._rows[chosen]
      raw = {
        name: device_arrays_lib.read_rows(array, rows, self._sharding)
        for name, array in self._arrays.items()
      }
    # Both end in the same compiled function, so the bits are the same.
    out = self._finish(raw)
    if not self._shuffle:
      out["valid"] = device_arrays_lib.put(valid, self._sharding)
    return out

  @property
  def make_batch(self) -> Callable[[Any, Any], types.Batch] | None:
    """Gathers a training batch; None if the rows are on the host."""
    if not self.on_device or not self._shuffle:
      return None

    def gather(device_arrays, chosen):
      chosen = jax.lax.with_sharding_constraint(chosen, self._sharding)
      return _finish(_gather(device_arrays, chosen))

    return gather

  @property
  def device_arrays(self) -> dict[str, jax.Array]:
    """All rows, on every device; empty if they are on the host."""
    return self._device_arrays if self.on_device else {}

  def step_inputs(self, first: int, count: int) -> np.ndarray:
    """The rows [count, B] int32 of `count` batches."""
    chosen = [self._select(first + i)[0] for i in range(count)]
    return np.stack(chosen).astype(np.int32)


def from_cache(
  cached: cache.Cache,
  rows: np.ndarray,
  info: types.DatasetInfo,
  batching: Batching,
) -> CachedDataset:
  """Batches of some rows of a cache.

  Args:
    cached: its `image`, and `segmentation` and `target` if `info` has them,
      are served.
    rows: [n] integers, the selected rows, in the order of the split.
    info: what is known about the data.
    batching: how examples become batches.

  Returns:
    The dataset.

  Raises:
    ValueError: see `CachedDataset`.
  """
  names = ["image"]
  names += ["segmentation"] if info.has_segmentation else []
  names += ["target"] if info.layout is not None else []
  return CachedDataset(
    {name: cached.arrays[name] for name in names},
    rows,
    info,
    batch_size=batching.batch_size,
    sharding=batching.sharding,
    seed=batching.seed,
    shuffle=batching.train,
    on_device=batching.on_device,
  )


def _finish(raw: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """From the stored dtypes to those of a batch; runs on the device."""
  out = dict(raw)
  if "image" in raw:
    out["image"] = transforms.normalize(raw["image"])
  if "segmentation" in raw:
    out["segmentation"] = raw["segmentation"].astype(jnp.int32)
  return out


def _gather(
  device_arrays: dict[str, jax.Array], chosen: jax.Array
) -> dict[str, jax.Array]:
  """Rows [B, ...] of arrays [n, ...]; runs on the device."""
  return {
    name: array.at[chosen].get(mode="promise_in_bounds")
    for name, array in device_arrays.items()
  }
