import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.runtime import mesh as mesh_lib


def test_mesh_has_all_devices_on_one_auto_axis():
  mesh = mesh_lib.create_mesh()
  assert jax.device_count() == 4  # tests/conftest.py
  assert mesh.axis_names == ("data",) == (mesh_lib.AXIS,)
  assert set(mesh.devices.flat) == set(jax.devices())
  assert mesh.axis_types == (jax.sharding.AxisType.Auto,)


def test_batch_sharding_splits_the_leading_axis():
  mesh = mesh_lib.create_mesh()
  x = jax.device_put(np.arange(24).reshape(8, 3), mesh_lib.batch_sharding(mesh))
  assert {s.data.shape for s in x.addressable_shards} == {(2, 3)}
  rows = [s.data[0, 0].item() // 3 for s in x.addressable_shards]
  assert sorted(rows) == [0, 2, 4, 6]


def test_replicated_puts_all_values_on_all_devices():
  mesh = mesh_lib.create_mesh()
  x = jax.device_put(jnp.arange(3), mesh_lib.replicated(mesh))
  assert len(x.addressable_shards) == 4
  assert {s.data.shape for s in x.addressable_shards} == {(3,)}


@pytest.mark.parametrize("batch_size", [4, 8, 64])
def test_batch_sizes_that_fit(batch_size):
  mesh_lib.check_batch_size("train.batch_size", batch_size, 4)  # No error.


@pytest.mark.parametrize(
  ("batch_size", "nearest"), [(0, 4), (1, 4), (-4, 4), (7, 8), (65, 64)]
)
def test_batch_sizes_that_do_not_fit(batch_size, nearest):
  message = (
    rf"eval.batch_size to be a multiple of the 4 devices, got {batch_size}\. "
    rf"The nearest that fits is {nearest}\."
  )
  with pytest.raises(ValueError, match=message):
    mesh_lib.check_batch_size("eval.batch_size", batch_size, 4)
