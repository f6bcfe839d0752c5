"""Prepares a multi-object dataset: from its TFRecord file to a TFDS dataset.

  python -m slot_attention_jax.data.prepare --name=clevr_with_masks \
    --data_dir=DIR [--source=FILE_OR_BUCKET] [--variant=VARIANT]

Reads the file of multi_object_datasets, from disk or straight from the public
bucket gs://multi-object-datasets, and writes sharded array_record files with
PNG images, which need a fraction of the space and of the time. Neither
TensorFlow nor a second copy of the file is needed. The last line is one JSON
object: what was prepared, and its counts.

While it runs a few scenes are in memory. A run that failed, or got a signal to
end, leaves nothing but a hidden lock file; leftovers of a killed one are
removed by the next.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from absl import logging

from slot_attention_jax.data import tfrecord
from slot_attention_jax.data.images import tfds_files
from slot_attention_jax.data.multi_object import (
  dataset,
  files,
  layouts,
  remote_file,
)
from slot_attention_jax.runtime import progress, signals, user_errors

_MEGABYTE = 1e6
_INCOMPLETE = "incomplete."


def prepare(
  name: str,
  *,
  data_dir: str | os.PathLike[str],
  source: str = "",
  variant: str = "",
  max_records: int | None = None,
) -> dict[str, Any]:
  """Converts a file of multi_object_datasets to a TFDS dataset.

  Args:
    name: of the dataset, one of `multi_object.dataset.NAMES`.
    data_dir: TFDS's data directory, on a file system.
    source: the file, a directory that has it under its own name, or the URL
      (`gs://`, `https://`) of the file or of a bucket; "" for the public one.
    variant: of the dataset; "" for the default one.
    max_records: convert only the first this many records; None: all.

  Returns:
    `name`, `variant`, `path` of the dataset, `source` and `source_bytes`, the
    file's name and size, `max_records`, `num_records`, `num_objects` (number of
    scenes by number of objects), `num_at_most_6_objects`, `pixels_in_no_mask`,
    `pixels_in_several_masks`, `complete`: whether these are as many records as
    the original has, and `seconds`. Of data that were prepared before, what
    they were then.

  Raises:
    ValueError: on an unknown dataset or variant, an invalid file, or
      other data in `data_dir`.
    FileNotFoundError: if there is no such file.
    OSError: if it cannot be read, or the data not be written.
  """
  if name not in dataset.NAMES:
    raise ValueError(
      f"Expected a name out of {list(dataset.NAMES)}, got {name!r}."
    )
  variant = layouts.resolve_variant(name, variant)
  if max_records is not None and max_records < 1:
    raise ValueError(f"Expected max_records of at least 1, got {max_records}.")
  if "://" in os.fspath(data_dir):
    raise ValueError(
      f"Expected a --data_dir on a file system, got {data_dir}. Prepare the "
      "data in a local directory and copy it there; gs:// is read from."
    )
  root = pathlib.Path(data_dir).expanduser().absolute()
  path = files.locate(name, variant, source)
  parts = [part for part in (name, variant) if part]
  target = root.joinpath(*parts, dataset.VERSION)
  with _locked(root, parts), _parents_made(target) as parent:
    if target.exists():
      return _check_same(target, path, max_records)
    # Leftovers of a killed run; no other process holds the lock.
    for leftover in parent.glob(f"{_INCOMPLETE}*"):
      logging.info("Removing an interrupted preparation, %s.", leftover)
      shutil.rmtree(leftover)
    return _convert(name, variant, target, path, max_records)


@contextlib.contextmanager
def _parents_made(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes the parent directories; removes those that stay empty."""
  made = [p for p in target.parents if not p.exists()]
  target.parent.mkdir(parents=True, exist_ok=True)
  try:
    yield target.parent
  finally:
    for directory in made:
      with contextlib.suppress(OSError):  # It is not empty.
        directory.rmdir()


@contextlib.contextmanager
def _locked(root: pathlib.Path, parts: Sequence[str]) -> Iterator[None]:
  """Holds the lock of a dataset; the system frees it if the process dies.

  The file stays: were it removed, a process that waits for it and one that
  creates a new one could both hold the lock.
  """
  import filelock

  root.mkdir(parents=True, exist_ok=True)
  lock = filelock.FileLock(root / f".prepare-{'-'.join(parts)}.lock")
  try:
    lock.acquire(timeout=0)
  except filelock.Timeout:
    raise ValueError(
      f"Another process is preparing {'/'.join(parts)} in {root}. Wait for it, "
      "or choose another --data_dir."
    ) from None
  try:
    yield
  finally:
    lock.release()


def _check_same(
  target: pathlib.Path, path: str, max_records: int | None
) -> dict[str, Any]:
  """The report of data prepared before; ValueError if they are other data."""
  source = pathlib.PurePath(path).name
  size, same = None, False
  try:
    text = (target / "metadata.json").read_text(encoding="utf-8")
    report = json.loads(text)
    same = (report["source"], report["max_records"]) == (source, max_records)
    whole, known_size = report["complete"], report["source_bytes"]
  except (FileNotFoundError, ValueError, KeyError, TypeError):
    report, same, whole, known_size = {}, False, False, None
  # A part may have the name of the whole. The whole is known by its counts, so
  # the bucket need not be asked.
  if same and not (whole and remote_file.is_remote(path)):
    with _opened(path) as (_, size, _):
      same = size in (None, known_size)
  if not same:
    raise ValueError(
      f"Expected no data in {target}, or those of {source} ({size} bytes) with "
      f"max_records={max_records}; there are some of {report.get('source')!r} "
      f"({known_size} bytes) with "
      f"max_records={report.get('max_records')}. Remove the directory or "
      "choose another --data_dir."
    )
  logging.info("%s was prepared before.", target)
  return {**report, "path": str(target)}


def _convert(
  name: str,
  variant: str,
  target: pathlib.Path,
  path: str,
  max_records: int | None,
) -> dict[str, Any]:
  """Converts the file to a directory that does not exist yet."""
  from slot_attention_jax.data.multi_object import conversion, tfds_builders

  began = time.monotonic()
  source = pathlib.PurePath(path).name
  with contextlib.ExitStack() as stack:
    temporary = stack.enter_context(
      tempfile.TemporaryDirectory(prefix=_INCOMPLETE, dir=target.parent)
    )
    file, size, position = stack.enter_context(_opened(path))
    records = stack.enter_context(
      contextlib.closing(_read(file, source, size, position, max_records))
    )
    builder = tfds_builders.create_builder(name, variant, temporary)
    stats = conversion.write(builder, records, source)
    counts = dict(sorted(stats.num_objects.items()))
    six = sum(count for number, count in counts.items() if number <= 6)
    part = max_records is not None
    report = {
      "name": name,
      "variant": variant,
      "source": source,
      "source_bytes": size,
      "max_records": max_records,
      "num_records": stats.num_records,
      "num_objects": {str(k): v for k, v in counts.items()},
      "num_at_most_6_objects": six,
      "pixels_in_no_mask": stats.unmasked,
      "pixels_in_several_masks": stats.overlapping,
      "complete": files.check_counts(
        name, variant, path, stats.num_records, six, part=part
      ),
      "seconds": round(time.monotonic() - began, 1),
    }
    builder.info.metadata.update(report)
    builder.info.write_to_directory(builder.data_dir)
    os.rename(builder.data_dir, target)
  return {**report, "path": str(target)}


def _read(
  file: Any,
  source: str,
  size: int | None,
  position: Callable[[], int],
  max_records: int | None,
) -> Generator[bytes, None, None]:
  """The records of a file, with a progress bar if it is known how many."""
  records = itertools.islice(tfrecord.read_records(file, source), max_records)
  number = itertools.count()

  def megabytes_done() -> int:
    return total * position() // (size or 1)

  def records_done() -> int:
    return next(number)

  if max_records is not None:
    total, unit, done = max_records, "records", records_done
  elif size:
    total, unit, done = max(1, round(size / _MEGABYTE)), "MB", megabytes_done
  else:
    yield from records
    return
  with progress.Progress(total, f"Preparing {source}", unit, log=True) as bar:
    for record in records:
      bar.update(min(total, done()))
      yield record
    bar.update(min(total, done()))


@contextlib.contextmanager
def _opened(
  path: str,
) -> Iterator[tuple[Any, int | None, Callable[[], int]]]:
  """A file or URL: itself, its bytes if known, and how many were read."""
  if remote_file.is_remote(path):
    with contextlib.closing(remote_file.RemoteFile(path)) as remote:
      yield remote, remote.size, lambda: remote.position
  else:
    with open(path, "rb") as file:
      yield file, os.path.getsize(path), file.tell


def main(argv: Sequence[str] | None = None) -> None:
  """Prepares as the arguments say; prints one line of JSON at the end."""
  parser = argparse.ArgumentParser(
    prog="python -m slot_attention_jax.data.prepare",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--name", required=True, choices=dataset.NAMES)
  parser.add_argument(
    "--variant", default="", help="of multi_dsprites or objects_room"
  )
  parser.add_argument(
    "--source",
    default=files.BUCKET,
    help="the TFRecord file, its directory, or a bucket; default: %(default)s",
  )
  parser.add_argument(
    "--data_dir",
    default=tfds_files.root_directory(None),
    help="TFDS's data directory; default: %(default)s",
  )
  parser.add_argument(
    "--max_records", type=int, help="prepare only the first MAX_RECORDS records"
  )
  parser.add_argument(
    user_errors.FLAG, action="store_true", help="show a user error's traceback"
  )
  arguments = vars(parser.parse_args(argv))
  del arguments["traceback"]
  logging.set_verbosity(logging.INFO)
  with user_errors.exit_on_user_error(argv), signals.handled():
    report = prepare(**arguments)
  print(json.dumps(report))


if __name__ == "__main__":
  main()
