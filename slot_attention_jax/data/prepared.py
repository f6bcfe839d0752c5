"""Finds what TFDS prepared, without importing TFDS before it is there."""

import json
import os
from typing import Any

from absl import logging


def root_directory(data_dir: str | os.PathLike[str] | None) -> str:
  """TFDS's data directory: the one named, or else TFDS's default."""
  default = os.environ.get("TFDS_DATA_DIR") or os.path.join(
    "~", "tensorflow_datasets"
  )
  return os.path.expanduser(default if data_dir is None else data_dir)


def find_builder(
  name: str,
  version: str,
  data_dir: str | os.PathLike[str] | None,
  *,
  variant: str = "",
) -> Any | None:
  """Finds a dataset that was prepared.

  Args:
    name: of the TFDS dataset.
    version: of the TFDS dataset.
    data_dir: TFDS's data directory, `gs://` too, or one of the directories in
      it that lead to the data, as `.../clevr/3.1.0`. None looks in
      `$TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.
    variant: the name of TFDS's builder config; "" if there is none.

  Returns:
    A TFDS builder that reads the data; None if they are not there.
  """
  from etils import epath  # Also reads gs://; TFDS brings it along.

  root = epath.Path(root_directory(data_dir))
  parts = [part for part in (name, variant, version) if part]
  # A directory may be given at any height: .../, .../name, .../name/version.
  for start in range(len(parts) + 1):
    path = root.joinpath(*parts[start:])
    # Looked at before TFDS is imported, which takes seconds.
    description = path / "dataset_info.json"
    if not description.exists():
      continue
    found = json.loads(description.read_text())
    # Datasets without variants have no key, or an empty one.
    keys = ("name", "configName", "version")
    if tuple(found.get(k) or "" for k in keys) == (name, variant, version):
      import tensorflow_datasets as tfds

      logging.info("Reading %s from %s.", name, path)
      return tfds.builder_from_directory(path)
  return None
