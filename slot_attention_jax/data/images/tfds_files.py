"""Finds what TFDS prepared, without importing TFDS before it is there."""

import hashlib
import os
from typing import Any

from absl import logging

from slot_attention_jax.runtime import files as files_lib

_REMEDY = "Prepare the data again, or copy them once more."


def root_directory(data_dir: str | os.PathLike[str] | None) -> str:
  """TFDS's data directory: the one named, or else TFDS's default."""
  default = os.environ.get("TFDS_DATA_DIR") or os.path.join(
    "~", "tensorflow_datasets"
  )
  return os.path.expanduser(default if data_dir is None else data_dir)


def find_directory(
  name: str,
  version: str,
  data_dir: str | os.PathLike[str] | None,
  *,
  variant: str = "",
) -> Any | None:
  """Finds the directory of a prepared dataset, without importing TFDS.

  Args:
    name: of the TFDS dataset.
    version: of the TFDS dataset.
    data_dir: TFDS's data directory, `gs://` too, or one of the directories in
      it that lead to the data, as `.../clevr/3.1.0`. None looks in
      `$TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.
    variant: the name of TFDS's builder config; "" if there is none.

  Returns:
    An `epath.Path`; None if the data are not there.
  """
  from etils import epath  # Also reads gs://; TFDS brings it along.

  root = epath.Path(root_directory(data_dir))
  parts = [part for part in (name, variant, version) if part]
  # A directory may be given at any height: .../, .../name, .../name/version.
  for start in range(len(parts) + 1):
    path = root.joinpath(*parts[start:])
    description = path / "dataset_info.json"
    if not description.exists():
      continue
    found = files_lib.read_json(description, _REMEDY)
    # Datasets without variants have no key, or an empty one.
    keys = ("name", "configName", "version")
    if tuple(found.get(k) or "" for k in keys) == (name, variant, version):
      return path
  return None


def find_builder(
  name: str,
  version: str,
  data_dir: str | os.PathLike[str] | None,
  *,
  variant: str = "",
) -> Any | None:
  """Finds a prepared dataset; arguments as in `find_directory`.

  Returns:
    A TFDS builder that reads the data; None if they are not there.
  """
  path = find_directory(name, version, data_dir, variant=variant)
  if path is None:
    return None
  # Only now, for it takes seconds.
  import tensorflow_datasets as tfds

  logging.info("Reading %s from %s.", name, path)
  try:
    return tfds.builder_from_directory(path)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    reason = str(error).strip().partition("\n")[0][:200]
    raise ValueError(
      f"Expected a dataset of TFDS in {path}, but its dataset_info.json or "
      f"features.json is damaged: {type(error).__name__}: {reason}. {_REMEDY}"
    ) from error


def find_files(builder: Any, split: str) -> list[Any]:
  """The files of a prepared split.

  Args:
    builder: of `find_builder`.
    split: of the builder.

  Returns:
    Paths of etils.epath, sorted; `gs://` works too.

  Raises:
    FileNotFoundError: if one of them is missing.
  """
  files = sorted(builder.info.splits[split].filepaths)
  # Their names come from the description of the data, which may be anyone's.
  place = os.path.normpath(str(builder.data_dir))
  for path in files:
    if os.path.normpath(str(path.parent)) != place or path.name == "..":
      raise ValueError(
        f"Expected the files of {builder.info.full_name} in {place}, got "
        f"{path}. {_REMEDY}"
      )
  missing = [str(path) for path in files if not path.exists()]
  if missing:
    raise FileNotFoundError(
      f"{len(missing)} of the {len(files)} files of the prepared split "
      f"{split!r} of {builder.info.full_name} are missing, the first is "
      f"{missing[0]}. Prepare or copy the data again."
    )
  return files


def fingerprint(builder: Any, files: list[Any]) -> dict[str, Any]:
  """Identifies prepared data, for `cache.build_or_load`."""
  description = files[0].parent / "dataset_info.json"
  stats = [(path.name, path.stat()) for path in files]
  return {
    "dataset": builder.info.full_name,
    "dataset_info": hashlib.sha256(description.read_bytes()).hexdigest(),
    # The time distinguishes data prepared twice with equal sizes.
    "files": [[name, s.length, s.mtime] for name, s in stats],
  }
