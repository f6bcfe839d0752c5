import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention_jax.data import types

LAYOUT = types.PropertyLayout(
  name="toys",
  properties=(
    types.Property("kind", 3, "categorical", labels=("a", "b", "c")),
    types.Property("coords", 2, "continuous", low=-1.0, high=3.0),
    types.Property("confidence", 1, "confidence"),
    types.Property("hue", 1, "continuous", low=0.0, high=10.0),
  ),
)
VALUES = {
  "kind": np.array([[2, 0]]),
  "coords": np.array([[[-1.0, 3.0], [0.0, 1.0]]]),
  "hue": np.array([[[2.5], [10.0]]]),
}
VECTORS = [[0, 0, 1, 0, 1, 1, 0.25], [1, 0, 0, 0.25, 0.5, 1, 1]]


def test_encode_by_hand():
  got = LAYOUT.encode(VALUES, np.array([[True, True]]))
  assert isinstance(got, np.ndarray)
  assert got.dtype == np.float32
  np.testing.assert_allclose(got, [VECTORS], atol=1e-7)
  padded = LAYOUT.encode(VALUES, np.array([[1, 0]]))
  np.testing.assert_allclose(padded, [[VECTORS[0], [0] * 7]], atol=1e-7)


def test_encode_under_jit():
  real = jnp.array([[True, False]])
  got = jax.jit(LAYOUT.encode)(VALUES, real)
  assert isinstance(got, jax.Array)
  np.testing.assert_allclose(got[0], [VECTORS[0], [0] * 7], atol=1e-6)


def test_decode_is_the_inverse():
  got = LAYOUT.decode(LAYOUT.encode(VALUES, np.array([[True, True]])))
  assert set(got) == {*VALUES, "confidence"}
  for name, value in VALUES.items():
    np.testing.assert_allclose(got[name], value, atol=1e-6)
  np.testing.assert_array_equal(got["confidence"], [[1, 1]])


def test_slices_cover_the_vector():
  assert LAYOUT.size == 7
  assert LAYOUT.slice("kind") == slice(0, 3)
  assert LAYOUT.slice("coords") == slice(3, 5)
  assert LAYOUT.slice("confidence") == slice(5, 6)
  assert LAYOUT.slice("hue") == slice(6, 7)
  assert [p.name for p in LAYOUT.of_kind("continuous")] == ["coords", "hue"]
  assert LAYOUT.confidence.name == "confidence"
  assert LAYOUT["hue"].high == 10


def test_clevr_layout_matches_reference():
  layout = types.CLEVR_LAYOUT
  assert layout.size == 19
  assert [(p.name, p.size) for p in layout.properties] == [
    ("coords", 3),
    ("size", 2),
    ("material", 2),
    ("shape", 3),
    ("color", 8),
    ("confidence", 1),
  ]
  assert (layout["coords"].low, layout["coords"].high) == (-3, 3)


def test_values_and_vectors_of_wrong_shape_are_errors():
  with pytest.raises(ValueError, match=r"'coords', 'hue', 'kind'\], got"):
    LAYOUT.encode({"kind": VALUES["kind"]}, np.array([[True, True]]))
  with pytest.raises(ValueError, match=r"'size'\]"):
    LAYOUT.encode(VALUES | {"size": VALUES["kind"]}, np.array([[1, 1]]))
  with pytest.raises(ValueError, match=r"\[..., 7\], got \(2, 6\)"):
    LAYOUT.decode(np.zeros((2, 6)))
  with pytest.raises(KeyError, match="no property 'size'"):
    LAYOUT.slice("size")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (("a", 1, "number"), "got 'number'"),
    (("a", 0, "continuous"), "size of at least 1.*got 0"),
    (("a", 2, "confidence"), "exactly 1 for a confidence, got 2"),
    (("a", 1, "continuous", 2.0, 2.0), r"low < high, got \[2.0, 2.0\]"),
    (("a", 2, "categorical", 0.0, 1.0, ("x",)), "expected 2 labels, got 1"),
  ],
)
def test_bad_properties(arguments, message):
  with pytest.raises(ValueError, match=message):
    types.Property(*arguments)


def test_bad_layouts():
  coords = types.Property("coords", 2, "continuous")
  kind = types.Property("kind", 2, "categorical")
  confidence = types.Property("confidence", 1, "confidence")
  with pytest.raises(ValueError, match="names repeat"):
    types.PropertyLayout("x", (coords, coords, confidence))
  with pytest.raises(ValueError, match="exactly 1 confidence"):
    types.PropertyLayout("x", (coords, kind))
  with pytest.raises(ValueError, match="'kind' must be continuous"):
    types.PropertyLayout("x", (coords, kind, confidence), position="kind")
  with pytest.raises(KeyError, match="no property 'coords'"):
    types.PropertyLayout("x", (kind, confidence))
