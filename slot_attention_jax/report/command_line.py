"""Writes a report of a run, or one that compares runs, as one HTML file.

  slot-attention report runs/quickstart
  slot-attention report runs/a runs/b runs/c --output=comparison.html

The file needs no network and no other file: curves, metrics, what the slots
see after each evaluation, the config and where the numbers come from. Runs that
differ by their seed alone are also averaged, with standard errors. A run may be
unfinished, and the report made while it trains.
"""

import argparse
from collections.abc import Sequence

from slot_attention_jax.report import write
from slot_attention_jax.runtime import signals, storage, user_errors


def main(argv: Sequence[str] | None = None) -> None:
  """Writes the report that the arguments ask for and says where it is."""
  arguments = _parser().parse_args(argv)
  with user_errors.exit_on_user_error(argv), signals.handled():
    path = write.write_report(arguments.runs, arguments.output)
    size = storage.size(path) / 1e6
    print(f"Wrote {path} ({size:.1f} MB). Open it in a browser.")


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="slot-attention report",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "runs", nargs="+", metavar="RUN", help="the --workdir of a training"
  )
  parser.add_argument(
    "--output",
    metavar="FILE",
    help=f"the file; default, of one run: {write.NAME} in its directory",
  )
  parser.add_argument(
    user_errors.FLAG, action="store_true", help="show a user error's traceback"
  )
  return parser
