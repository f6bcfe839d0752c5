"""Which form of a computation a program gets, by the platform it runs on."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax

# JAX keeps what it traced in one of these contexts apart from what it traces in
# another, which a variable of this module would not make it do.
_only = jax.make_user_context(default_value=None)


def only(name: str) -> contextlib.AbstractContextManager[None]:
  """A context in which programs are traced for one platform alone.

  Args:
    name: of the platform, as devices have it.

  Returns:
    The context.

  Example:
    >>> from slot_attention_jax.runtime import platform
    >>> with platform.only("tpu"):
    ...   platform.traced_for()
    'tpu'
  """
  return _only(name)


def traced_for() -> str | None:
  """The platform of the context `only`; None outside of it."""
  return _only.value


def dependent(
  *args: Any, default: Callable[..., Any], **per_platform: Callable[..., Any]
) -> Any:
  """`jax.lax.platform_dependent`, which traces one form where it can.

  Tracing a form and its gradient for a platform that never runs it took a third
  of the time of tracing a train step. In the context `only`, where the
  functions of `mesh.under_mesh` run, only the form for its platform is traced.
  A mesh in the context does not tell the platform: with it, too, a program may
  be exported for another one.

  Args:
    *args: arrays, or pytrees of them.
    default: function of `args`, for a platform that is not named.
    **per_platform: functions of `args` by `"cpu"` or `"tpu"`.

  Returns:
    What the function for the platform returns.

  Example:
    >>> import jax
    >>> from slot_attention_jax.runtime import platform
    >>> double = lambda x: 2 * x
    >>> float(platform.dependent(1.5, default=double, tpu=abs))
    3.0
  """
  name = traced_for()
  if name is None:
    return jax.lax.platform_dependent(*args, default=default, **per_platform)
  return per_platform.get(name, default)(*args)
