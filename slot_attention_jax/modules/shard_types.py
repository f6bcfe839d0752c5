"""Types of arrays on a mesh of the user: over which axes they are split."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def varying_as(x: jax.Array, *others: jax.Array) -> jax.Array:
  """Within `jax.shard_map`, an array of the axes over which others differ.

  A loop must begin with the type that it goes on with.

  Args:
    x: any array.
    *others: arrays of other values.

  Returns:
    The same values; the array itself outside of `jax.shard_map`.
  """
  axes = frozenset().union(*map(varying_axes, others))
  missing = tuple(axes - varying_axes(x))
  return jax.lax.pcast(x, missing, to="varying") if missing else x


def together(*arrays: jax.Array) -> tuple[jax.Array, ...]:
  """Within `jax.shard_map`, arrays of the axes over which any of them differs.

  A function with a gradient of its own (`jax.custom_vjp`) must give each
  argument a gradient of its type: this sums those of arrays that do not differ.

  Args:
    *arrays: of any shapes.

  Returns:
    The same values; the arrays themselves outside of `jax.shard_map`.
  """
  return tuple(varying_as(x, *arrays) for x in arrays)


def stand_in(shape: Sequence[int], dtype: Any, like: jax.Array) -> Any:
  """What stands for an argument of a function that is transposed.

  Args:
    shape: of the argument.
    dtype: of the argument.
    like: an array that differs over the same axes.

  Returns:
    A `jax.ShapeDtypeStruct` or, within `jax.shard_map`, where this says nothing
    about axes, zeros that no program computes.
  """
  if not varying_axes(like):
    return jax.ShapeDtypeStruct(shape, dtype)
  return varying_as(jnp.zeros(shape, dtype), like)


def varying_axes(x: jax.Array) -> frozenset[str]:
  """Axes of a mesh over which an array differs, if that is checked."""
  # JAX 0.10.0 has another name for it.
  kind = getattr(jax.typeof(x), "manual_axis_type", None)
  return frozenset() if kind is None else kind.varying


def may_be_split(x: jax.Array) -> bool:
  """Whether the compiler may split an array over devices, as it sees fit.

  Args:
    x: any array.

  Returns:
    True on a mesh of several devices with Auto axes; False within
    `jax.shard_map` over all of them, where each device has its own array.
  """
  mesh = jax.typeof(x).sharding.mesh
  return any(
    size > 1 and kind == jax.sharding.AxisType.Auto
    for size, kind in zip(mesh.axis_sizes, mesh.axis_types, strict=True)
  )


def check_not_explicit(x: jax.Array, what: str) -> None:
  """Raises ValueError if an array is split over Explicit axes of a mesh.

  The forms of convolutions merge the batch with other axes, for which JAX wants
  to be told a sharding there. Unsplit, and within `jax.shard_map`, all is well.

  Args:
    x: the array.
    what: what it is, for the message.
  """
  if any(axis is not None for axis in jax.typeof(x).sharding.spec):
    raise ValueError(
      f"Expected {what} that are not split over Explicit axes of a mesh, got "
      f"{jax.typeof(x)}. Make the mesh with axis_types="
      "(jax.sharding.AxisType.Auto,), or wrap the loss or, if there is none, "
      "the call of the model in jax.sharding.auto_axes."
    )
