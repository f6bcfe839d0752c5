"""Optimizer and learning-rate schedule of the paper."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


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
    warmup_steps: updates of the warm-up; 0: none.
    decay_rate: factor per `decay_steps`, in (0, 1]; 1: no decay.
    decay_steps: updates for one factor, >= 1.

  Returns:
    A function from updates done (0 at the first update) to the rate.

  Raises:
    ValueError: on values out of range.

  Example:
    >>> from slot_attention_jax import optimizers
    >>> schedule = optimizers.warmup_exponential_decay(
    ...   4e-4, warmup_steps=10_000, decay_rate=0.5, decay_steps=100_000)
    >>> round(float(schedule(10_000)), 9)
    0.000373213

  References:
    Locatello et al., `Object-Centric Learning with Slot Attention
    <https://arxiv.org/abs/2006.15055>`_, 2020, appendix; training scripts of
    the reference implementation.
  """
  if learning_rate <= 0 or warmup_steps < 0 or decay_steps < 1:
    raise ValueError(
      "Expected learning_rate > 0, warmup_steps >= 0 and decay_steps >= 1, got "
      f"{learning_rate}, {warmup_steps} and {decay_steps}."
    )
  if not 0 < decay_rate <= 1:
    raise ValueError(f"Expected a decay_rate in (0, 1], got {decay_rate}.")

  def schedule(count):
    step = jnp.asarray(count, jnp.float32)
    warmup = jnp.minimum(1.0, step / warmup_steps) if warmup_steps else 1.0
    return learning_rate * warmup * decay_rate ** (step / decay_steps)

  return schedule


def adam(
  learning_rate: optax.ScalarOrSchedule,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  r"""Adam with epsilon where TensorFlow has it.

  .. math::
    \Delta\theta_t = -\eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
      \frac{m_t}{\sqrt{v_t} + \epsilon}

  optax, as PyTorch, adds epsilon to the bias-corrected
  :math:`\sqrt{v_t / (1 - \beta_2^t)}` instead, where it counts 32 times less
  at the first update: parameters with gradients below 1e-6 then start
  differently. The difference fades over about a thousand updates.

  Args:
    learning_rate: a rate or a schedule over updates done.
    b1: decay of the mean of the gradients, in [0, 1).
    b2: decay of the mean of their squares, in [0, 1).
    eps: epsilon, >= 0.

  Returns:
    The optimizer; its state is that of `optax.adam`.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax import optimizers
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
    # Its moments, not its step, whose epsilon stands elsewhere.
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


def create_optimizer(
  config: Any,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Adam with the schedule of the config.

  Args:
    config: the `optim` group of a config.

  Returns:
    A pair (optimizer, schedule).

  Raises:
    ValueError: on values out of range.
  """
  schedule = warmup_exponential_decay(
    config.learning_rate,
    warmup_steps=config.warmup_steps,
    decay_rate=config.decay_rate,
    decay_steps=config.decay_steps,
  )
  if config.clip_norm < 0:
    raise ValueError(
      f"Expected optim.clip_norm >= 0 (0: no clipping), got {config.clip_norm}."
    )
  optimizer = adam(schedule, b1=config.b1, b2=config.b2, eps=config.eps)
  if config.clip_norm:
    clip = optax.clip_by_global_norm(config.clip_norm)
    optimizer = optax.chain(clip, optimizer)
  return optimizer, schedule
