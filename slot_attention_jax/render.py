"""Writes a split of synthetic scenes to files that other tools read."""

import contextlib
import gzip
import json
import pathlib
from collections.abc import Iterator
from typing import Any, cast

import jax
import numpy as np
from absl import logging

from slot_attention_jax import data as data_lib
from slot_attention_jax.config import allowed
from slot_attention_jax.data import procedural, tfrecord, types
from slot_attention_jax.data.export import scene_json, scene_tfrecord
from slot_attention_jax.data.multi_object import layouts
from slot_attention_jax.evaluation import examples, visualize
from slot_attention_jax.runtime import files as files_lib
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.runtime import progress, provenance

_NUM_PREVIEWS = 16  # Scenes in the contact sheet.
_NOTE = (
  "Scenes that slot_attention_jax drew at random and rendered itself. They are "
  "not the images of CLEVR, Multi-dSprites or Tetrominoes: numbers on them are "
  "not numbers on those."
)
_REMEDY = "Choose another directory with --workdir, or remove this one."


def render(config: Any, workdir: str) -> dict[str, float]:
  """Renders the scenes of a split into a directory.

  The scenes are those that training or evaluation with the same config sees:
  the first `data.scenes.num_eval` of `eval.split`, `"validation"`, `"test"` or
  `"train"`, at `data.resolution`. The directory gets

  - `images/NAME_SPLIT_000000.png` and `masks/` of the same file names, whose
    gray values are 0 for the background and i for object i (from 1),
  - `scenes.json`, laid out like CLEVR's,
  - `NAME_SPLIT.tfrecords`, compressed, laid out like `multi_object_datasets`',
  - `contact_sheet.png`, the first 16 scenes next to their segmentations,
  - `metadata.json` and `config.json`, which say what all this is.

  An interrupted export is completed when the command is repeated; a finished
  one is left alone. Every file appears complete or not at all.

  Args:
    config: a config of `configs/`.
    workdir: the directory: new, empty, or of the same export.

  Returns:
    How many scenes and objects there are, under the full names of metrics;
    nothing from processes other than the first, which does all the work.

  Raises:
    ValueError: on a config that cannot be rendered, or a directory that cannot
      be written to or holds something else.
  """
  if jax.process_index():
    return {}
  allowed.check_values(config)
  family = data_lib.create_family(config)
  layout = scene_tfrecord.get_layout(family)
  dataset = _dataset(config, family)
  path = pathlib.Path(workdir).expanduser().absolute()
  stem = f"{family.name}_{config.eval.split}"
  names = [f"{stem}_{i:06d}.png" for i in range(config.data.scenes.num_eval)]
  files = [f"{folder}/{n}" for folder in ("images", "masks") for n in names]
  files += ["scenes.json", f"{stem}.tfrecords", "contact_sheet.png"]
  settings = _settings(config, family)
  report = _begin(path, settings, files)
  if report is None:
    files_lib.write_json(path / "config.json", config.to_dict())
    num_objects = _write(path, dataset, layout, settings, names, stem)
    report = _report(config, settings, layout, num_objects)
    files_lib.write_json(path / "metadata.json", report)
    logging.info("Rendered %d scenes into %s.", len(names), path)
  else:
    logging.info("%s already holds this export; nothing to do.", path)
  return {
    examples.metric_name(dataset.info, name): report[name]
    for name in ("num_scenes", "num_objects")
  }


def _dataset(
  config: Any, family: procedural.SceneFamily
) -> procedural.SceneDataset:
  """The scenes, on this process's own devices alone."""
  count, split = config.data.scenes.num_eval, config.eval.split
  training = split == "train"
  group = "train" if training else "eval"
  batch_size = config[group].batch_size
  devices = jax.local_devices()
  mesh_lib.check_batch_size(f"{group}.batch_size", batch_size, len(devices))
  mesh = jax.make_mesh(
    (len(devices),),
    (mesh_lib.AXIS,),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=devices,
  )
  resolution = tuple(config.data.resolution)

  def describe(scene, rendering):
    extras = getattr(family, "extras", lambda scene: {})
    return {
      "image": rendering.image,
      "segmentation": rendering.segmentation,
      "objects": family.describe(scene, resolution),
      "extras": extras(scene),
    }

  return procedural.SceneDataset(
    family,
    split=split,
    batch_size=batch_size,
    sharding=mesh_lib.batch_sharding(mesh),
    resolution=resolution,
    seed=config.seed,
    num_examples=None if training else count,
    quick=config.train.quick_compilation,
    describe=describe,
  )


def _settings(config: Any, family: procedural.SceneFamily) -> dict[str, Any]:
  """Everything that determines the scenes."""
  settings = {
    "data": family.name,
    "family": repr(family),
    "split": config.eval.split,
    "resolution": list(config.data.resolution),
    "num_scenes": config.data.scenes.num_eval,
    "seed": config.seed,
    "version": provenance.package_versions().get(
      "slot_attention_jax", "not installed"
    ),
  }
  if config.eval.split == "train":
    settings["batch_size"] = config.train.batch_size
  return settings


def _begin(
  path: pathlib.Path, settings: dict[str, Any], files: list[str]
) -> dict[str, Any] | None:
  """Claims the directory, or returns the report of a finished export in it."""
  file = path / "metadata.json"
  try:
    path.mkdir(parents=True, exist_ok=True)
    found = sorted(p.name for p in path.iterdir() if p.name[0] != ".")
    saved = {}
    if file.exists():
      kinds = {"settings": dict}
      saved = files_lib.read_json(file, _REMEDY, optional=kinds)
    if found:
      _check_same_export(path, found, saved.get("settings"), settings)
    if saved.get("complete") and all((path / f).exists() for f in files):
      return saved
    files_lib.write_json(file, {"complete": False, "settings": settings})
  except OSError as error:
    raise ValueError(
      f"Expected a directory that can be written to, got {path} ({error}). "
      "Choose another with --workdir."
    ) from error
  return None


def _check_same_export(
  path: pathlib.Path,
  found: list[str],
  old: dict[str, Any] | None,
  new: dict[str, Any],
) -> None:
  """Raises ValueError if the directory holds anything but this export."""
  if old is None:
    raise ValueError(
      f"Expected {path} to be new, empty or an export of scenes, found "
      f"{found[:5]} in it. Choose another directory with --workdir."
    )
  names = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
  if names:
    raise ValueError(
      f"Expected the export in {path} to be of the same settings, got "
      f"{[(k, new.get(k)) for k in names]}, there it is "
      f"{[(k, old.get(k)) for k in names]}. Choose another directory with "
      "--workdir, or remove this one."
    )


def _scenes(
  dataset: procedural.SceneDataset, count: int
) -> Iterator[tuple[np.ndarray, np.ndarray, dict, dict]]:
  """Image, segmentation [H, W] uint8, objects and extras of each scene."""
  for i in range(count):
    row = i % dataset.batch_size
    if row == 0:
      batch = jax.device_get(dataset.batch(i // dataset.batch_size))
    scene = jax.tree.map(lambda x: x[row], batch)  # noqa: B023
    objects = scene["objects"]
    present = np.asarray(objects.pop("present"), bool)
    # Objects first, padding dropped: object i of all files is segment i.
    rows = np.flatnonzero(present)
    segment = np.zeros(1 + len(present), np.uint8)
    segment[1 + rows] = 1 + np.arange(len(rows))
    yield (
      visualize.to_uint8(scene["image"]),
      segment[scene["segmentation"]],
      {k: v[rows] for k, v in objects.items()},
      scene["extras"],
    )


def _write(
  path: pathlib.Path,
  dataset: procedural.SceneDataset,
  layout: layouts.RecordLayout,
  settings: dict[str, Any],
  names: list[str],
  stem: str,
) -> int:
  """Writes scenes as they are rendered; returns the number of objects."""
  properties = cast(types.PropertyLayout, dataset.info.layout)
  info = settings | {"package": "slot_attention_jax", "note": _NOTE}
  num_objects, previews = 0, []
  with contextlib.ExitStack() as stack:
    enter = stack.enter_context
    shown = enter(progress.Progress(len(names), stem, "scenes", log=True))
    scenes_path = enter(files_lib.atomic_write(path / "scenes.json"))
    records_path = enter(files_lib.atomic_write(path / f"{stem}.tfrecords"))
    scenes = enter(scenes_path.open("w"))
    # Without a name and a time, equal scenes make equal files.
    records = enter(
      gzip.GzipFile("", "wb", 6, enter(records_path.open("wb")), mtime=0)
    )
    scenes.write(f'{{"info": {json.dumps(info)},\n"scenes": [')
    for i, scene in enumerate(_scenes(dataset, len(names))):
      image, segmentation, objects, extras = scene
      files_lib.save_png(path / "images" / names[i], image)
      files_lib.save_png(path / "masks" / names[i], segmentation)
      record = scene_tfrecord.serialize(
        layout, image, segmentation, objects, properties
      )
      records.write(tfrecord.frame(record))
      entry = scene_json.scene_entry(
        index=i,
        file_name=names[i],
        split=settings["split"],
        objects=objects,
        extras=extras,
        properties=properties,
        first_id=layout.first_id,
      )
      scenes.write(f"{',' if i else ''}\n{json.dumps(entry)}")
      num_objects += len(entry["objects"])
      if i < _NUM_PREVIEWS:
        previews.append((image, segmentation))
      shown.update(i + 1)
    scenes.write("\n]}\n")
  grid = visualize.scene_grid(*map(np.stack, zip(*previews, strict=True)))
  files_lib.save_png(path / "contact_sheet.png", grid)
  return num_objects


def _report(
  config: Any,
  settings: dict[str, Any],
  layout: layouts.RecordLayout,
  num_objects: int,
) -> dict[str, Any]:
  """What the export is, for readers and for the next run in its directory."""
  resolution = tuple(settings["resolution"])
  return {
    "complete": True,
    "note": _NOTE,
    "data": settings["data"],
    "own_scenes": True,
    "configured_data": config.data.name,
    "num_scenes": settings["num_scenes"],
    "num_objects": num_objects,
    "tfrecords": {
      "compression": "GZIP",
      "layout_of": f"multi_object_datasets.{layout.reader}",
      # Its reader has the resolution of the original data built in.
      "original_shapes": resolution == layout.resolution,
      "shapes": layout.shapes(resolution),
      "labels_of_ids_from_1": layout.ids,
    },
    "settings": settings,
  }
