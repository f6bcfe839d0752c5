"""What a function depends on, in a digest that is the same in every process."""

import dataclasses
import enum
import functools
import hashlib
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

PACKAGES = (
  *("slot_attention_jax", "jax", "jaxlib", "flax", "optax"),
  *("numpy", "ml_dtypes"),
)
"""Whose code a digest names, and does not look into."""
_KNOWN = frozenset((*PACKAGES, *sys.stdlib_module_names)) - {"__main__"}
# Of these, what repr says is all there is.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))
_MOST_BYTES = 1 << 24


class UnknownError(ValueError):
  """A value that no digest covers."""


def of(*values: Any) -> str:
  """A digest of values, of functions with all that they close over.

  Functions, classes and modules of `PACKAGES` and of Python are named, and
  those within others are named with their line and instructions: their code is
  covered by what names the versions of the packages
  (`surroundings.describe`). Their defaults, closures and bound arguments are
  looked into, and so are the fields of dataclasses, of linen modules and of
  other objects of these packages. Arrays count with all their bytes.

  What changes while a program runs without being any of this is not covered:
  variables of modules and attributes of classes.

  Args:
    *values: anything.

  Returns:
    A SHA-256, 64 digits.

  Raises:
    UnknownError: if a value is, or holds, what cannot be covered: functions and
      objects of other packages, functions of `jax.jit` that are not a
      module's, arrays of more than 16 MiB.

  Example:
    >>> from slot_attention_jax.runtime import fingerprint
    >>> fingerprint.of([1.5, "a"]) == fingerprint.of([1.5, "a"])
    True
    >>> fingerprint.of(lambda x: x)
    Traceback (most recent call last):
      ...
    slot_attention_jax.runtime.fingerprint.UnknownError: Expected only code ...
  """
  return _Digests().of(values).hex()


class _Digests:
  """Digests of objects, each of which is looked into once."""

  def __init__(self):
    self._done: dict[int, bytes] = {}
    self._open: dict[int, int] = {}  # Depths, of those that hold this one.
    self._alive: list[Any] = []  # So that no other object gets their ids.

  def of(self, value: Any) -> bytes:
    if type(value) in _PLAIN:
      return _hash(type(value).__name__, repr(value))
    if id(value) in self._done:
      return self._done[id(value)]
    if id(value) in self._open:
      return _hash("holds itself, at depth", self._open[id(value)])
    self._alive.append(value)
    self._open[id(value)] = len(self._open)
    text, held = _describe(value)
    digests = [self.of(x) for x in held]
    if isinstance(value, set | frozenset):
      digests.sort()
    del self._open[id(value)]
    self._done[id(value)] = _hash(type(value).__name__, text, *digests)
    return self._done[id(value)]


def _hash(*parts: Any) -> bytes:
  """SHA-256 of parts, which no other parts have."""
  digest = hashlib.sha256()
  for part in parts:
    data = part if isinstance(part, bytes) else str(part).encode()
    digest.update(b"%d:" % len(data))
    digest.update(data)
  return digest.digest()


def _describe(value: Any) -> tuple[str, Iterable[Any]]:
  """A value in words, and the values that it holds."""
  if name := _global_name(value):
    return name, ()
  for describe in (_container, _function, _array, _placement, _object):
    found = describe(value)
    if found is not None:
      return found
  raise UnknownError(f"Expected values that can be covered, got {value!r}.")


def _known(module: Any) -> str:
  """The name of a module, if its code is covered."""
  if not isinstance(module, str) or module.split(".")[0] not in _KNOWN:
    raise UnknownError(
      f"Expected only code of {PACKAGES} and of Python, got some of {module!r}."
    )
  return module


def _class(kind: type) -> str:
  return f"{_known(kind.__module__)}:{kind.__qualname__}"


def _global_name(value: Any) -> str | None:
  """The name by which a module of the packages has it; None if none has."""
  if isinstance(value, types.ModuleType):
    return _known(value.__name__)
  module = getattr(value, "__module__", None)
  name = getattr(value, "__qualname__", None)
  if not isinstance(module, str) or not isinstance(name, str):
    return None
  if module.split(".")[0] not in _KNOWN:
    return None
  found = sys.modules.get(module)
  for part in name.split("."):
    found = getattr(found, part, None)
  return f"{module}:{name}" if found is value else None


def _container(value):
  kind: Any = type(value)
  if kind in (tuple, list, set, frozenset):
    return f"{len(value)} values", value
  if isinstance(value, tuple) and hasattr(value, "_fields"):
    return _class(kind), tuple(value)
  if isinstance(value, Mapping):
    return _class(kind), [x for item in value.items() for x in item]
  return None


def _function(value):
  if isinstance(value, types.FunctionType):
    code = value.__code__
    module = _known(value.__globals__.get("__name__"))
    # Code that is run with the variables of a module need not be of its file.
    if code.co_filename != getattr(sys.modules.get(module), "__file__", None):
      raise UnknownError(f"Expected only code of files, got {value!r}.")
    name = f"{module}:{code.co_qualname}:{code.co_firstlineno}"
    held = [
      _instructions(code),
      value.__defaults__,
      value.__kwdefaults__,
      *map(_content, value.__closure__ or ()),
    ]
    others = {k: v for k, v in vars(value).items() if k != "__wrapped__"}
    return name, [*held, others]
  if isinstance(value, types.MethodType):
    return "method", (value.__self__, value.__func__)
  if type(value) is functools.partial:
    return "partial", (value.func, value.args, value.keywords)
  if isinstance(value, functools._lru_cache_wrapper):
    return "cached", (value.__wrapped__,)
  return None


def _instructions(code):
  """What distinguishes functions of one line."""
  constants = [
    _instructions(x)
    if isinstance(x, types.CodeType)
    # Other processes have sets in other orders.
    else sorted(map(repr, x))
    if isinstance(x, frozenset)
    else repr(x)
    for x in code.co_consts
  ]
  return [code.co_code, code.co_names, code.co_freevars, constants]


def _content(cell):
  try:
    return cell.cell_contents
  except ValueError:  # Nothing is in it yet.
    return "empty cell", ...


def _array(value):
  if isinstance(value, np.dtype):
    return str(value), ()
  if isinstance(value, jax.core.Tracer):
    raise UnknownError(f"Expected no values of a transformation, got {value}.")
  if not isinstance(value, np.ndarray | np.generic | jax.Array):
    return None
  if isinstance(value, np.ma.MaskedArray):
    raise UnknownError(f"Expected no masked arrays, got {value!r}.")
  if isinstance(value, jax.Array):
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
      return str(value.dtype), (jax.random.key_data(value), value.sharding)
    where = value.sharding, value.committed, value.weak_type
  else:
    where = ()
  if value.nbytes > _MOST_BYTES or value.dtype.hasobject:
    raise UnknownError(f"Expected no large arrays, got {value.nbytes} bytes.")
  data = hashlib.sha256(np.asarray(value).tobytes()).hexdigest()
  return f"{value.dtype} {value.shape} {data}", where


def _placement(value):
  """Devices, and how arrays lie on them."""
  if isinstance(value, jax.Device):
    kind = value.device_kind
    return f"{value.platform} {value.id} {value.process_index} {kind}", ()
  if isinstance(value, jax.sharding.Mesh):
    devices = value.devices
    held = (*devices.flat, *value.axis_names, *value.axis_types)
    return f"{devices.shape}", held
  if isinstance(value, jax.sharding.NamedSharding):
    return "", (value.mesh, value.spec, value.memory_kind)
  if isinstance(value, jax.sharding.SingleDeviceSharding):
    return "", (*value.device_set, value.memory_kind)
  if isinstance(value, jax.sharding.PartitionSpec | jax.sharding.AbstractMesh):
    return repr(value), ()
  return None


def _object(value):
  kind = type(value)
  name = _class(kind)
  if isinstance(value, enum.Enum):
    return f"{name}.{value.name}", ()
  if isinstance(value, type):  # Within a function, or another module's.
    return None
  if hasattr(kind, "fingerprint_parts"):
    return name, value.fingerprint_parts()
  if isinstance(value, nn.Module):
    held = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if held.pop("parent", None) is not None or value.scope is not None:
      raise UnknownError(f"Expected modules that are not bound, got {name}.")
    return name, (held,)
  # All that others are made of is in __dict__, or they cannot be covered.
  if not all(map(_in_python, kind.__mro__)) or not hasattr(value, "__dict__"):
    return None
  return name, (vars(value),)


def _in_python(kind: type) -> bool:
  """Whether a class is written in Python and has no slots."""
  if kind is object:
    return True
  file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
  return file.endswith(".py") and not vars(kind).get("__slots__")
