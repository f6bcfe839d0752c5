"""Optimizers and learning-rate schedules: the paper's, and others."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

OPTIMIZERS = ("adam", "muon")
"""Names of optimizers: see `adam`, the paper's, and `muon`."""
SCHEDULES = ("exponential", "cosine")
"""Names of schedules: see `warmup_exponential_decay`, the paper's, and
`warmup_cosine_decay`."""


def warmup_exponential_decay(
  learning_rate: float,
  *,
  warmup_steps: int,
  decay_rate: float,
  decay_steps: int,
) -> optax.Schedule:
  r"""Linear warm-up times a continuous exponential decay.

  .. math::
    \eta(s) = \eta_0 \cdot \min(1, s / s_\text{warm}) \cdot
      \gamma^{s / s_\text{decay}}

  The decay also acts during the warm-up.

  Args:
    learning_rate: the base rate, > 0; reached by neither factor alone.
    warmup_steps: steps of the warm-up; 0: none.
    decay_rate: factor per `decay_steps`, in (0, 1]; 1: no decay.
    decay_steps: steps for one factor, >= 1.

  Returns:
    A function from steps done (0 at the first step) to the rate.

  Raises:
    ValueError: on values out of range.

  Example:
    >>> from slot_attention_jax.training import optimizers
    >>> schedule = optimizers.warmup_exponential_decay(
    ...   4e-4, warmup_steps=10_000, decay_rate=0.5, decay_steps=100_000)
    >>> round(float(schedule(10_000)), 9)
    0.000373213

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, appendix; training scripts of
    the reference implementation.
  """
  _check_schedule(learning_rate, warmup_steps, decay_steps)
  if not 0 < decay_rate <= 1:
    raise ValueError(f"Expected a decay_rate in (0, 1], got {decay_rate}.")

  def schedule(count):
    step = jnp.asarray(count, jnp.float32)
    warmup = jnp.minimum(1.0, step / warmup_steps) if warmup_steps else 1.0
    return learning_rate * warmup * decay_rate ** (step / decay_steps)

  return schedule


def warmup_cosine_decay(
  learning_rate: float, *, warmup_steps: int, decay_steps: int
) -> optax.Schedule:
  r"""Linear warm-up times half a cosine, down to zero.

  .. math::
    \eta(s) = \eta_0 \cdot \min(1, s / s_\text{warm}) \cdot
      \tfrac{1}{2} (1 + \cos(\pi \min(1, s / s_\text{decay})))

  The decay also acts during the warm-up, as in `warmup_exponential_decay`.

  Args:
    learning_rate: the base rate, > 0.
    warmup_steps: steps of the warm-up; 0: none.
    decay_steps: steps until the rate is zero, >= 1; the length of the run.

  Returns:
    A function from steps done (0 at the first step) to the rate.

  Raises:
    ValueError: on values out of range.

  Example:
    >>> from slot_attention_jax.training import optimizers
    >>> schedule = optimizers.warmup_cosine_decay(
    ...   1.0, warmup_steps=10, decay_steps=100)
    >>> [round(float(schedule(s)), 3) for s in (0, 5, 50, 100, 200)]
    [0.0, 0.497, 0.5, 0.0, 0.0]
  """
  _check_schedule(learning_rate, warmup_steps, decay_steps)

  def schedule(count):
    step = jnp.asarray(count, jnp.float32)
    warmup = jnp.minimum(1.0, step / warmup_steps) if warmup_steps else 1.0
    done = jnp.minimum(1.0, step / decay_steps)
    return learning_rate * warmup * 0.5 * (1.0 + jnp.cos(jnp.pi * done))

  return schedule


def _check_schedule(learning_rate, warmup_steps, decay_steps):
  if learning_rate <= 0 or warmup_steps < 0 or decay_steps < 1:
    raise ValueError(
      "Expected learning_rate > 0, warmup_steps >= 0 and decay_steps >= 1, got "
      f"{learning_rate}, {warmup_steps} and {decay_steps}."
    )


def adam(
  learning_rate: optax.ScalarOrSchedule,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  r"""Adam, with epsilon where TensorFlow adds it.

  .. math::
    \Delta\theta_t = -\eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
      \frac{m_t}{\sqrt{v_t} + \epsilon}

  optax, like PyTorch, adds epsilon to the bias-corrected
  :math:`\sqrt{v_t / (1 - \beta_2^t)}` instead, where it weighs 32 times less
  at the first step: parameters with gradients below 1e-6 then start
  differently. The difference fades over about a thousand steps.

  Args:
    learning_rate: a rate or a schedule over steps done.
    b1: decay of the mean of the gradients, in [0, 1).
    b2: decay of the mean of their squares, in [0, 1).
    eps: epsilon, >= 0.

  Returns:
    The optimizer; its state is that of `optax.adam`.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.training import optimizers
    >>> optimizer = optimizers.adam(0.1, eps=0.0)
    >>> params = jnp.array([1.0])
    >>> updates, _ = optimizer.update(
    ...   jnp.array([3.0]), optimizer.init(params), params)
    >>> round(float(updates[0]), 4)
    -0.1

  References:
    Kingma and Ba, `Adam <https://arxiv.org/abs/1412.6980>`_, 2014, the form
    before section 2.1; `tf.keras.optimizers.Adam`.
  """
  scale = optax.scale_by_adam(b1=b1, b2=b2)

  def update(updates, state, params=None):
    del params
    # Its moments, but not its update, which adds epsilon elsewhere.
    moments: Any = scale.update(updates, state)[1]
    count = moments.count.astype(jnp.float32)
    factor = jnp.sqrt(1.0 - b2**count) / (1.0 - b1**count)
    updates = jax.tree.map(
      lambda m, v: factor * m / (jnp.sqrt(v) + eps), moments.mu, moments.nu
    )
    return updates, moments

  return optax.chain(
    optax.GradientTransformation(scale.init, update),
    optax.scale_by_learning_rate(learning_rate),
  )


def muon(
  learning_rate: optax.ScalarOrSchedule,
  beta: float = 0.95,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  """Muon for the kernels, Adam for all else, both with Nesterov momentum.

  The momentum of a kernel, as a matrix from all inputs of an output to the
  outputs, is orthogonalized, and scaled to the size of Adam's updates (a root
  mean square of 0.2), so that both can share a learning rate.

  Args:
    learning_rate: a rate or a schedule over steps done.
    beta: decay of the mean of the kernels' gradients, in [0, 1).
    b1: of Adam, see `adam`.
    b2: of Adam.
    eps: of both.

  Returns:
    The optimizer; kernels have half of Adam's state.

  References:
    Jordan et al., `Muon <https://kellerjordan.github.io/posts/muon>`_, 2024;
    Liu et al., `Muon is Scalable for LLM Training
    <https://arxiv.org/abs/2502.16982>`_, 2025, for the size of the updates.
  """
  return optax.contrib.muon(
    learning_rate,
    beta=beta,
    eps=eps,
    adam_b1=b1,
    adam_b2=b2,
    muon_weight_dimension_numbers=_matrices,
    consistent_rms=0.2,
  )


def _matrices(params: Any) -> Any:
  """Which axes of a parameter are those of a matrix; None: it is no kernel."""

  def dimension_numbers(path, param):
    names = [getattr(entry, "key", "") for entry in path]
    if not names or not str(names[-1]).endswith("kernel"):
      return None
    if param.ndim == 2:
      return optax.contrib.MuonDimensionNumbers(0, 1)
    # Transposed convolutions have [k, k, outputs, inputs].
    if "decoder" in names:
      return optax.contrib.MuonDimensionNumbers((0, 1, 3), 2)
    return optax.contrib.MuonDimensionNumbers((0, 1, 2), 3)

  return jax.tree_util.tree_map_with_path(dimension_numbers, params)


def create_optimizer(
  config: Any,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """The optimizer of a config, with its schedule.

  Args:
    config: the `optim` group of a config.

  Returns:
    A pair (optimizer, schedule).

  Raises:
    ValueError: on an unknown name or values out of range.
  """
  for key, known in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
    if config[key] not in known:
      raise ValueError(
        f"Expected optim.{key} out of {known}, got {config[key]!r}."
      )
  steps = {k: config[k] for k in ("warmup_steps", "decay_steps")}
  if config.schedule == "exponential":
    schedule = warmup_exponential_decay(
      config.learning_rate, decay_rate=config.decay_rate, **steps
    )
  else:
    schedule = warmup_cosine_decay(config.learning_rate, **steps)
  if config.clip_norm < 0:
    raise ValueError(
      f"Expected optim.clip_norm >= 0 (0: no clipping), got {config.clip_norm}."
    )
  create = adam if config.name == "adam" else muon
  optimizer = create(schedule, b1=config.b1, b2=config.b2, eps=config.eps)
  if config.clip_norm:
    clip = optax.clip_by_global_norm(config.clip_norm)
    optimizer = optax.chain(clip, optimizer)
  return optimizer, schedule
