"""Optimal one-to-one matching of two sets, on the device."""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

# Largest magnitude of a cost that is told apart: leaves room in float32 for the
# sums of costs that the algorithm forms.
_LARGEST_COST = 1e30


def hungarian_match(cost: jax.Array) -> tuple[jax.Array, jax.Array]:
  r"""Matches rows to columns at the least total cost.

  Solves the linear assignment problem

  .. math::
    \min_\pi \sum_{m=1}^{M} C_{r_m, c_m}, \qquad M = \min(K, O),

  over rows :math:`r` and columns :math:`c` that are each used at most once.
  Pure JAX: works under jit, vmap and on any backend. The indices carry no
  gradient; index the cost with them to differentiate the matched total.

  Under `jax.set_mesh` with a `"data"` axis that divides B, every device solves
  its own examples inside `jax.shard_map`, without any collective. A plain vmap
  of the algorithm's loops would instead keep the loops of all devices in step,
  with an all-reduce per iteration. Without a mesh it is a plain vmap.

  Args:
    cost: [B, K, O] cost of matching row k to column o, or [K, O] for a single
      problem; any real dtype, computed in float32. K and O may differ. A pair
      that costs +inf or NaN is taken only if no complete matching avoids it;
      -inf is wanted as much as +inf is avoided. Such costs never hang the
      algorithm. Finite magnitudes above 1e30 count as 1e30.

  Returns:
    A tuple (rows [B, M], cols [B, M]), int32: pair m of example b is
    `cost[b, rows[b, m], cols[b, m]]`. Rows ascend, as SciPy's do. For a single
    problem both are [M]. Among equally good matchings any one is returned.

  Raises:
    ValueError: if `cost` is not two- or three-dimensional.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax import matching
    >>> cost = jnp.array([[[8.0, 4.0, 7.0], [5.0, 2.0, 3.0]]])
    >>> rows, cols = matching.hungarian_match(cost)
    >>> rows.tolist(), cols.tolist()
    ([[0, 1]], [[1, 2]])
    >>> float(cost[0, rows[0], cols[0]].sum())
    7.0

  References:
    Kuhn, `The Hungarian method for the assignment problem
    <https://doi.org/10.1002/nav.3800020109>`_, 1955; solved by
    `optax.assignment.hungarian_algorithm`. Used as in Locatello et al.,
    `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 3.2.
  """
  if cost.ndim not in (2, 3):
    raise ValueError(
      f"hungarian_match: expected cost [B, K, O] or [K, O], got shape "
      f"{cost.shape}; add or merge batch axes first."
    )
  cost = jax.lax.stop_gradient(jnp.asarray(cost, jnp.float32))
  if cost.ndim == 2:
    return _match_one(cost)
  match = jax.vmap(_match_one)
  shards = _data_shards()
  if shards and cost.shape[0] % shards == 0:
    # The mesh is the one in the context. check_vma rejects optax's loops, whose
    # carries start as constants that do not vary over the mesh.
    match = jax.shard_map(
      match, in_specs=P("data"), out_specs=P("data"), check_vma=False
    )
  return match(cost)


def _data_shards() -> int:
  """Size of the context mesh's "data" axis; 0 if there is none to map over."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or "data" not in mesh.axis_names:
    return 0
  # Inside a caller's own shard_map the batch is already local.
  types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
  return 0 if types["data"] == AxisType.Manual else mesh.shape["data"]


# Jitted so that calls outside a jit do not compile optax's loops each time.
@jax.jit
def _match_one(cost: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Matches one problem, cost [K, O] float32 -> rows [M], cols [M] int32."""
  rows, cols = optax.assignment.hungarian_algorithm(_finite(cost))  # [M], [M]
  order = jnp.argsort(rows)
  return rows[order].astype(jnp.int32), cols[order].astype(jnp.int32)


def _finite(cost: jax.Array) -> jax.Array:
  """Replaces non-finite costs [K, O] by ones that decide the matching alike."""
  finite = jnp.isfinite(cost)
  cost = jnp.clip(cost, -_LARGEST_COST, _LARGEST_COST)
  scale = jnp.max(jnp.where(finite, jnp.abs(cost), 0.0), initial=0.0)
  # More than all finite costs of a matching can differ by, yet no larger than
  # needed: float32 would lose the finite costs beside a huge constant.
  large = 2.0 * min(cost.shape) * jnp.where(scale > 0, scale, 1.0)
  # After the clip +-inf still have their sign, and NaN compares false.
  return jnp.where(finite, cost, jnp.where(cost < 0, -large, large))
