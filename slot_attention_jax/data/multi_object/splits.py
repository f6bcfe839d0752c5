"""The splits of multi-object datasets, as names for ranges of records.

multi_object_datasets come as one file each, without splits. The paper trains on
the first records and tests on the next 320, which leaves the others, from which
a validation split, for choosing checkpoints, and a larger test split are cut
here. No two splits of a dataset share a record.

| dataset | train | test | validation | test_large |
|---|---|---|---|---|
| clevr_with_masks | 0 to 70,000 | 320 from 70,000 | 320 from 99,000 | 71,000 to 99,000 |
| multi_dsprites, tetrominoes | 0 to 60,000 | 320 from 60,000 | 320 from 61,000 | 70,000 to 85,000 |
| objects_room | 0 to 980,000 | 320 from 980,000 | 320 from 981,000 | 982,000 to 1,000,000 |

Each variant of the test of objects_room is one split, `test`, of all records.

A filter by the number of objects comes after the cut in `train` and
`test_large`, so that these are the same records for any filter, and before it
in `test` and `validation`, so that they always are 320 scenes.
"""  # noqa: E501

import dataclasses
import re
from collections.abc import Mapping

_LIMIT = 320


@dataclasses.dataclass(frozen=True)
class Split:
  """Which records of a dataset make a split.

  Attributes:
    name: full name, as `"clevr6/test"`, in the names of metrics.
    first: its first record.
    stop: one past its last record; None: up to the last that there is.
    limit: maximum number of scenes that pass the filter; None: all.
    max_objects: the filter: scenes of at most this many objects, the background
      not counted; None: all.
  """

  name: str
  first: int
  stop: int | None
  limit: int | None = None
  max_objects: int | None = None


def _table(train: int, others: int, large: tuple[int, int], validation: int):
  return {
    "train": (0, train, None),
    # The filter leaves about half of CLEVR's scenes: 1,000 records suffice.
    "test": (train, others, _LIMIT),
    "validation": (validation, validation + 1_000, _LIMIT),
    "test_large": (*large, None),
  }


_SPRITES = _table(60_000, 61_000, (70_000, 85_000), 61_000)
_SPLITS: Mapping[str, Mapping[str, tuple[int, int | None, int | None]]] = {
  "clevr_with_masks": _table(70_000, 71_000, (71_000, 99_000), 99_000),
  "multi_dsprites": _SPRITES,
  "tetrominoes": _SPRITES,
  "objects_room": _table(980_000, 981_000, (982_000, 1_000_000), 981_000),
}
_RECORDS = re.compile(r"records\[(\d*):(\d*)\]")
_SUBSET = re.compile(r"clevr(\d+)")


def find_split(
  dataset: str,
  name: str,
  *,
  variant: str = "",
  max_objects: int | None = None,
) -> Split:
  """The records that a name stands for.

  Args:
    dataset: `"clevr_with_masks"`, `"multi_dsprites"`, `"tetrominoes"` or
      `"objects_room"`.
    name: one of the table above; `"records[A:B]"`, records A to B - 1, for
      subsets that have fewer records than the splits; for CLEVR also with a
      filter before it, as `"clevr6/test"`, of scenes with at most 6 objects.
    variant: of the dataset; objects_room's tests have only the split `"test"`.
    max_objects: the filter of a name without one; None: none.

  Returns:
    The split, under its full name.

  Raises:
    ValueError: on an unknown name, or a filter for a dataset other than CLEVR.

  Example:
    >>> from slot_attention_jax.data.multi_object import splits
    >>> splits.find_split("clevr_with_masks", "clevr6/train")
    Split(name='clevr6/train', first=0, stop=70000, limit=None, max_objects=6)
  """
  prefix, _, short = name.rpartition("/")
  clevr = dataset == "clevr_with_masks"
  if prefix:
    subset = _SUBSET.fullmatch(prefix) if clevr else None
    if subset is None:
      raise ValueError(
        f"Expected a split of {dataset} without '/'"
        + (" or with 'clevr6/' or 'clevr10/' before it" if clevr else "")
        + f", got {name!r}."
      )
    max_objects = int(subset[1])
  if max_objects is not None and not clevr:
    raise ValueError(
      f"Expected data.max_objects of 0 for {dataset}, whose scenes are never "
      f"filtered, got {max_objects}."
    )
  table = _SPLITS[dataset]
  if dataset == "objects_room" and variant not in ("", "train"):
    table = {"test": (0, None, None)}
  if records := _RECORDS.fullmatch(short):
    first = int(records[1] or 0)
    stop = int(records[2]) if records[2] else None
    limit = None
    if stop is not None and stop <= first:
      raise ValueError(f"Expected records[A:B] with A < B, got {short!r}.")
  elif short in table:
    first, stop, limit = table[short]
  else:
    raise ValueError(
      f"Expected a split of {dataset} out of {list(table)} or 'records[A:B]', "
      f"got {name!r}."
    )
  if clevr:
    short = f"clevr{max_objects or 10}/{short}"
  return Split(short, first, stop, limit, max_objects)
