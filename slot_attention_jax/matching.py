"""Optimal one-to-one matching of two sets, on the device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

# Costs are clipped to this magnitude, which leaves room in float32 for the sums
# of costs that the algorithms form.
_MAX_COST = 1e30
# Largest set that the dynamic program matches. Each further element more than
# doubles the work: at 14 the Hungarian algorithm is faster on a CPU.
_MAX_DP_SIZE = 12


def hungarian_match(cost: jax.Array) -> tuple[jax.Array, jax.Array]:
  r"""Matches rows to columns at the least total cost.

  Solves the linear assignment problem

  .. math::
    \min_\pi \sum_{m=1}^{M} C_{r_m, c_m}, \qquad M = \min(K, O),

  over rows :math:`r` and columns :math:`c` that are each used at most once.
  Pure JAX: works under jit, vmap and on any backend. The indices carry no
  gradient; index the cost with them to differentiate the matched total.

  Sets of at most 12 elements are matched by a dynamic program over subsets, a
  fixed number of dense operations on the whole batch; with elements
  :math:`1 \dots L` of the larger set and subsets :math:`S` of the smaller,

  .. math::
    F_l(S) = \min\Bigl(F_{l-1}(S),\;
      \min_{s \in S} F_{l-1}(S \setminus s) + C_{s,l}\Bigr).

  Larger sets are matched by the Hungarian algorithm, whose loops take as many
  iterations as the hardest example needs.

  Under `jax.set_mesh` with a `"data"` axis that divides B, every device solves
  its own examples inside `jax.shard_map`, without any collective. A plain vmap
  of the Hungarian algorithm's loops would instead keep the loops of all devices
  in step, with an all-reduce per iteration. The dynamic program needs no mesh
  in the context: a batch that is split over devices is matched where it is.

  Args:
    cost: [B, K, O] cost of matching row k to column o, or [K, O] for a single
      problem; any real dtype. Computed in float32: the total is minimal up to
      the rounding of its sums. K and O may differ. A pair that costs +inf or
      NaN is matched only if no complete matching avoids it, a pair that costs
      -inf whenever possible. Such costs never hang the algorithm. Finite
      magnitudes above 1e30 count as 1e30.

  Returns:
    A tuple (rows [B, M], cols [B, M]), int32: pair m of example b is
    `cost[b, rows[b, m], cols[b, m]]`. Rows ascend, as SciPy's do. For a single
    problem both are [M]. If several matchings are optimal, it is one of them.

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
    `optax.assignment.hungarian_algorithm`. Subsets as in Held and Karp, `A
    Dynamic Programming Approach to Sequencing Problems
    <https://doi.org/10.1137/0110015>`_, 1962. Used as in Locatello et al.,
    `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, section 3.2.
  """
  if cost.ndim not in (2, 3):
    raise ValueError(
      f"hungarian_match: expected cost [B, K, O] or [K, O], got shape "
      f"{cost.shape}; add or merge batch axes first."
    )
  cost = jax.lax.stop_gradient(jnp.asarray(cost, jnp.float32))
  small = 1 <= min(cost.shape[-2:]) <= max(cost.shape[-2:]) <= _MAX_DP_SIZE
  if cost.ndim == 2:
    if not small:
      return _match_one(cost)
    rows, cols = _match_by_dp(cost[None])
    return rows[0], cols[0]
  match = _match_by_dp if small else jax.vmap(_match_one)
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


@jax.jit
def _match_by_dp(cost: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Matches cost [B, K, O] float32 -> rows, cols [B, M] int32 of small sets."""
  cost = jax.vmap(_replace_nonfinite)(cost)
  _, k, o = cost.shape
  # Where all rows (columns) are matched, subtracting each one's minimum changes
  # every total by the same amount. Sums of small numbers round less.
  if k <= o:
    cost = cost - cost.min(axis=2, keepdims=True)
  if k >= o:
    cost = cost - cost.min(axis=1, keepdims=True)
  # The larger set is the first axis, as the program takes one of its elements
  # at a time; the batch is the last, as vector units run along the last axis.
  layers = cost.transpose(1, 2, 0) if k >= o else cost.transpose(2, 1, 0)
  partners = _dp_assignment(layers)  # [B, L]
  # Each element of the larger set knows its partner. The result is to
  # be sorted by row and without those that have none.
  if k < o:
    # Partners are rows: the column of row k is where k stands among them.
    cols = partners[:, None] == jnp.arange(k, dtype=jnp.int32)[None, :, None]
    cols = jnp.argmax(cols, axis=2).astype(jnp.int32)  # [B, K]
    rows = jnp.arange(k, dtype=jnp.int32)[None]
    return jnp.broadcast_to(rows, cols.shape), cols
  numbers = jnp.broadcast_to(
    jnp.arange(k, dtype=jnp.int32)[None], partners.shape
  )
  if k == o:
    return numbers, partners
  # Partners are columns, and k - o rows have none: pair m is the matched row of
  # rank m. One-hot sums find it with dense operations alone.
  rank = jnp.cumsum(partners < o, axis=1) - 1  # [B, K], among matched rows.
  chosen = (partners < o)[:, None] & (
    rank[:, None] == jnp.arange(o, dtype=rank.dtype)[None, :, None]
  )  # [B, O, K]
  rows = jnp.where(chosen, numbers[:, None], 0).sum(axis=2, dtype=jnp.int32)
  cols = jnp.where(chosen, partners[:, None], 0).sum(axis=2, dtype=jnp.int32)
  return rows, cols


def _dp_assignment(cost: jax.Array) -> jax.Array:
  """Assigns two sets at the least total cost, by a program over subsets.

  Forwards: after the first l elements of the larger set, F_l(S) is the least
  cost at which they match exactly the elements S of the smaller one. Element l
  either has no partner, F_{l-1}(S), or some s in S, F_{l-1}(S - s) + C_{l,s}.
  The whole smaller set after the last element is the answer. Backwards: from
  there, the choices that were best are followed to the first element.

  Which subset leads to which does not depend on the costs: tables of NumPy
  hold it, so each layer is one gather and one reduction for the whole batch.

  Args:
    cost: [L, S, B] float32, finite, S <= L.

  Returns:
    [B, L] int32, the partner in the smaller set of each element of the larger
    one; S for none.
  """
  num_layers, s, b = cost.shape
  # Partner S stands for none and costs nothing. The copy also keeps XLA from
  # reading the costs in the memory order of the input, one batch stride apart.
  cost = jnp.concatenate([cost, jnp.zeros((num_layers, 1, b), cost.dtype)], 1)
  options = _subset_options(s, num_layers)
  totals = jnp.zeros((1, b), cost.dtype)  # Of the empty subset alone.
  choices = []
  for layer, (before, partner) in zip(cost, options, strict=True):
    candidates = _gather(totals, before) + _gather(layer, partner)  # [C, W, B]
    totals, choice = _min_and_argmin(candidates)  # [C, B]
    choices.append(choice)
  # Only the whole smaller set is left after the last layer: subset 0 there.
  subset = jnp.zeros((b,), jnp.int32)
  partners = []
  for choice, (before, partner) in zip(
    reversed(choices), reversed(options), strict=True
  ):
    chosen = jnp.take_along_axis(
      choice, subset[None], axis=0, mode="promise_in_bounds"
    )[0]  # [B]
    # The subset before and the partner in one number: one gather, not two.
    table = (before * (s + 1) + partner).reshape(-1)
    both = _gather(jnp.asarray(table), subset * before.shape[1] + chosen)
    subset, partner = both // (s + 1), both % (s + 1)
    partners.append(partner)
  return jnp.stack(partners[::-1], axis=1)


def _gather(array, index):
  """Rows of an array; the tables' indices are in bounds, so none is clamped."""
  return array.at[index].get(mode="promise_in_bounds")


def _min_and_argmin(values: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Minimum of values [C, W, B] over W, and its index, in one reduction.

  `min` and `argmin` would each read the values.
  """

  def less(a, b):
    smaller = b[0] < a[0]
    return jnp.where(smaller, b[0], a[0]), jnp.where(smaller, b[1], a[1])

  where = jax.lax.broadcasted_iota(jnp.int32, values.shape, 1)
  initial = np.array(np.inf, values.dtype), np.int32(0)
  return jax.lax.reduce((values, where), initial, less, (1,))


@functools.cache
def _subset_options(
  size: int, num_layers: int
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
  """Lists the ways to each subset of the smaller set.

  After l of the L elements of the larger set only some subsets matter: those
  of at most l elements, which l elements can have matched, and of at least
  S - (L - l), which the remaining L - l can complete.

  Args:
    size: S, elements of the smaller set.
    num_layers: L >= S, elements of the larger set.

  Returns:
    For each element of the larger set a pair ([C, W], [C, W]) of int32: of
    each of the C subsets after it W ways (the last may repeat), as the index of
    the subset before it and the partner, S for none.
  """
  layers, numbers = [], {0: 0}
  for done in range(1, num_layers + 1):
    fewest, most = max(0, size - (num_layers - done)), min(size, done)
    # Bit i of a subset says if it has element i.
    subsets = [x for x in range(2**size) if fewest <= x.bit_count() <= most]
    options = []
    for subset in subsets:
      ways = [(subset, size)]
      ways += [(subset ^ 1 << i, i) for i in range(size) if subset >> i & 1]
      options.append([(numbers[x], i) for x, i in ways if x in numbers])
    # Repeating the last way makes a rectangle and changes no minimum.
    width = max(map(len, options))
    padded = [ways + ways[-1:] * (width - len(ways)) for ways in options]
    before, partner = np.moveaxis(np.array(padded, np.int32), -1, 0)
    layers.append((before, partner))
    numbers = {x: i for i, x in enumerate(subsets)}
  return tuple(layers)


# Jitted so that calls outside of jit do not compile optax's loops each time.
@jax.jit
def _match_one(cost: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Matches one problem, cost [K, O] float32 -> rows [M], cols [M] int32."""
  import optax  # Takes a tenth of a second, which few need.

  rows, cols = optax.assignment.hungarian_algorithm(
    _replace_nonfinite(cost)
  )  # [M], [M]
  order = jnp.argsort(rows)
  return rows[order].astype(jnp.int32), cols[order].astype(jnp.int32)


def _replace_nonfinite(cost: jax.Array) -> jax.Array:
  """Replaces non-finite costs [K, O] by finite ones that act the same."""
  finite = jnp.isfinite(cost)
  cost = jnp.clip(cost, -_MAX_COST, _MAX_COST)
  scale = jnp.max(jnp.where(finite, jnp.abs(cost), 0.0), initial=0.0)
  # More than the finite costs of two matchings can differ by, but not more than
  # needed: float32 would lose the finite costs next to a huge constant.
  large = 2.0 * min(cost.shape) * jnp.where(scale > 0, scale, 1.0)
  # Clipping kept the sign of +-inf; NaN compares false and counts as +inf.
  return jnp.where(finite, cost, jnp.where(cost < 0, -large, large))
