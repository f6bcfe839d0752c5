"""`sa.write_report`: runs in, one HTML file out."""

import os
from collections.abc import Sequence

from slot_attention_jax.runtime import files, storage

NAME = "report.html"
"""In the directory of the run, of the report of one."""


def write_report(
  paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
  output: str | os.PathLike[str] | None = None,
) -> storage.Path:
  """Writes a report of one run, or one that compares several.

  Args:
    paths: the directory of a run, or several.
    output: the HTML file, which is replaced; None: of one run, `report.html`
      in its directory.

  Returns:
    The file.

  Raises:
    FileNotFoundError: if there is no run in one of the directories.
    OSError: if a bucket cannot be reached or read.
    ValueError: if there is no run, one twice, or several without `output`.

  Example:
    >>> import json, pathlib, tempfile
    >>> import slot_attention_jax as sa
    >>> run = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (run / "config.json").write_text(json.dumps({"seed": 0}))
    >>> sa.write_report(run).name
    'report.html'
  """
  # With orbax and others that the library is imported without.
  from slot_attention_jax.report import page, runs

  if isinstance(paths, str | os.PathLike):
    paths = [paths]
  target = None if output is None else storage.open_path(output, "--output")
  found = runs.read_all(paths)
  if target is None and len(found) > 1:
    raise ValueError(
      f"Expected --output=FILE for a report of {len(found)} runs, got none. "
      "Name an HTML file."
    )
  target = target or found[0].path / NAME
  if target.is_dir():
    raise ValueError(
      f"Expected a file as --output, got the directory {target}. Name a file "
      f"in it, as {target / NAME}."
    )
  text = page.of_run(found[0]) if len(found) == 1 else page.of_runs(found)
  with files.atomic_write(target) as temporary:
    temporary.write_text(text, encoding="utf-8")
  return target
