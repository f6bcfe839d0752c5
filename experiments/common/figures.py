"""Helpers for figures of the experiments."""

import pathlib
from typing import Any


def import_pyplot() -> Any:
  """Imports matplotlib's pyplot, with a backend that needs no display.

  Returns:
    The module.

  Raises:
    ValueError: if matplotlib is not installed.
  """
  try:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
  except ImportError as error:
    raise ValueError(
      "Expected matplotlib for --figure, found none: pip install matplotlib."
    ) from error
  return pyplot


def legend_below(figure: Any, handles: list[Any], columns: int) -> None:
  """Adds one legend below all panels, with at most `columns` columns."""
  figure.legend(
    handles=handles,
    loc="upper center",
    bbox_to_anchor=(0.5, 0.0),
    ncols=max(1, min(len(handles), columns)),
    fontsize="small",
  )


def save(figure: Any, path: pathlib.Path) -> None:
  """Saves a pyplot figure, creating its directory, and closes it."""
  figure.tight_layout()
  path.parent.mkdir(parents=True, exist_ok=True)
  # Includes a legend below the panels.
  figure.savefig(path, dpi=120, bbox_inches="tight")
  import_pyplot().close(figure)
