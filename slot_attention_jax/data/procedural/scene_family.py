"""What a family of synthetic scenes is: a distribution that can be rendered."""

from typing import Any, ClassVar, Protocol

import flax.struct
import jax

from slot_attention_jax.data import types


@flax.struct.dataclass
class Rendering:
  """An image of a scene with its ground truth.

  Attributes:
    image: [H, W, 3] in [-1, 1].
    segmentation: [H, W] int32, 0 background, i for object i (from 1).
    visibility: [O] int32, number of visible pixels of each object.
  """

  image: jax.Array
  segmentation: jax.Array
  visibility: jax.Array


class SceneFamily(Protocol):
  """A distribution of scenes. All methods are pure and work under jit and vmap.

  Attributes:
    layout: layout of the targets.
    resolution: default resolution (H, W); the family renders at any other, too.
    version: of the images, 1 at first. Raise it when the same key gives another
      image: a run that is resumed then says so.
  """

  layout: ClassVar[types.PropertyLayout]
  resolution: ClassVar[tuple[int, int]]
  version: ClassVar[int]

  @property
  def name(self) -> str:
    """Name of the data, distinct for each variant of a family."""
    ...

  @property
  def max_objects(self) -> int:
    """O, the number of rows of the targets."""
    ...

  def sample(self, key: jax.Array) -> Any:
    """Samples a scene, a pytree of object properties of static shapes."""
    ...

  def render(self, scene: Any, resolution: tuple[int, int]) -> Rendering:
    """Renders a scene."""
    ...

  def targets(self, scene: Any) -> jax.Array:
    """Property vectors [O, P] of a scene."""
    ...

  def describe(
    self, scene: Any, resolution: tuple[int, int]
  ) -> dict[str, jax.Array]:
    """Describes the objects with the names and units of the original data.

    Args:
      scene: the scene.
      resolution: (H, W) of the image that pixel coordinates refer to.

    Returns:
      Arrays [O, ...], float32 or int32 class ids, by the feature names of
      `multi_object_datasets`; and `present` [O] bool, False for padding.
    """
    ...


def check_resolution(resolution: tuple[int, int]) -> None:
  """Raises ValueError unless `resolution` is two sizes of at least 1."""
  if len(resolution) != 2 or min(resolution) < 1:
    raise ValueError(
      f"Expected a resolution (H, W) of at least (1, 1), got {resolution}."
    )
