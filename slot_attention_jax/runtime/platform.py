"""Which form of a computation a program gets, by the platform it runs on."""

from collections.abc import Callable
from typing import Any

import jax


def dependent(
  *args: Any, default: Callable[..., Any], **per_platform: Callable[..., Any]
) -> Any:
  """`jax.lax.platform_dependent`, which traces one form where it can.

  Tracing a form and its gradient for a platform that never runs it took a third
  of the time of tracing a train step. Under `jax.set_mesh` the platform is that
  of the mesh, so that only its form is traced. To lower for other platforms,
  trace without a mesh, or as `mesh.under_mesh` does.

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
  device = jax.sharding.get_abstract_mesh().abstract_device
  if device is None:
    return jax.lax.platform_dependent(*args, default=default, **per_platform)
  return per_platform.get(device.platform, default)(*args)
