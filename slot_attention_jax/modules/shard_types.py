"""Types of arrays within `jax.shard_map`: over which axes they differ."""

import jax


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


def varying_axes(x: jax.Array) -> frozenset[str]:
  """Axes of a mesh over which an array differs, if that is checked."""
  # JAX 0.10.0 has another name for it.
  kind = getattr(jax.typeof(x), "manual_axis_type", None)
  return frozenset() if kind is None else kind.varying
