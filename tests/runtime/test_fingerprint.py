import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import slot_attention_jax as sa
from slot_attention_jax.runtime import fingerprint
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import optimizers


@pytest.fixture
def covering_tests(monkeypatch):
  """This file counts as one of the packages whose code is covered."""
  known = fingerprint._KNOWN | {"tests"}
  monkeypatch.setattr(fingerprint, "_KNOWN", known)


def scaled(factor):
  def scale(x, offset=0.0):
    return factor * x + offset

  return scale


class Settings:
  def __init__(self, rate):
    self.rate = rate

  def scale(self, x):
    return self.rate * x


class Slotted:
  __slots__ = ("rate",)


@pytest.mark.usefixtures("covering_tests")
@pytest.mark.parametrize(
  "make",
  [
    scaled,
    lambda x: functools.partial(max, x),
    lambda x: Settings(x).scale,
    lambda x: functools.lru_cache(scaled(x)),
    lambda x: {"a": [x]},
    lambda x: (frozenset((1, x)), 2),
    lambda x: np.full((2, 3), x),
    lambda x: jnp.full((2, 3), x),
    lambda x: jax.random.key(int(x)),
    lambda x: optax.adam(x),
    lambda x: sa.SlotAttention(num_slots=int(x), slot_size=8),
    lambda x: optimizers.warmup_cosine_decay(x, warmup_steps=1, decay_steps=2),
  ],
)
def test_equal_values_have_equal_digests_and_others_have_others(make):
  assert fingerprint.of(make(2.0)) == fingerprint.of(make(2.0))
  assert fingerprint.of(make(2.0)) != fingerprint.of(make(3.0))


@pytest.mark.parametrize(
  "values",
  [
    (1, 1.0, True, "1", b"1", [1], (1,), {1}, {1: 1}),
    (0.0, -0.0),
    (["ab", "c"], ["a", "bc"], ["abc"]),
    (np.float32(1), np.float64(1), np.ones(1), np.ones((1, 1))),
    (jnp.float32, jnp.bfloat16, np.dtype("bfloat16"), np.dtype("float16")),
    (jax.nn.relu, jax.nn.gelu, jnp.sin, np.sin),
  ],
)
def test_values_of_other_kinds_have_other_digests(values):
  assert len({fingerprint.of(x) for x in values}) == len(values)


def test_shardings_and_devices_count():
  mesh = mesh_lib.create_mesh()
  one = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
  values = [mesh_lib.replicated(m) for m in (mesh, one)]
  values.append(mesh_lib.batch_sharding(mesh))
  values += [jax.device_put(1.0, d) for d in jax.devices()]
  assert len({fingerprint.of(x) for x in values}) == len(values)


@pytest.mark.usefixtures("covering_tests")
def test_a_value_may_hold_itself():
  values = [1]
  values.append(values)
  assert fingerprint.of(values) == fingerprint.of(values)


@pytest.mark.usefixtures("covering_tests")
def test_functions_of_one_line_have_other_digests():
  code = [
    "lambda x: x + 1, lambda x: x + 2, lambda x: x - 1, lambda x: abs(x)",
    "lambda x: (lambda: x + 1), lambda x: (lambda: x + 2)",
    "lambda x: x in {'a', 'b', 'c'}, lambda x: x in {'a', 'b'}",
  ]
  functions = []
  for line in code:
    # The compiler is told that they are of this file.
    functions += eval(compile(line, __file__, "eval"), globals())
  digests = [fingerprint.of(f) for f in functions]
  assert len(set(digests)) == len(functions)
  again = eval(compile(code[2], __file__, "eval"), globals())
  assert [fingerprint.of(f) for f in again] == digests[-2:]


@pytest.mark.usefixtures("covering_tests")
@pytest.mark.parametrize(
  "value",
  [
    lambda: jax.jit(scaled(2.0)),  # Its options do not show.
    threading.Lock,
    Slotted,
    lambda: np.array([object()]),
    lambda: np.ma.array([1.0], mask=[True]),
    lambda: np.zeros(1 << 25),
    lambda: (x for x in ()),
  ],
)
def test_what_cannot_be_covered_is_an_error(value):
  with pytest.raises(fingerprint.UnknownError, match="Expected"):
    fingerprint.of(value())


def test_code_of_others_cannot_be_covered():
  for value in (scaled(2.0), Settings(1.0), Settings, pytest):
    with pytest.raises(fingerprint.UnknownError, match="Expected"):
      fingerprint.of(value)


def test_code_of_others_does_not_pass_under_another_name():
  wrapped = functools.wraps(jnp.sin)(scaled(2.0))
  assert wrapped.__module__.startswith("jax")
  with pytest.raises(fingerprint.UnknownError, match="'tests"):
    fingerprint.of(wrapped)


def test_values_of_a_transformation_cannot_be_covered():
  def traced(x):
    with pytest.raises(fingerprint.UnknownError, match="transformation"):
      fingerprint.of(x)
    return x

  jax.jit(traced)(1.0)
