"""Reads TensorFlow V2 checkpoints ("tensor bundles") without TensorFlow.

A checkpoint `ckpt-1` is a table `ckpt-1.index` from names to small protobuf
messages (type, shape, where the bytes lie, their checksum), shards
`ckpt-1.data-00000-of-00001` of bytes, and a text file `checkpoint` next to them
that names the latest checkpoint.

References:
  TensorFlow, `core/util/tensor_bundle/tensor_bundle.cc`,
  `python/training/checkpoint_state.proto`.
"""

import os
import pathlib
import re

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

  Every checksum is verified. Entries that are not numeric, such as the object
  graph, a string, are left out.

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
    >>> from slot_attention_jax.interop import tensorflow_checkpoint
    >>> tensors = tensorflow_checkpoint.read_checkpoint(
    ...   "tests/testdata/golden/official_checkpoint_set_prediction")
    >>> int(tensors["global_step/.ATTRIBUTES/VARIABLE_VALUE"])
    1234
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
