"""A safetensors file of parameters that says which model they belong to.

The arrays have the paths of the Flax tree as names, `params/encoder/...`. The
header's `__metadata__` has the entry `slot_attention_jax`: JSON of a
`WeightsMetadata` and a checksum of the arrays; and the SHA-256 of this entry,
which files of earlier versions lack.

References:
  github.com/huggingface/safetensors, section "Format".
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from slot_attention_jax import models
from slot_attention_jax.data import types
from slot_attention_jax.models import from_config
from slot_attention_jax.pretrained import weights_metadata
from slot_attention_jax.runtime import arrays as arrays_lib
from slot_attention_jax.runtime import files, storage
from slot_attention_jax.runtime import shapes as shapes_lib

# safetensors is imported where it is used: training does not need it.
_ENTRY = "slot_attention_jax"
_ENTRY_SHA256 = f"{_ENTRY}.sha256"
# Of a header and of a file: far more than any model of this package has. The
# lengths in a file are not believed before they are compared with its size.
_MOST_HEADER_BYTES = 16 * 2**20
_MOST_BYTES = 4 * 2**30
_WHAT_TO_DO = (
  "Install the package again, or write the file again with "
  "python -m slot_attention_jax.export_weights."
)

WeightsMetadata = weights_metadata.WeightsMetadata


def save_weights(
  path: str | os.PathLike[str],
  params: Mapping[str, Any],
  metadata: WeightsMetadata,
) -> None:
  """Writes parameters and metadata to a file.

  Args:
    path: the file; an existing one is replaced, whole or not at all.
    params: `{"params": ...}`, nested dicts of float32 arrays.
    metadata: describes them.

  Raises:
    ValueError: if the parameters are not those of the model of the metadata.
  """
  import safetensors.numpy

  path = storage.to_path(path)
  arrays = _by_name(params)
  _check_arrays(metadata, arrays, path)
  content = dataclasses.asdict(metadata)
  content = {
    weights_metadata.FILE_KEYS.get(k, k): v for k, v in content.items()
  }
  content["sha256"] = _checksum(arrays)
  text = json.dumps(content, allow_nan=False)
  with files.atomic_write(path) as temporary:
    header = {_ENTRY: text, _ENTRY_SHA256: _sha256(text.encode())}
    temporary.write_bytes(safetensors.numpy.save(arrays, header))


def load_weights(
  path: str | os.PathLike[str],
) -> tuple[
  models.SlotAttentionAutoEncoder | models.SlotAttentionClassifier,
  dict[str, dict[str, jax.Array]],
]:
  """Loads a trained model from a file of `export_weights`.

  Args:
    path: the file.

  Returns:
    A pair (model, params) as `load_pretrained` gives it.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, or holds other arrays than its model has.
  """
  return load_file(path)


def load_file(
  path: str | os.PathLike[str], check_shapes: bool = True
) -> tuple[
  models.SlotAttentionAutoEncoder | models.SlotAttentionClassifier,
  dict[str, dict[str, jax.Array]],
]:
  """As `load_weights`, for files too whose shapes are known to be right.

  Args:
    path: the file.
    check_shapes: whether to trace the model, to compare its shapes.

  Returns:
    A pair as of `load_weights`; errors are those of it, too.
  """
  import safetensors.numpy

  path = pathlib.Path(path)
  metadata, checksum = _read_header(path)
  try:
    arrays = safetensors.numpy.load_file(path)
  except (safetensors.SafetensorError, ValueError, TypeError) as error:
    raise _damaged(path, error) from error
  if check_shapes:
    model = _check_arrays(metadata, arrays, path)
  else:
    model = metadata.create_model()
  if _checksum(arrays) != checksum:
    raise _damaged(
      path, "the checksum of the arrays is not the one in the header"
    )
  params = traverse_util.unflatten_dict(arrays, sep="/")
  # In one call: `jnp.asarray` compiles a program for every shape.
  return model, jax.device_put(params)


def parameters_checksum(params: Mapping[str, Any]) -> str:
  """SHA-256 of parameters, which says whether two models are the same.

  Args:
    params: `{"params": ...}`, nested dicts of arrays.

  Returns:
    The digest of their names and bytes, in hexadecimal; that of a file of
    weights is in its header.

  Example:
    >>> import slot_attention_jax as sa
    >>> from slot_attention_jax.pretrained import weights_file
    >>> _, params = sa.load_pretrained("quickstart")
    >>> len(weights_file.parameters_checksum(params))
    64
  """
  return _checksum(_by_name(params))


def with_model_of(config: Any, metadata: WeightsMetadata) -> Any:
  """A copy of a config that has the task, model and image size of weights."""
  config = config.copy_and_resolve_references()
  config.task, config.data.resolution = (
    metadata.task,
    tuple(metadata.resolution),
  )
  for key, value in from_config.current_settings(metadata.model).items():
    if key in config.model:  # A later version's is off: see check_settings.
      config.model[key] = tuple(value) if isinstance(value, list) else value
  return config


def check_sha256(path: pathlib.Path, expected: str) -> None:
  """Raises ValueError unless a whole file has this SHA-256."""
  if _sha256(path.read_bytes()) != expected:
    raise _damaged(path, "its SHA-256 is not the one of this version")


def read_weights_metadata(path: str | os.PathLike[str]) -> WeightsMetadata:
  """Reads the metadata of a file of weights; errors as in `load_weights`."""
  return _read_header(pathlib.Path(path))[0]


def _read_header(path: pathlib.Path) -> tuple[WeightsMetadata, str]:
  """The metadata and the checksum of the arrays."""
  import safetensors

  if not path.is_file():
    raise FileNotFoundError(
      f"Expected a file of weights, found no {path}. Check the path."
    )
  _check_size(path)
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      header = file.metadata() or {}
  except safetensors.SafetensorError as error:
    raise _damaged(path, error) from error
  if _ENTRY not in header:
    raise ValueError(
      f"Expected the entry {_ENTRY!r} in the metadata of {path}, got "
      f"{sorted(header)}: another program wrote it. {_WHAT_TO_DO}"
    )
  # Of the text as it is: in other words it may still be JSON.
  expected = header.get(_ENTRY_SHA256)
  if expected not in (None, _sha256(header[_ENTRY].encode())):
    raise _damaged(path, "the checksum of its metadata is another one")
  try:
    content = json.loads(header[_ENTRY])
    checksum = content.pop("sha256")
    if content["layout"] is not None:
      content["layout"] = types.layout_from_dict(content["layout"])
    content["resolution"] = tuple(content["resolution"])
    content = {weights_metadata.FIELDS.get(k, k): v for k, v in content.items()}
    content.setdefault("crop", _crop_of_older(content))
    return WeightsMetadata(**content), checksum
  except (
    KeyError,
    TypeError,
    AttributeError,
    ValueError,
    RecursionError,
  ) as error:
    names = [field.name for field in dataclasses.fields(WeightsMetadata)]
    names = [weights_metadata.FILE_KEYS.get(name, name) for name in names]
    raise ValueError(
      f"Expected the metadata of {path} to be JSON with {names}, got "
      f"something else ({type(error).__name__}: {error}). {_WHAT_TO_DO}"
    ) from error


def _crop_of_older(content: Mapping[str, Any]) -> str | None:
  """The crop of weights whose file does not say it: that of their command."""
  given = re.search(r"\bdata\.crop=['\"]?(\w*)", content["command"])
  if given and given[1] != "auto":
    return given[1] or None
  if content["data"].startswith("folder:"):
    return "center"
  clevr = content["data"].startswith("clevr")
  return "paper" if clevr and content["task"] == "discovery" else None


def _check_size(path: pathlib.Path) -> None:
  """Raises ValueError unless the lengths that a file claims fit its size."""
  size = path.stat().st_size
  with path.open("rb") as file:
    length = int.from_bytes(file.read(8), "little")
  if size > _MOST_BYTES:
    raise _damaged(path, f"it has {size:,} bytes, more than {_MOST_BYTES:,}")
  if not 2 <= length <= min(_MOST_HEADER_BYTES, size - 8):
    raise _damaged(
      path, f"it claims a header of {length:,} bytes and has {size:,}"
    )


def _check_arrays(
  metadata: WeightsMetadata,
  arrays: Mapping[str, np.ndarray],
  path: storage.Path,
) -> models.SlotAttentionAutoEncoder | models.SlotAttentionClassifier:
  """Builds the model; raises ValueError if the arrays do not fit it."""
  try:
    shapes = {name: array.shape for name, array in arrays.items()}
    weights_metadata.check_settings(metadata, shapes)
    model = metadata.create_model()
    keys = {"params": jax.random.key(0), "slots": jax.random.key(1)}
    images = jax.ShapeDtypeStruct((1, *metadata.resolution, 3), jnp.float32)
    expected = shapes_lib.of(model.init, keys, images)
    expected = traverse_util.flatten_dict(expected, sep="/")
    arrays_lib.check_arrays(expected, arrays, where=str(path))
  except ValueError as error:
    raise ValueError(f"{error} {_WHAT_TO_DO}") from error
  return model


def _by_name(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The arrays on the host by their paths, as files have them."""
  arrays = traverse_util.flatten_dict(jax.device_get(params), sep="/")
  return {str(k): np.ascontiguousarray(v) for k, v in arrays.items()}


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
  """SHA-256 of names and bytes: safetensors does not notice a flipped bit."""
  digest = hashlib.sha256()
  for name in sorted(arrays):
    digest.update(f"{name}\n".encode())
    digest.update(arrays[name].tobytes())
  return digest.hexdigest()


def _sha256(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()


def _damaged(path: pathlib.Path, reason: object) -> ValueError:
  return ValueError(
    f"Expected an intact safetensors file, got {path}, which cannot be read: "
    f"{reason}. {_WHAT_TO_DO}"
  )
