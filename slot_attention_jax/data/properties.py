"""The properties of an object as a vector of numbers, and its layout."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class Property:
  """One property of an object, a slice of its property vector.

  Attributes:
    name: name of the property, unique within its layout.
    size: how many numbers it takes: dimensions if continuous, classes if
      categorical, 1 for the confidence.
    kind: `"continuous"` (stored scaled to [0, 1]), `"categorical"` (stored
      one-hot) or `"confidence"` (1 for an object, 0 for padding).
    low: value that is stored as 0; continuous only, in the units of the data.
    high: value that is stored as 1; continuous only, in the units of the data.
    labels: names of the classes, in order of their ids; categorical only.
  """

  name: str
  size: int
  kind: Literal["continuous", "categorical", "confidence"]
  low: float = 0.0
  high: float = 1.0
  labels: tuple[str, ...] = ()

  def __post_init__(self):
    if self.kind not in ("continuous", "categorical", "confidence"):
      raise ValueError(
        f"Property {self.name!r}: expected kind continuous, categorical or "
        f"confidence, got {self.kind!r}."
      )
    if self.size < 1 or (self.kind == "confidence" and self.size != 1):
      raise ValueError(
        f"Property {self.name!r}: expected a size of at least 1, and exactly 1 "
        f"for a confidence, got {self.size}."
      )
    if self.labels and len(self.labels) != self.size:
      raise ValueError(
        f"Property {self.name!r}: expected {self.size} labels, got "
        f"{len(self.labels)}."
      )
    if self.kind == "continuous" and not self.high > self.low:
      raise ValueError(
        f"Property {self.name!r}: expected low < high, got "
        f"[{self.low}, {self.high}]."
      )


@dataclasses.dataclass(frozen=True)
class PropertyLayout:
  """Order and meaning of the P numbers that describe one object.

  The layout travels with the dataset: the width of the set predictor's output,
  the targets, the matching of average precision and the printed predictions
  all read it.

  Attributes:
    name: name of the layout, for messages.
    properties: the properties in the order of the vector.
    position: name of the continuous property whose Euclidean distance decides
      a hit in average precision.

  Example:
    >>> import numpy as np
    >>> from slot_attention_jax.data import properties
    >>> layout = properties.CLEVR_LAYOUT
    >>> layout.size
    19
    >>> layout.slice("shape")
    slice(7, 10, None)
    >>> target = layout.encode(
    ...   {"coords": np.zeros((1, 3)), "size": np.array([1]),
    ...    "material": np.array([0]), "shape": np.array([2]),
    ...    "color": np.array([5])}, real=np.array([True]))
    >>> target.shape
    (1, 19)
    >>> int(layout.decode(target)["color"][0])
    5
  """

  name: str
  properties: tuple[Property, ...]
  position: str = "coords"

  def __post_init__(self):
    names = [p.name for p in self.properties]
    if len(set(names)) != len(names):
      raise ValueError(f"Layout {self.name!r}: property names repeat: {names}.")
    if [p.kind for p in self.properties].count("confidence") != 1:
      raise ValueError(f"Layout {self.name!r}: expected exactly 1 confidence.")
    if self[self.position].kind != "continuous":
      raise ValueError(
        f"Layout {self.name!r}: position {self.position!r} must be continuous."
      )

  def __getitem__(self, name: str) -> Property:
    for prop in self.properties:
      if prop.name == name:
        return prop
    raise KeyError(
      f"Layout {self.name!r} has no property {name!r}; it has "
      f"{[p.name for p in self.properties]}."
    )

  @property
  def size(self) -> int:
    """P, the length of the property vector."""
    return sum(p.size for p in self.properties)

  @property
  def confidence(self) -> Property:
    """The property that says whether a row is an object."""
    return next(p for p in self.properties if p.kind == "confidence")

  def slice(self, name: str) -> slice:
    """Where property `name` lies in the vector; KeyError if unknown."""
    self[name]
    start = 0
    for prop in self.properties:
      if prop.name == name:
        break
      start += prop.size
    return slice(start, start + self[name].size)

  def of_kind(self, kind: str) -> tuple[Property, ...]:
    """The properties of one kind, in order."""
    return tuple(p for p in self.properties if p.kind == kind)

  def encode(self, values: Mapping[str, Array], real: Array) -> Array:
    """Builds property vectors from values in the units of the data.

    Works on NumPy arrays (returns NumPy) and on JAX arrays, also under jit.

    Args:
      values: for each continuous property [..., O, size], for each categorical
        one integer ids [..., O]. The confidence is made from `real`.
      real: [..., O] bool or 0/1, True where there is an object.

    Returns:
      [..., O, P] float32; rows that are not real are all zeros.

    Raises:
      ValueError: if a property is missing or one is not in the layout.
    """
    expected = {p.name for p in self.properties if p.kind != "confidence"}
    if set(values) != expected:
      raise ValueError(
        f"Layout {self.name!r}: expected values for {sorted(expected)}, got "
        f"{sorted(values)}."
      )
    xp: Any = jnp if isinstance(real, jax.Array) else np
    real = xp.asarray(real, dtype=bool)[..., None]  # [..., O, 1]
    columns = []
    for prop in self.properties:
      if prop.kind == "confidence":
        columns.append(xp.asarray(real, dtype=np.float32))
      elif prop.kind == "categorical":
        ids = xp.asarray(values[prop.name])[..., None]  # [..., O, 1]
        classes = xp.arange(prop.size).reshape((1,) * (ids.ndim - 1) + (-1,))
        columns.append((ids == classes).astype(np.float32))
      else:
        value = xp.asarray(values[prop.name], dtype=np.float32)
        scale = np.float32(prop.high - prop.low)
        columns.append((value - np.float32(prop.low)) / scale)
    vector = xp.concatenate(columns, axis=-1)  # [..., O, P]
    return xp.where(real, vector, np.float32(0)).astype(np.float32)

  def decode(self, vectors: Array) -> dict[str, Array]:
    """Reads property vectors back into the units of the data.

    Args:
      vectors: [..., P] targets or predictions in [0, 1].

    Returns:
      A dict with, for each continuous property, [..., size] float32 in its
      units; for each categorical one the most likely id [...], int; and the
      confidence [...] in [0, 1].

    Raises:
      ValueError: if the last axis is not P long.
    """
    if vectors.shape[-1] != self.size:
      raise ValueError(
        f"Layout {self.name!r}: expected vectors [..., {self.size}], got "
        f"{vectors.shape}."
      )
    out = {}
    for prop in self.properties:
      part = vectors[..., self.slice(prop.name)]
      if prop.kind == "continuous":
        out[prop.name] = part * (prop.high - prop.low) + prop.low
      elif prop.kind == "categorical":
        out[prop.name] = part.argmax(axis=-1)
      else:
        out[prop.name] = part[..., 0]
    return out


def layout_from_dict(content: Mapping[str, Any]) -> PropertyLayout:
  """Makes a layout from what `dataclasses.asdict` gave, also by way of JSON.

  Args:
    content: fields by name; lists stand for tuples.

  Returns:
    The layout.

  Raises:
    ValueError: on other fields than those of a layout, and as the constructors.

  Example:
    >>> import dataclasses, json
    >>> from slot_attention_jax.data import properties
    >>> text = json.dumps(dataclasses.asdict(properties.CLEVR_LAYOUT))
    >>> properties.layout_from_dict(json.loads(text)) == properties.CLEVR_LAYOUT
    True
  """
  try:
    properties = tuple(
      Property(**{**fields, "labels": tuple(fields["labels"])})
      for fields in content["properties"]
    )
    return PropertyLayout(**{**content, "properties": properties})
  except (KeyError, TypeError) as error:
    raise ValueError(
      "Expected the fields of a PropertyLayout and its properties, got others "
      f"({type(error).__name__}: {error}). Take them from dataclasses.asdict."
    ) from error


CLEVR_LAYOUT = PropertyLayout(
  name="clevr",
  properties=(
    Property("coords", 3, "continuous", low=-3.0, high=3.0),
    Property("size", 2, "categorical", labels=("small", "large")),
    Property("material", 2, "categorical", labels=("rubber", "metal")),
    Property("shape", 3, "categorical", labels=("cube", "sphere", "cylinder")),
    Property(
      "color",
      8,
      "categorical",
      labels=(
        "gray",
        "blue",
        "brown",
        "yellow",
        "red",
        "green",
        "purple",
        "cyan",
      ),
    ),
    Property("confidence", 1, "confidence"),
  ),
)
"""CLEVR's 19 numbers in the order of the reference's `preprocess_clevr`."""
