"""Files of weights: reading and writing them, and those of the package by name.

A file says which model its arrays belong to and how they were trained.
Checkpoints of runs live in `training`.
"""

import json
import pathlib

import jax

from slot_attention_jax import models
from slot_attention_jax.pretrained import hub, weights_file
from slot_attention_jax.pretrained.hub import push_to_hub
from slot_attention_jax.pretrained.weights_file import (
  WeightsMetadata,
  load_weights,
  read_weights_metadata,
  with_model_of,
)

_DIRECTORY = pathlib.Path(__file__).parent


def pretrained_names() -> tuple[str, ...]:
  """Names of the weights that `load_pretrained` knows, sorted.

  Example:
    >>> import slot_attention_jax as sa
    >>> "quickstart" in sa.pretrained_names()
    True
  """
  return tuple(sorted(p.stem for p in _DIRECTORY.glob("*.safetensors")))


def load_pretrained(
  name: str,
) -> tuple[
  models.SlotAttentionAutoEncoder | models.SlotAttentionClassifier,
  dict[str, dict[str, jax.Array]],
]:
  """Loads a trained model that comes with the package, or from the Hub.

  Args:
    name: one of `pretrained_names()`. The model card `pretrained/<name>.md`
      says how it was trained, on what, and how good it is. Or
      `"hf://owner/name"`, a repository on the Hugging Face Hub that
      `push_to_hub` made (extra `hub`); `"hf://owner/name@revision"` is a
      branch, tag or commit of it.

  Returns:
    A pair (model, params) for `model.apply(params, images, ...)`, images
    [B, H, W, 3] in [-1, 1]; `pretrained_metadata(name).resolution` is (H, W).
    Params are float32, on the default device.

  Raises:
    ValueError: on an unknown name or a damaged file.
    FileNotFoundError: if the Hub has no such repository, or cannot be reached
      and nothing was downloaded before.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import slot_attention_jax as sa
    >>> model, params = sa.load_pretrained("quickstart")
    >>> images = jnp.zeros((1, 28, 28, 3))
    >>> rngs = {"slots": jax.random.key(0)}
    >>> out = jax.jit(model.apply)(params, images, rngs=rngs)
    >>> out.masks.shape
    (1, 5, 28, 28, 1)
  """
  # Tests compare the shapes of those whose digest is known.
  return weights_file.load_file(
    _path_of(name), check_shapes=name not in _known()
  )


def pretrained_metadata(name: str) -> WeightsMetadata:
  """Reads what is known of the weights `name`; errors as in `load_pretrained`.

  Example:
    >>> import slot_attention_jax as sa
    >>> metadata = sa.pretrained_metadata("quickstart")
    >>> metadata.task, metadata.resolution
    ('discovery', (28, 28))
  """
  return read_weights_metadata(_path_of(name))


# Older names.
WeightsFacts = WeightsMetadata
pretrained_facts = pretrained_metadata
read_weights_facts = read_weights_metadata


def _path_of(name: str) -> pathlib.Path:
  if hub.is_hub(name):
    return hub.download(name)
  if name not in pretrained_names():
    raise ValueError(
      f"Expected pretrained weights out of {list(pretrained_names())}, got "
      f"{name!r}. Use load_weights(path) for a file of your own, and "
      "hf://owner/name for the Hugging Face Hub."
    )
  path = _DIRECTORY / f"{name}.safetensors"
  # These were written before files had a checksum of their metadata.
  known = _known()
  if name in known:
    weights_file.check_sha256(path, known[name])
  return path


def _known() -> dict[str, str]:
  """Digests of weights that come with the package, by name."""
  return json.loads((_DIRECTORY / "sha256.json").read_text(encoding="utf-8"))
