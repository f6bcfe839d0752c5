"""The files of multi_object_datasets: their names, places and counts."""

import pathlib

from absl import logging

from slot_attention_jax.data.multi_object import layouts, remote_file

BUCKET = "gs://multi-object-datasets"
# Of the whole files. The original's README says 100k or 1M, and nothing of
# Tetrominoes, of which there are as many by a converter of others; CLEVR's two
# numbers are certain, a difference to the others is no error.
_KNOWN = {
  "clevr_with_masks": 100_000,
  "multi_dsprites": 1_000_000,
  "tetrominoes": 1_000_000,
  "objects_room": 1_000_000,
}
_KNOWN_TEST = 922  # Of each test of objects_room.
_CLEVR = "clevr_with_masks"
_CLEVR_SIX = 53_483  # Scenes of at most six objects.


def file_name(name: str, variant: str) -> str:
  """The name that a file was published under.

  Args:
    name: of the dataset.
    variant: of the dataset; "" if there is one only.

  Returns:
    The name.

  Example:
    >>> from slot_attention_jax.data.multi_object import files
    >>> files.file_name("objects_room", "empty_room")
    'objects_room_test_empty_room.tfrecords'
  """
  if name == "objects_room" and variant != "train":
    variant = f"test_{variant}"
  return f"{name}_{variant or 'train'}.tfrecords"


def locate(name: str, variant: str, source: str) -> str:
  """Finds the file of a dataset.

  Args:
    name: of the dataset.
    variant: of the dataset; "" if there is one only.
    source: the file, a directory that has it under its own name, itself or in a
      directory of the dataset's name, or the URL of the file or of a bucket;
      "" for the public one.

  Returns:
    The path or URL of the file; a URL was not looked at.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it has the name of another dataset or variant.
  """
  official = file_name(name, variant)
  source = source or BUCKET
  if remote_file.is_remote(source):
    if not source.endswith(".tfrecords"):
      return f"{source.rstrip('/')}/{name}/{official}"
    found = source
  else:
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
      for candidate in (path / official, path / name / official):
        if candidate.is_file():
          return str(candidate)
      raise FileNotFoundError(
        f"Expected {official} in {path} or in {path / name}, found none. Name "
        "the file with --source."
      )
    if not path.is_file():
      raise FileNotFoundError(
        f"Expected a file or directory, found no {path}. Check --source."
      )
    found = str(path)
  # Two tests of objects_room differ in their names only.
  base = pathlib.PurePath(found).name
  for other, variants in layouts.LAYOUTS.items():
    for kind in variants:
      if base == file_name(other, kind) != official:
        choice = f" --variant={kind}" if kind else ""
        raise ValueError(
          f"Expected {official}, got {found}, whose name is that of "
          f"--name={other}{choice}. Prepare that, or rename the file if it is "
          "not what its name says."
        )
  return found


def check_counts(
  name: str, variant: str, path: str, count: int, six: int, *, part: bool
) -> bool:
  """Checks the counts of a file against the known ones.

  Args:
    name: of the dataset.
    variant: of the dataset; "" if there is one only.
    path: of the file; one on disk may hold a part of the dataset.
    count: its records.
    six: its scenes of at most six objects.
    part: whether only a part of the file was asked for.

  Returns:
    Whether it is the whole dataset; if not, a warning said so.

  Raises:
    ValueError: if it can be neither the dataset nor what was asked for.
  """
  test = name == "objects_room" and variant != "train"
  known = _KNOWN_TEST if test else _KNOWN[name]
  problem = None
  if count != known:
    problem = f"{count:,} records, where {name} has {known:,}"
  elif name == _CLEVR and six != _CLEVR_SIX:
    problem = (
      f"{six:,} scenes of at most six objects, where {name} has {_CLEVR_SIX:,}"
    )
  if problem is None:
    return True
  part = part or not remote_file.is_remote(path)
  if name == _CLEVR and (count >= known or not part):
    raise ValueError(
      f"Expected a whole {name} in {path}, got {problem}. Check --source."
    )
  logging.warning(
    "%s: got %s. The data are marked as incomplete, and the paper's splits "
    "may lie beyond their end.",
    path,
    problem,
  )
  return False
