"""Batches are pure functions of (seed, step), wherever the rows lie."""

import types as builtin_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data import (
  cached_dataset,
  device_arrays,
  transforms,
  types,
)

_SIZE = 23


@pytest.fixture(scope="module")
def arrays():
  rng = np.random.default_rng(0)
  return {
    "image": rng.integers(0, 256, (_SIZE + 7, 6, 5, 3), dtype=np.uint8),
    "target": rng.random((_SIZE + 7, 4, 19), dtype=np.float32),
    "segmentation": rng.integers(0, 9, (_SIZE + 7, 6, 5), dtype=np.uint8),
  }


# Neither contiguous nor sorted: the rows decide the order.
_ROWS = np.random.default_rng(1).permutation(_SIZE + 7)[:_SIZE]


def _sharding(devices=4):
  mesh = jax.make_mesh(
    (devices,),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:devices],
  )
  return jax.NamedSharding(mesh, jax.P("data"))


def _dataset(
  arrays, *, batch_size=8, shuffle=True, seed=3, devices=4, **kwargs
):
  kwargs = {"rows": _ROWS, "on_device": False} | kwargs
  info = types.DatasetInfo("noise", "train", (6, 5, 3), len(kwargs["rows"]))
  return cached_dataset.CachedDataset(
    arrays,
    info=info,
    batch_size=batch_size,
    sharding=_sharding(devices),
    seed=seed,
    shuffle=shuffle,
    **kwargs,
  )


def _equal(a, b):
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].dtype == b[name].dtype
    np.testing.assert_array_equal(np.asarray(a[name]), np.asarray(b[name]))


def _find(arrays, target):
  """The row of the arrays that a target comes from."""
  matches = (arrays["target"] == np.asarray(target)).all(axis=(1, 2))
  (row,) = np.flatnonzero(matches)
  return row


def test_permutation_never_changes():
  # A change here silently reorders the data of every run that is resumed.
  assert cached_dataset.permutation(0, 0, 5).tolist() == [0, 2, 4, 3, 1]
  assert cached_dataset.permutation(0, 1, 8).tolist() == [
    6,
    0,
    4,
    5,
    2,
    7,
    1,
    3,
  ]
  assert cached_dataset.permutation(1, 0, 8).tolist() == [
    2,
    7,
    0,
    5,
    1,
    4,
    3,
    6,
  ]


@pytest.mark.parametrize("seed", [0, -1, 2**63])
def test_permutation_holds_every_row_once(seed):
  order = cached_dataset.permutation(seed, 5, 1000)
  assert sorted(order.tolist()) == list(range(1000))
  # Uncorrelated with the order of the rows and of the next epoch: the standard
  # deviation of the correlation of 1000 is 0.03.
  following = cached_dataset.permutation(seed, 6, 1000)
  assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.15
  assert abs(np.corrcoef(order, following)[0, 1]) < 0.15


def test_contents_and_dtypes(arrays):
  batch = _dataset(arrays).batch(2)
  assert set(batch) == {"image", "target", "segmentation"}
  rows = [_find(arrays, target) for target in np.asarray(batch["target"])]
  np.testing.assert_allclose(
    batch["image"], transforms.normalize(arrays["image"][rows]), atol=1e-6
  )
  np.testing.assert_array_equal(
    batch["segmentation"], arrays["segmentation"][rows]
  )
  assert batch["image"].dtype == jnp.float32
  assert batch["segmentation"].dtype == jnp.int32
  for value in batch.values():
    assert value.sharding.is_equivalent_to(_sharding(), value.ndim)


def test_every_epoch_visits_every_row(arrays):
  dataset = _dataset(arrays)
  seen = [
    _find(arrays, target)
    for step in range(6)  # 48 positions: two epochs of 23 and 2 more.
    for target in np.asarray(dataset.batch(step)["target"])
  ]
  assert sorted(seen[:23]) == sorted(_ROWS.tolist())
  assert sorted(seen[23:46]) == sorted(_ROWS.tolist())
  assert seen[:23] != seen[23:46]
  assert dataset.num_batches is None


def test_batch_is_a_pure_function_of_seed_and_step(arrays):
  first, second = _dataset(arrays), _dataset(arrays)
  backwards = {step: second.batch(step) for step in (9, 4, 0)}
  for step in (0, 4, 9):
    _equal(first.batch(step), backwards[step])
  other = _dataset(arrays, seed=4).batch(0)
  assert not np.array_equal(other["target"], backwards[0]["target"])


@pytest.mark.parametrize("shuffle", [True, False])
def test_device_memory_gives_the_same_bits(arrays, shuffle):
  host = _dataset(arrays, shuffle=shuffle)
  device = _dataset(arrays, shuffle=shuffle, on_device=True)
  for step in (0, 1, 2):
    _equal(host.batch(step), device.batch(step))
  for name, value in device.batch(1).items():
    expected = host.batch(1)[name].sharding
    assert value.sharding.is_equivalent_to(expected, value.ndim)


@pytest.mark.parametrize("on_device", [True, False])
def test_one_and_four_devices_give_the_same(arrays, on_device):
  one = _dataset(arrays, devices=1, on_device=on_device)
  four = _dataset(arrays, devices=4, on_device=on_device)
  for step in (0, 5):
    _equal(one.batch(step), four.batch(step))


@pytest.mark.parametrize("on_device", [True, False])
def test_fewer_rows_than_the_batch(arrays, on_device):
  dataset = _dataset(arrays, rows=_ROWS[:3], on_device=on_device)
  seen = [
    _find(arrays, target)
    for step in range(3)
    for target in np.asarray(dataset.batch(step)["target"])
  ]
  for epoch in range(8):
    assert sorted(seen[3 * epoch : 3 * epoch + 3]) == sorted(_ROWS[:3].tolist())


@pytest.mark.parametrize("on_device", [True, False])
def test_evaluation_is_one_pass_in_order(arrays, on_device):
  dataset = _dataset(arrays, shuffle=False, on_device=on_device)
  assert dataset.num_batches == 3
  batches = [dataset.batch(step) for step in range(3)]
  valid = np.concatenate([b["valid"] for b in batches])
  assert valid.dtype == bool
  assert valid.tolist() == [True] * 23 + [False]
  target = np.concatenate([b["target"] for b in batches])
  np.testing.assert_array_equal(target[valid], arrays["target"][_ROWS])
  np.testing.assert_array_equal(target[23], arrays["target"][_ROWS[0]])
  for step in (-1, 3):
    with pytest.raises(ValueError, match=rf"\[0, 3\), got {step}"):
      dataset.batch(step)


class _Recorder:
  """An array that remembers which rows were read."""

  def __init__(self, array):
    self.array, self.reads = array, []
    self.dtype, self.shape, self.nbytes = array.dtype, array.shape, array.nbytes

  def __len__(self):
    return len(self.array)

  def __getitem__(self, rows):
    self.reads.append(np.asarray(rows).tolist())
    return self.array[rows]


def test_each_device_reads_only_its_rows(arrays):
  recorder = _Recorder(arrays["target"])
  batch = _dataset({"target": recorder}).batch(1)
  assert [len(rows) for rows in recorder.reads] == [2, 2, 2, 2]
  expected = [_find(arrays, target) for target in np.asarray(batch["target"])]
  assert sorted(row for rows in recorder.reads for row in rows) == sorted(
    expected
  )


def test_auto_stays_on_the_host_of_a_cpu(arrays):
  assert _dataset(arrays, on_device="auto").on_device is False


@pytest.mark.parametrize(
  ("stats", "fits"),
  [
    ([{"bytes_limit": 300, "bytes_in_use": 100}], True),
    ([{"bytes_limit": 300, "bytes_in_use": 102}], False),
    ([None], False),
    ([{"bytes_limit": 900}, {"bytes_limit": 100}], False),
  ],
)
def test_auto_needs_half_of_the_free_memory(monkeypatch, stats, fits):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  devices = [
    builtin_types.SimpleNamespace(memory_stats=lambda s=s: s) for s in stats
  ]
  sharding = builtin_types.SimpleNamespace(
    mesh=builtin_types.SimpleNamespace(local_devices=devices)
  )
  assert device_arrays.fits(100, sharding) is fits


def test_errors(arrays):
  with pytest.raises(ValueError, match="multiple of 4"):
    _dataset(arrays, batch_size=6)
  with pytest.raises(ValueError, match="at least 1 row"):
    _dataset(arrays, rows=_ROWS[:0])
  with pytest.raises(ValueError, match="uint8 images, got float64"):
    _dataset({"image": np.zeros((30, 6, 5, 3))})
  with pytest.raises(ValueError, match="'maybe'"):
    _dataset(arrays, on_device="maybe")
  with pytest.raises(ValueError, match="got -1"):
    _dataset(arrays).batch(-1)


def test_make_batch_gives_the_same_batches_inside_jit(arrays):
  dataset = _dataset(arrays, on_device=True)
  make_batch = dataset.make_batch
  assert make_batch is not None

  @jax.jit
  def several(device_arrays, inputs):
    return [make_batch(device_arrays, chosen) for chosen in inputs]

  # Across the end of an epoch of 23 rows.
  drawn = several(dataset.device_arrays, dataset.step_inputs(1, 3))
  for step, batch in enumerate(drawn, start=1):
    _equal(batch, dataset.batch(step))


def test_rows_on_the_host_have_no_make_batch(arrays):
  assert _dataset(arrays, on_device=False).make_batch is None
  assert _dataset(arrays, on_device=True, shuffle=False).make_batch is None
