"""A safetensors file of parameters that says which model they belong to.

The arrays have the paths of the Flax tree as names, `params/encoder/...`. The
header's `__metadata__` has one entry, `slot_attention_jax`: JSON of a
`WeightsFacts` and a checksum of the arrays.

References:
  github.com/huggingface/safetensors, section "Format".
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from slot_attention_jax import models
from slot_attention_jax.data import types
from slot_attention_jax.models import from_config
from slot_attention_jax.runtime import arrays as arrays_lib

# safetensors is imported where it is used: a training needs none.
_ENTRY = "slot_attention_jax"
_WHAT_TO_DO = (
  "Install the package again, or write the file again with "
  "python -m slot_attention_jax.export_weights."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsFacts:
  """What builds a model, and what is known of its training.

  Attributes:
    task: `"discovery"` or `"set_prediction"`.
    model: the `model` group of the config.
    resolution: (H, W) of the images in training, in pixels.
    layout: meaning of the predictions of a set predictor; None in discovery.
    recipe: flags that make the config of the training.
    data: name of the training data.
    own_scenes: whether these are the package's own rendered scenes.
    seed: of the training.
    updates: updates done.
    planned_updates: updates that the config asks for.
    hardware: what it was trained on.
    minutes: wall time of start, compilation, training and evaluations, without
      pauses of a run that was resumed; None if it is not known.
    evaluation: `num_slots`, `num_iterations`, `num_examples` of the metrics.
    metrics: by full name, data/split/metric.
    date: of the last update, ISO 8601.
    license: SPDX name of the licence of the weights.
    versions: of the packages that trained it, by name.
    notes: what else a user should know, as how it was chosen; may be empty.
  """

  task: str
  model: Mapping[str, Any]
  resolution: tuple[int, int]
  layout: types.PropertyLayout | None
  recipe: str
  data: str
  own_scenes: bool
  seed: int
  updates: int
  planned_updates: int
  hardware: str
  minutes: float | None
  evaluation: Mapping[str, int]
  metrics: Mapping[str, Any]
  date: str
  license: str
  versions: Mapping[str, str]
  notes: str

  def create_model(
    self,
  ) -> models.SlotAttentionAutoEncoder | models.SlotAttentionClassifier:
    """Builds the model; errors as in `model_config.create_model`."""
    return from_config.create_model(
      self.task,
      self.model,
      resolution=self.resolution,
      num_properties=self.layout.size if self.layout else None,
    )


def save_weights(
  path: str | os.PathLike[str], params: Mapping[str, Any], facts: WeightsFacts
) -> None:
  """Writes parameters and facts to a file.

  Args:
    path: the file; one that is there is replaced.
    params: `{"params": ...}`, nested dicts of float32 arrays.
    facts: what they are.

  Raises:
    ValueError: if the parameters are not those of the model of the facts.
  """
  import safetensors.numpy

  path = pathlib.Path(path)
  arrays = traverse_util.flatten_dict(jax.device_get(params), sep="/")
  arrays = {str(k): np.ascontiguousarray(v) for k, v in arrays.items()}
  _check_arrays(facts, arrays, path)
  content = dataclasses.asdict(facts) | {"sha256": _checksum(arrays)}
  text = json.dumps(content, allow_nan=False)
  path.write_bytes(safetensors.numpy.save(arrays, {_ENTRY: text}))


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
  import safetensors.numpy

  path = pathlib.Path(path)
  facts, checksum = _read_header(path)
  try:
    arrays = safetensors.numpy.load_file(path)
  except (safetensors.SafetensorError, ValueError) as error:
    raise _damaged(path, error) from error
  model = _check_arrays(facts, arrays, path)
  if _checksum(arrays) != checksum:
    raise _damaged(path, "the arrays' checksum is another than the header's")
  params = traverse_util.unflatten_dict(arrays, sep="/")
  return model, jax.tree.map(jnp.asarray, params)


def read_weights_facts(path: str | os.PathLike[str]) -> WeightsFacts:
  """Reads what a file says of its weights; errors as in `load_weights`."""
  return _read_header(pathlib.Path(path))[0]


def _read_header(path: pathlib.Path) -> tuple[WeightsFacts, str]:
  """The facts, and the checksum of the arrays."""
  import safetensors

  if not path.is_file():
    raise FileNotFoundError(f"Expected a file of weights, found no {path}.")
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      header = file.metadata() or {}
  except safetensors.SafetensorError as error:
    raise _damaged(path, error) from error
  if _ENTRY not in header:
    raise ValueError(
      f"Expected the entry {_ENTRY!r} in the metadata of {path}, got "
      f"{sorted(header)}: it is of another program. {_WHAT_TO_DO}"
    )
  try:
    content = json.loads(header[_ENTRY])
    checksum = content.pop("sha256")
    if content["layout"] is not None:
      content["layout"] = types.layout_from_dict(content["layout"])
    content["resolution"] = tuple(content["resolution"])
    return WeightsFacts(**content), checksum
  except (KeyError, TypeError, AttributeError, ValueError) as error:
    names = [field.name for field in dataclasses.fields(WeightsFacts)]
    raise ValueError(
      f"Expected the metadata of {path} to be JSON with {names}, got another "
      f"({type(error).__name__}: {error}). {_WHAT_TO_DO}"
    ) from error


def _check_arrays(
  facts: WeightsFacts, arrays: Mapping[str, np.ndarray], path: pathlib.Path
) -> models.SlotAttentionAutoEncoder | models.SlotAttentionClassifier:
  """Builds the model of the facts; ValueError if the arrays are not its."""
  try:
    model = facts.create_model()
    keys = {"params": jax.random.key(0), "slots": jax.random.key(1)}
    images = jax.ShapeDtypeStruct((1, *facts.resolution, 3), jnp.float32)
    expected = jax.eval_shape(model.init, keys, images)
    expected = traverse_util.flatten_dict(expected, sep="/")
    arrays_lib.check_arrays(expected, arrays, where=str(path))
  except ValueError as error:
    raise ValueError(f"{error} {_WHAT_TO_DO}") from error
  return model


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
  """SHA-256 of names and bytes: safetensors does not see a changed bit."""
  digest = hashlib.sha256()
  for name in sorted(arrays):
    digest.update(f"{name}\n".encode())
    digest.update(arrays[name].tobytes())
  return digest.hexdigest()


def _damaged(path: pathlib.Path, reason: object) -> ValueError:
  return ValueError(
    f"Expected a whole safetensors file, got {path}, which cannot be read: "
    f"{reason}. {_WHAT_TO_DO}"
  )
