"""The Slot Attention module (Algorithm 1 of the paper)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from slot_attention_jax.modules import attention as attention_lib
from slot_attention_jax.modules import early_stop, initializers, shard_types
from slot_attention_jax.modules import slot_init as slot_init_lib
from slot_attention_jax.modules.encoder import LAYER_NORM_EPSILON
from slot_attention_jax.modules.gru import GRUCell

SLOT_UPDATES = ("gru", "residual", "replace")
"""How updates are applied to slots: see `SlotAttention.slot_update`."""
NORMALIZATIONS = attention_lib.NORMALIZATIONS
GRADIENTS = ("unrolled", "implicit", "implicit_start")
"""Which iterations gradients flow through: see `SlotAttention.gradient`."""


@slot_init_lib.accept_slot_start
class SlotAttention(nn.Module):
  r"""Maps a set of N input features to K slots by iterative attention.

  Each iteration lets the slots compete for the inputs,

  .. math::
    A_{kn} = \operatorname{softmax}_k\!\left(
      \tfrac{1}{\sqrt{D}}\, q(s_k) \cdot k(x_n) \right), \quad
    u_k = \frac{\sum_n (A_{kn} + \epsilon)\, v(x_n)}{\sum_n (A_{kn} + \epsilon)}

  and updates every slot, :math:`s_k \leftarrow \operatorname{GRU}(s_k, u_k)`
  followed by a residual MLP. Permuting the inputs changes nothing, permuting
  the initial slots permutes the result. The parameters depend on neither K
  (unless each slot has its own initialization), N nor T: all three may differ
  from call to call. The defaults are the paper's.

  Attributes:
    num_slots: K, unless the call says otherwise.
    num_iterations: T, unless the call says otherwise.
    slot_size: D, size of slots, queries, keys and values.
    mlp_hidden_size: hidden width of the residual MLP; None or 0: no MLP.
    epsilon: added to the attention before it is normalized over the inputs, so
      that a slot that wins nothing gets the plain mean of the values.
    dtype: dtype of the matrix products; None: that of inputs and parameters.
      Softmax, normalizer and the slots between iterations stay in float32.
    param_dtype: dtype of the parameters.
    unroll: iterations per step of the compiled loop.
    slot_init: the Gaussian that initial slots are sampled from. `"shared"`, the
      paper's: all slots have the same mean and scale. `"background"`: slot 0
      has its own, all others share one. `"per_slot"`: slot k has its own;
      means are initialized from a standard normal, scales to 0.1. Slots then
      differ from the beginning, which helps short trainings, but they are no
      longer exchangeable, and K is the module's unless `initial_slots` are
      given. `"learned"`: slot k always has the same learned initial vector;
      there is no noise, and K is the module's.
    slot_update: `"gru"`, the paper's; `"residual"`: the update is added to the
      slot; `"replace"`: it is the new slot. The MLP follows in any case.
    normalization: `"mean"`, the paper's weighted mean of the values;
      `"sum"`: their weighted sum, with weights :math:`A_{kn} + \epsilon`;
      `"scaled_sum"`: this times K / N, with the module's K, also in calls with
      another. A slot then sees how much attention it gets, and one that gets
      little changes little, so that spare slots can stay empty.
    gradient: `"unrolled"`, the paper's: through all T iterations.
      `"implicit"`: through the last one alone, whose initial slots count as
      constants; values are the same, the backward pass takes one iteration
      instead of T, and learned initial slots get no gradient.
      `"implicit_start"`: the gradient of the last iteration's initial slots is
      also given to the first's, as if these were the same.
    layer_norm_epsilon: added to the variance by LayerNorm; the reference's is
      Keras' default, 1e-3, PyTorch's is 1e-5.

  Example:
    >>> import jax
    >>> import slot_attention_jax as sa
    >>> module = sa.SlotAttention(num_slots=5)
    >>> inputs = jax.random.normal(jax.random.key(0), (2, 100, 64))
    >>> rngs = {"params": jax.random.key(1), "slots": jax.random.key(2)}
    >>> params = jax.jit(module.init)(rngs, inputs)
    >>> slots, attention = module.apply(
    ...   params, inputs, num_slots=8, num_iterations=5,
    ...   rngs={"slots": jax.random.key(3)})
    >>> slots.shape, attention.shape
    ((2, 8, 64), (2, 5, 8, 100))

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, Algorithm 1, equations 1 and 2.
    "implicit": Chang et al., `Object Representations as Fixed Points
    <https://arxiv.org/abs/2207.00787>`_, 2022, its first-order gradient (there
    after T + 1 iterations). "implicit_start": Jia et al., `Improving
    Object-centric Learning with Query Optimization
    <https://arxiv.org/abs/2210.08990>`_, 2023. "scaled_sum": Krimmel et al.,
    `Attention Normalization Impacts Cardinality Generalization in Slot
    Attention <https://arxiv.org/abs/2407.04170>`_, 2024.
  """

  num_slots: int
  num_iterations: int = 3
  slot_size: int = 64
  mlp_hidden_size: int | None = 128
  epsilon: float = 1e-8
  dtype: Any = None
  param_dtype: Any = jnp.float32
  unroll: int = 1
  slot_init: str = "shared"
  slot_update: str = "gru"
  normalization: str = "mean"
  gradient: str = "unrolled"
  layer_norm_epsilon: float = LAYER_NORM_EPSILON

  def setup(self):
    for name, known in (
      ("slot_init", slot_init_lib.SLOT_INITS),
      ("slot_update", SLOT_UPDATES),
      ("normalization", NORMALIZATIONS),
      ("gradient", GRADIENTS),
    ):
      if getattr(self, name) not in known:
        raise ValueError(
          f"Expected {name} out of {known}, got {getattr(self, name)!r}."
        )
    options = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    d = self.slot_size
    dense_init = initializers.glorot_uniform(self)

    def dense(features, name, use_bias=True):
      return nn.Dense(
        features,
        use_bias=use_bias,
        kernel_init=dense_init,
        name=name,
        **options,
      )

    def norm(name):
      return nn.LayerNorm(
        epsilon=self.layer_norm_epsilon,
        use_fast_variance=False,
        name=name,
        **options,
      )

    self.norm_inputs = norm("norm_inputs")
    self.norm_slots = norm("norm_slots")
    shape, mu_init, log_sigma_init = slot_init_lib.gaussians(
      self.slot_init, self.num_slots, d
    )
    mu_init = initializers.if_missing(self, mu_init)
    log_sigma_init = initializers.if_missing(self, log_sigma_init)
    self.slots_mu = self.param("slots_mu", mu_init, shape, self.param_dtype)
    if self.slot_init != "learned":
      self.slots_log_sigma = self.param(
        "slots_log_sigma", log_sigma_init, shape, self.param_dtype
      )
    self.project_q = dense(d, "project_q", use_bias=False)
    self.project_k = dense(d, "project_k", use_bias=False)
    self.project_v = dense(d, "project_v", use_bias=False)
    if self.slot_update == "gru":
      self.gru = GRUCell(d, name="gru", **options)
    if self.mlp_hidden_size:
      self.norm_mlp = norm("norm_mlp")
      self.mlp_0 = dense(self.mlp_hidden_size, "mlp_0")
      self.mlp_1 = dense(d, "mlp_1")

  def __call__(
    self,
    inputs: jax.Array,
    *,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    noise: jax.Array | None = None,
    initial_slots: jax.Array | None = None,
    mask: jax.Array | None = None,
    stop_after: jax.Array | None = None,
  ) -> tuple[jax.Array, jax.Array]:
    """Binds slots to the inputs.

    Args:
      inputs: [B, N, F].
      num_slots: K of this call; default: that of `noise` or `initial_slots`,
        else the module's.
      num_iterations: T of this call, >= 1; default: the module's.
      noise: [B, K, D] standard-normal sample that the initial slots are made
        of, `mu + exp(log_sigma) * noise`; default: drawn from the RNG stream
        `"slots"`. Learned initial slots need neither and ignore it.
      initial_slots: [B, K, D] used instead of a sample; then the parameters
        `slots_mu` and `slots_log_sigma` do not affect the result.
      mask: [B, N] bool or 0/1; inputs where it is 0 are ignored: they are left
        out of the weighted mean and get attention 0. If no input of an example
        is left, its update is zero.
      stop_after: [B] integers from 1 to T; the slots of an example stay as they
        are after this many iterations.

    Returns:
      A pair (slots [B, K, D], attention [B, T, K, N]). The attention, float32
      in [0, 1], is the softmax over the slots at each iteration: for each
      input it sums to 1 over K. Under jit it is not stored unless it is used.

    Raises:
      ValueError: on shapes or counts that do not fit.
    """
    if inputs.ndim != 3:
      raise ValueError(f"Expected inputs [B, N, F], got {inputs.shape}.")
    length = self.num_iterations if num_iterations is None else num_iterations
    if length < 1:
      raise ValueError(f"Expected num_iterations >= 1, got {length}.")
    slots = self._initial_slots(inputs, num_slots, noise, initial_slots)
    if mask is not None:
      if mask.shape != inputs.shape[:2]:
        raise ValueError(
          f"Expected a mask [B, N] = {inputs.shape[:2]}, got {mask.shape}."
        )
      mask = mask.astype(bool)
      # Padding may hold anything, even NaN, which zero weights would not hide.
      inputs = jnp.where(mask[..., None], inputs, 0)
    inputs = self.norm_inputs(inputs)
    keys = self.project_k(inputs)  # [B, N, D]
    values = self.project_v(inputs)  # [B, N, D]
    constants = (keys, values, mask)
    slots = shard_types.varying_as(
      slots, *jax.tree.leaves((constants, stop_after))
    )
    if stop_after is not None:
      iterate = early_stop.stop_early(SlotAttention._iterate, self.gradient)
      (slots, _), attention = self._repeat(
        iterate, length, (slots, stop_after), constants
      )
    elif self.gradient == "unrolled" or length == 1:
      slots, attention = self._repeat(
        SlotAttention._iterate, length, slots, constants
      )
    else:
      initial = slots
      slots, before = self._repeat(
        SlotAttention._iterate_constant,
        length - 1,
        jax.lax.stop_gradient(initial),
        constants,
      )
      if self.gradient == "implicit_start":
        # Adds zero to the values and a straight path to the gradient.
        slots = slots + (initial - jax.lax.stop_gradient(initial))
      slots, last = self._iterate(slots, constants)
      attention = jnp.concatenate([before, last[:, None]], axis=1)
    return slots.astype(keys.dtype), attention

  def draw_noise(
    self, batch_size: int, num_slots: int | None = None
  ) -> jax.Array:
    """The noise that a call draws from the RNG stream `"slots"`.

    Draw it for a whole batch and pass slices of it as `noise`: each example
    then has the initial slots that it has in a call on the whole batch,
    whichever device computes it.

    Args:
      batch_size: B.
      num_slots: K; default: the module's.

    Returns:
      [B, K, D] standard-normal sample.
    """
    shape = (batch_size, num_slots or self.num_slots, self.slot_size)
    dtype = jnp.promote_types(jnp.float32, self.slots_mu.dtype)
    return jax.random.normal(self.make_rng("slots"), shape, dtype)

  def _initial_slots(self, inputs, num_slots, noise, initial_slots):
    """Initial slots [B, K, D], float32 or wider."""
    num_slots = slot_init_lib.choose_num_slots(
      num_slots, self.num_slots, noise, initial_slots
    )
    shape = (inputs.shape[0], num_slots, self.slot_size)
    slot_init_lib.check_shapes(shape, noise=noise, initial_slots=initial_slots)
    if initial_slots is not None:
      return initial_slots.astype(
        jnp.promote_types(jnp.float32, initial_slots.dtype)
      )

    def of_each_slot(values):
      return slot_init_lib.of_each_slot(
        values.astype(jnp.promote_types(jnp.float32, values.dtype)),
        self.slot_init,
        num_slots,
      )

    mu = of_each_slot(self.slots_mu)
    if self.slot_init == "learned":
      return jnp.broadcast_to(mu, shape)
    if noise is None:
      noise = self.draw_noise(shape[0], num_slots)
    return mu + jnp.exp(of_each_slot(self.slots_log_sigma)) * noise

  def _repeat(self, iteration, length, slots, constants):
    """`length` iterations: (slots [B, K, D], attention [B, length, K, N])."""
    return nn.scan(
      iteration,
      variable_broadcast="params",
      split_rngs={"params": False},
      in_axes=nn.broadcast,  # pyright: ignore[reportArgumentType]
      out_axes=1,
      length=length,
      unroll=min(self.unroll, length),
      # The check traces an iteration once more. Only parameters that do not
      # exist yet could depend on the loop, and creating them needs it.
      check_constancy_invariants=self.is_mutable_collection("params"),
    )(self, slots, constants)

  def _iterate_constant(self, slots, constants):
    """One iteration without a gradient."""
    # Stopped inside the loop, so that no backward pass of it is compiled and no
    # residuals are stored.
    return jax.lax.stop_gradient(self._iterate(slots, constants))

  def _iterate(self, slots, constants):
    """One iteration: slots [B, K, D] to (slots, attention [B, K, N])."""
    keys, values, mask = constants
    queries = self.project_q(self.norm_slots(slots))
    queries = queries * self.slot_size**-0.5  # [B, K, D]
    updates, attention = attention_lib.attend(
      queries,
      keys,
      values,
      mask,
      epsilon=self.epsilon,
      normalization=self.normalization,
      num_slots=self.num_slots,
      dtype=slots.dtype,
    )
    if self.slot_update == "gru":
      slots = self.gru(slots, updates)
    else:
      slots = updates + (slots if self.slot_update == "residual" else 0)
    if self.mlp_hidden_size:
      hidden = nn.relu(self.mlp_0(self.norm_mlp(slots)))
      slots = slots + self.mlp_1(hidden).astype(slots.dtype)
    return slots, attention
