"""Checksums of what a checkpoint holds, which are saved beside it.

They are taken of the values, not of the files, so that they cover all that is
restored, however Orbax stores it.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ITEM = "checksums"
"""Name of the item of a checkpoint that holds them."""


def digest_arrays(tree: Any) -> dict[str, int]:
  """Computes a checksum for each array of a tree.

  Args:
    tree: a pytree of arrays; each process must hold them whole.

  Returns:
    CRC-32 of dtype, shape and bytes by the array's name, as `"dense/kernel"`;
    names are those of `arrays.check_arrays`, so that a tree has the same ones
    before and after it was saved.

  Example:
    >>> import jax.numpy as jnp
    >>> from slot_attention_jax.training import checkpoint_digests
    >>> digests = checkpoint_digests.digest_arrays({"w": jnp.zeros(2)})
    >>> digests == checkpoint_digests.digest_arrays({"w": -jnp.zeros(2)})
    False
  """
  digests = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    value = np.asarray(jax.device_get(leaf))
    head = f"{value.dtype.name}{list(value.shape)}".encode()
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    digests[name] = zlib.crc32(value.tobytes(), zlib.crc32(head))
  return digests


def digest_json(content: Any) -> int:
  """Computes the CRC-32 of JSON, whatever the order of its keys."""
  return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def digests_of(
  items: Mapping[str, Any], contents: Mapping[str, Any]
) -> dict[str, Any]:
  """Computes the checksums of a checkpoint.

  Args:
    items: trees of arrays by the names of their items.
    contents: JSON by the names of its items.

  Returns:
    JSON to be saved as the item `ITEM`.
  """
  arrays = {name: digest_arrays(tree) for name, tree in items.items()}
  return arrays | {name: digest_json(x) for name, x in contents.items()}


def check(name: str, value: Any, digests: Mapping[str, Any]) -> None:
  """Compares an item with the checksums that were saved beside it.

  Args:
    name: of the item.
    value: the item as it was restored, a tree of arrays or JSON.
    digests: what `digests_of` computed when it was saved.

  Raises:
    ValueError: naming what is not as it was saved.
  """
  if name not in digests:
    raise ValueError(f"its checksums lack {name!r}")
  expected = digests[name]
  if not isinstance(expected, Mapping):
    if digest_json(value) != expected:
      raise ValueError(f"{name} has another checksum than when it was saved")
    return
  got = digest_arrays(value)
  for array in sorted(expected.keys() | got.keys()):
    if expected.get(array) != got.get(array):
      raise ValueError(
        f"{name}/{array} has another checksum than when it was saved"
      )
