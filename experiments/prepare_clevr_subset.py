"""Prepares TFDS's `clevr` from an archive that is already extracted.

TFDS downloads 18 GB before it prepares CLEVR. If `CLEVR_v1.0/` is already on
disk, complete or in part, this runs TFDS's builder on it:

  python -m experiments.prepare_clevr_subset --tree=PARENT_OF_CLEVR_v1.0 \
    --data_dir=$HOME/tensorflow_datasets --file_format=array_record

It needs `pip install 'slot_attention_jax[tf]'`; reading the result does not.

The tests' data, clevr_array_record and clevr_tfrecord in tests/testdata, is a
shrunken subset: `--max_examples=12,6,3 --height=64`.
"""

import json
import pathlib
import shutil
import tempfile
from unittest import mock

from absl import app, flags
from PIL import Image

_TREE = flags.DEFINE_string(
  "tree", None, "Directory that holds CLEVR_v1.0/.", required=True
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "TFDS data directory to write.", required=True
)
_FILE_FORMAT = flags.DEFINE_enum(
  "file_format", "tfrecord", ["tfrecord", "array_record"], "Format to write."
)
_MAX_EXAMPLES = flags.DEFINE_list(
  "max_examples",
  None,
  "Numbers of examples of train, val and test; default: all.",
)
_HEIGHT = flags.DEFINE_integer(
  "height", None, "Downscale the images to this height (with --max_examples)."
)

_SPLITS = ("train", "val", "test")


def _subset(
  source: pathlib.Path,
  target: pathlib.Path,
  sizes: list[int],
  height: int | None,
) -> None:
  """Copies the first images of each split, with their annotations.

  Args:
    source: the extracted archive, `CLEVR_v1.0`.
    target: where to write the smaller one.
    sizes: images to keep of train, val and test.
    height: rows to shrink the images to, with an alpha channel as the archive
      has it; None copies the files.
  """
  for folder in ("questions", "scenes"):
    (target / folder).mkdir(parents=True)
  for split, size in zip(_SPLITS, sizes, strict=True):
    (target / "images" / split).mkdir(parents=True)
    images = sorted((source / "images" / split).iterdir())[:size]
    for path in images:
      copy = target / "images" / split / path.name
      if height is None:
        shutil.copy(path, copy)
        continue
      with Image.open(path) as image:
        width = round(image.width * height / image.height)
        image.convert("RGBA").resize((width, height)).save(copy, optimize=True)
    names = {path.name for path in images}
    for folder in ("questions", "scenes"):
      path = source / folder / f"CLEVR_{split}_{folder}.json"
      if path.exists():  # There are no test scenes.
        content = json.loads(path.read_text())
        content[folder] = [
          x for x in content[folder] if x["image_filename"] in names
        ]
        (target / folder / path.name).write_text(json.dumps(content))


def prepare(tree: pathlib.Path, data_dir: str, file_format: str) -> None:
  """Runs TFDS's builder on an extracted archive instead of a download.

  Args:
    tree: the directory that holds `CLEVR_v1.0/`.
    data_dir: TFDS data directory to write.
    file_format: `"tfrecord"` or `"array_record"`.
  """
  import tensorflow_datasets as tfds

  builder = tfds.builder("clevr", data_dir=data_dir, file_format=file_format)
  with mock.patch.object(
    tfds.download.DownloadManager,
    "download_and_extract",
    return_value=str(tree),
  ):
    builder.download_and_prepare()
  for name, split in builder.info.splits.items():
    print(f"{name}: {split.num_examples} examples")
  print(f"Prepared {builder.info.full_name} in {builder.data_dir}")


def main(argv: list[str]) -> None:
  """Checks the flags and prepares the data."""
  if len(argv) > 1:
    raise app.UsageError(f"Unknown arguments: {argv[1:]}")
  tree = pathlib.Path(_TREE.value).expanduser()
  if not (tree / "CLEVR_v1.0" / "images").is_dir():
    raise FileNotFoundError(
      f"Expected --tree to hold CLEVR_v1.0/images, got {tree}."
    )
  if _MAX_EXAMPLES.value is None:
    if _HEIGHT.value is not None:
      raise app.UsageError("--height needs --max_examples.")
    prepare(tree, _DATA_DIR.value, _FILE_FORMAT.value)
    return
  sizes = [int(size) for size in _MAX_EXAMPLES.value]
  if len(sizes) != len(_SPLITS):
    raise app.UsageError(
      f"Expected --max_examples=TRAIN,VAL,TEST, got {sizes}."
    )
  with tempfile.TemporaryDirectory() as directory:
    smaller = pathlib.Path(directory)
    _subset(tree / "CLEVR_v1.0", smaller / "CLEVR_v1.0", sizes, _HEIGHT.value)
    prepare(smaller, _DATA_DIR.value, _FILE_FORMAT.value)


if __name__ == "__main__":
  app.run(main)
