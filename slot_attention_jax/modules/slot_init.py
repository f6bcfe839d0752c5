"""The Gaussians that initial slots are sampled from, for each `slot_init`.

S of them are learned, as means and logarithms of scales [1, S, D]: 1 if it is
`"shared"`, 2 if it is `"background"` (slot 0 has its own, the others share
one), else K, one per slot.
"""

import functools
import math
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn

SLOT_INITS = ("shared", "background", "per_slot", "learned")
"""How slots are initialized: see `SlotAttention.slot_init`."""
ANY_NUM_SLOTS = ("shared", "background")
"""Initializations that do not fix K."""
_PER_SLOT_SIGMA = 0.1
_Class = TypeVar("_Class", bound=type[nn.Module])


def accept_slot_start(cls: _Class) -> _Class:
  """Lets a class with a field `slot_init` take it by its older name, too."""
  init = cls.__init__

  @functools.wraps(init)
  def renamed(self, *args, **kwargs):
    if "slot_start" in kwargs:
      kwargs["slot_init"] = kwargs.pop("slot_start")
    init(self, *args, **kwargs)

  cls.__init__ = renamed
  return cls


def gaussians(
  slot_init: str, num_slots: int, slot_size: int
) -> tuple[
  tuple[int, int, int], nn.initializers.Initializer, nn.initializers.Initializer
]:
  """The parameters of initial slots.

  Args:
    slot_init: one of `SLOT_INITS`.
    num_slots: K of the module.
    slot_size: D.

  Returns:
    A triple (shape (1, S, D), initializer of the means, initializer of the
    logarithms of the scales).
  """
  if slot_init in ANY_NUM_SLOTS:
    glorot = nn.initializers.glorot_uniform()
    return (1, 1 + (slot_init == "background"), slot_size), glorot, glorot
  log_sigma = nn.initializers.constant(math.log(_PER_SLOT_SIGMA))
  return (1, num_slots, slot_size), nn.initializers.normal(1.0), log_sigma


def of_each_slot(
  values: jax.Array, slot_init: str, num_slots: int
) -> jax.Array:
  """The means, or the scales, that belong to each slot.

  Args:
    values: [1, S, D].
    slot_init: one of `SLOT_INITS`.
    num_slots: K of this call.

  Returns:
    [1, K, D], or [1, 1, D] if all slots have the same.

  Raises:
    ValueError: if each slot has its own and there are not K of them.
  """
  if slot_init == "background":
    index = jnp.minimum(jnp.arange(num_slots), 1)  # 0, 1, 1, ...
    return jnp.take(values, index, axis=1)
  if slot_init not in ANY_NUM_SLOTS and num_slots != values.shape[1]:
    raise ValueError(
      f"Expected num_slots={values.shape[1]}, as each slot has its own "
      f"initialization (slot_init={slot_init!r}), got {num_slots}. Pass "
      "initial_slots or train with more slots."
    )
  return values


def choose_num_slots(
  num_slots: int | None,
  default: int,
  noise: jax.Array | None,
  initial_slots: jax.Array | None,
) -> int:
  """K of a call.

  Args:
    num_slots: K, if it is given.
    default: K, if nothing says otherwise.
    noise: [B, K, D], if it is given.
    initial_slots: [B, K, D], if they are given.

  Returns:
    K.

  Raises:
    ValueError: on noise and initial slots together, or fewer than one slot.
  """
  if initial_slots is not None and noise is not None:
    raise ValueError("Expected noise or initial_slots, got both.")
  given = noise if initial_slots is None else initial_slots
  if num_slots is None:
    num_slots = default if given is None else given.shape[-2]
  if num_slots < 1:
    raise ValueError(f"Expected num_slots >= 1, got {num_slots}.")
  return num_slots


def check_shapes(
  shape: tuple[int, int, int], **given: jax.Array | None
) -> None:
  """Raises ValueError unless arrays, by their names, are None or [B, K, D]."""
  for name, array in given.items():
    if array is not None and array.shape != shape:
      raise ValueError(
        f"Expected {name} [B, K, D] = {shape}, got {array.shape}."
      )
