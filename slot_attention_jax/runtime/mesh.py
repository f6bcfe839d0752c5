"""The device mesh: the state is replicated, batches are split."""

import contextlib
from typing import Any

import jax

from slot_attention_jax.runtime import platform

AXIS = "data"
"""Name of the one mesh axis."""


def create_mesh() -> jax.sharding.Mesh:
  """A one-axis mesh over all devices of all processes.

  The models have less than a million parameters, so the state is replicated
  and only the batch is split.

  Returns:
    A mesh with the axis `"data"`.
  """
  return jax.make_mesh(
    (jax.device_count(),),
    (AXIS,),
    # Explicit, the default since jax 0.9, does not fit optax's matching.
    axis_types=(jax.sharding.AxisType.Auto,),
  )


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """Sharding of arrays that every device holds in full."""
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def batch_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """Sharding of arrays whose leading axis is split over the devices."""
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))


def check_batch_size(name: str, batch_size: int, num_devices: int) -> None:
  """Raises ValueError unless a batch splits evenly over the devices.

  Args:
    name: config key of the batch size, for the message.
    batch_size: global batch size.
    num_devices: devices of the mesh.
  """
  if batch_size < 1 or batch_size % num_devices:
    nearest = max(1, round(batch_size / num_devices)) * num_devices
    raise ValueError(
      f"Expected {name} to be a multiple of the {num_devices} devices, got "
      f"{batch_size}. The nearest that fits is {nearest}."
    )


def under_mesh(compiled: Any, mesh: jax.sharding.Mesh) -> Any:
  """Makes a compiled function run with the mesh as context.

  Args:
    compiled: made by `jax.jit`.
    mesh: what `jax.sharding.get_abstract_mesh()` returns during tracing, which
      the matching asks for; programs are traced for its platform alone.

  Returns:
    A function of the same arguments. Its attribute `lower` takes these
    arguments and `platforms`.
  """
  name = mesh.devices.flat[0].platform

  def call(*args):
    with jax.set_mesh(mesh), platform.only(name):
      return compiled(*args)

  def lower(*args, platforms=None):
    """Lowers for this platform, or ahead of time for others."""
    context = contextlib.nullcontext()  # Forms for all platforms are traced.
    if platforms is None:
      context = platform.only(name)
    with jax.set_mesh(mesh), context:
      return compiled.trace(*args).lower(lowering_platforms=platforms)

  call.lower = lower
  return call
