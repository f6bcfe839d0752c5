"""TensorFlow V2 checkpoints ("tensor bundles") without TensorFlow.

A checkpoint `ckpt-1` is a table `ckpt-1.index` from names to small protobuf
messages (type, shape, where the bytes lie, their checksum), shards
`ckpt-1.data-00000-of-00001` of bytes, and a text file `checkpoint` beside them
that names the latest checkpoint.

References:
  TensorFlow, `core/util/tensor_bundle/tensor_bundle.cc`,
  `python/training/checkpoint_state.proto`.
"""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from slot_attention_jax.interop import sstable, tensor_bundle

ATTRIBUTE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
"""What TensorFlow appends to the path of an object that is a variable."""


def _latest_prefix(path: pathlib.Path) -> pathlib.Path:
  """The path without `.index` of the checkpoint that `path` stands for."""
  if path.name.endswith(".index"):
    path = path.with_name(path.name.removesuffix(".index"))
  if path.is_dir():
    state = path / "checkpoint"
    if state.is_file():
      text = state.read_text(encoding="utf-8", errors="replace")
      match = re.search(r'^\s*model_checkpoint_path:\s*"(.*)"', text, re.M)
      if not match:
        raise ValueError(
          f"{state}: expected a line model_checkpoint_path, got {text[:80]!r}. "
          "Give the path of one checkpoint, such as .../ckpt-1."
        )
      prefix = path / match[1]
      # A moved directory may still hold the absolute path of the old place.
      if pathlib.Path(match[1]).is_absolute() and not _index(prefix).is_file():
        prefix = path / prefix.name
    else:
      indices = sorted(path.glob("*.index"), key=_natural_order)
      if not indices:
        raise FileNotFoundError(
          f"{path}: expected a TensorFlow checkpoint, a file *.index, got "
          f"{sorted(p.name for p in path.iterdir())[:8]}."
        )
      prefix = indices[-1].with_name(indices[-1].name.removesuffix(".index"))
  else:
    prefix = path
  if not _index(prefix).is_file():
    raise FileNotFoundError(
      f"Expected the TensorFlow checkpoint {_index(prefix)}, got no such file. "
      "Give its directory or its path without .index, such as .../ckpt-1."
    )
  return prefix


def _index(prefix: pathlib.Path) -> pathlib.Path:
  return prefix.with_name(prefix.name + ".index")


def _natural_order(path: pathlib.Path) -> list[str | int]:
  """Sorts ckpt-10 after ckpt-9: text and numbers take turns."""
  parts = re.split(r"([0-9]+)", path.name)
  return [int(p) if i % 2 else p for i, p in enumerate(parts)]


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads every numeric tensor of a TensorFlow V2 checkpoint.

  Every checksum is verified. Strings and other entries that are no numbers,
  such as the object graph, are left out.

  Args:
    path: a directory, whose latest checkpoint is read, or the path of one
      checkpoint without `.index`, such as `.../ckpt-1`.

  Returns:
    The tensors by full name, such as
    `network/layer_with_weights-0/slot_attention/slots_mu/.ATTRIBUTES/
    VARIABLE_VALUE`, with the dtypes and shapes of the checkpoint.

  Raises:
    FileNotFoundError: if there is no checkpoint or one of its files is missing.
    ValueError: if a file is truncated, damaged or not of this format, or a
      tensor is partitioned or of a dtype that NumPy does not know.

  Example:
    >>> import tempfile
    >>> import numpy as np
    >>> from slot_attention_jax.interop import tensorflow_checkpoint
    >>> directory = tempfile.mkdtemp()
    >>> tensorflow_checkpoint.write_checkpoint(directory, {"x": np.arange(3)})
    >>> tensorflow_checkpoint.read_checkpoint(directory)
    {'x': array([0, 1, 2])}
  """
  prefix = _latest_prefix(pathlib.Path(path))
  index = _index(prefix)
  try:
    table = sstable.read_table(index.read_bytes())
    num_shards = tensor_bundle.decode_header(table.pop(b"", None))
  except ValueError as error:
    raise ValueError(f"{index}: {error}") from error
  shards: dict[int, bytes] = {}

  def shard(number: int) -> bytes:
    if number >= num_shards:
      raise ValueError(f"Expected a shard below {num_shards}, got {number}.")
    if number not in shards:
      name = f"{prefix.name}.data-{number:05d}-of-{num_shards:05d}"
      file = prefix.with_name(name)
      if not file.is_file():
        raise FileNotFoundError(
          f"Expected the data file {file}, got no such file. Copy all files "
          f"{prefix.name}.* of the checkpoint."
        )
      shards[number] = file.read_bytes()
    return shards[number]

  tensors = {}
  for key, entry in table.items():
    if key.startswith(b"\0"):
      continue  # A slice; the entry of the whole tensor raises, by its name.
    try:
      name = key.decode()
      tensor = tensor_bundle.decode_entry(entry, shard)
    except ValueError as error:
      raise ValueError(f"{prefix}, tensor {key!r}: {error}") from error
    if tensor is not None:
      tensors[name] = tensor
  return tensors


def write_checkpoint(
  directory: str | os.PathLike,
  tensors: Mapping[str, Any],
  name: str = "ckpt-1",
) -> None:
  """Writes a TensorFlow V2 checkpoint and makes it the directory's latest.

  `tf.train.load_checkpoint(directory)` reads the tensors by name. Names that
  end in `/.ATTRIBUTES/VARIABLE_VALUE` also go into an object graph, from which
  `tf.train.Checkpoint(...).restore` restores objects with the same paths.

  Args:
    directory: where to write; made if it does not exist.
    tensors: arrays by name, of any numeric dtype that TensorFlow has.
    name: file name of the checkpoint, without extension.

  Raises:
    ValueError: if a name is reserved or not usable, or an array not numeric.

  Example:
    >>> import tempfile
    >>> import numpy as np
    >>> from slot_attention_jax.interop import tensorflow_checkpoint
    >>> directory = tempfile.mkdtemp()
    >>> tensorflow_checkpoint.write_checkpoint(
    ...   directory, {"x": np.zeros((2, 3), np.float32)}, name="model-7")
    >>> tensorflow_checkpoint.read_checkpoint(directory)["x"].shape
    (2, 3)
  """
  if not re.fullmatch(r"[\w.-]*\w", name, re.ASCII):
    raise ValueError(
      "Expected a name of letters, digits, '_', '-' and '.', such as "
      f"'ckpt-1', got {name!r}."
    )
  if "" in tensors or tensor_bundle.GRAPH_KEY in tensors:
    raise ValueError(
      "Expected tensor names that the format does not use itself, got '' or "
      f"{tensor_bundle.GRAPH_KEY!r}. Rename the tensor."
    )
  graph = tensor_bundle.object_graph(sorted(tensors))
  data = bytearray()
  table = {b"": tensor_bundle.encode_header()}
  for key, value in {**tensors, tensor_bundle.GRAPH_KEY: graph}.items():
    try:
      entry, content = tensor_bundle.encode_entry(value, len(data))
    except ValueError as error:
      raise ValueError(f"Tensor {key!r}: {error}") from error
    table[key.encode()] = entry
    data += content

  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  # What names a file comes after the file, so that a reader finds it whole.
  (directory / f"{name}.data-00000-of-00001").write_bytes(data)
  (directory / f"{name}.index").write_bytes(sstable.write_table(table))
  (directory / "checkpoint").write_text(
    f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n',
    encoding="utf-8",
  )
