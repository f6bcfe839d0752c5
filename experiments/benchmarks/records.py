"""Times the reading of a set with masks: one record, and a whole file.

  python -m experiments.benchmarks.records \
    --file=tests/testdata/multi_object/clevr_with_masks_train.tfrecords

Parses the records of a CLEVR file alternately as `data.multi_object.records`
does, with the strings of a feature as one buffer, and through the messages that
TFDS brings along, with a Python object for each pixel; first it checks that
both give the same. Then it prepares a file of these records, repeated, and
reads the prepared data into a cache. The last line is JSON.
"""

import argparse
import datetime
import gzip
import json
import os
import pathlib
import platform
import statistics
import tempfile
import time
from typing import Any

import numpy as np
from absl import logging

from slot_attention_jax.data import (
  cached_dataset,
  prepare,
  tfrecord,
  transforms,
)
from slot_attention_jax.data.multi_object import (
  dataset,
  layouts,
)
from slot_attention_jax.data.multi_object import (
  records as records_lib,
)

_LAYOUT = layouts.get_layout("clevr_with_masks")


def parse_by_messages(record: bytes) -> tuple[np.ndarray, np.ndarray]:
  """Image and segmentation of a record, through `tf_example_pb2`."""
  from tensorflow_datasets.proto import tf_example_pb2

  example = tf_example_pb2.Example.FromString(record)  # pyright: ignore
  shapes = _LAYOUT.shapes(_LAYOUT.resolution)

  def pixels(name):
    strings = example.features.feature[name].bytes_list.value
    return np.frombuffer(b"".join(strings), np.uint8).reshape(shapes[name])

  return pixels("image"), pixels("mask")[..., 0].argmax(axis=0)


def compare_parsing(records: list[bytes], repeats: int) -> dict[str, float]:
  """Medians of the milliseconds of a record, both ways, and their ratio."""
  seconds: dict[str, list[float]] = {"buffer": [], "messages": []}
  for record in records:
    scene = records_lib.parse_record(record, _LAYOUT, "a record")
    image, segmentation = parse_by_messages(record)
    np.testing.assert_array_equal(scene["image"], image)
    np.testing.assert_array_equal(scene["segmentation"], segmentation)
  for i in range(repeats):
    record = records[i % len(records)]
    start = time.perf_counter()
    records_lib.parse_record(record, _LAYOUT, "a record")
    middle = time.perf_counter()
    parse_by_messages(record)
    seconds["buffer"].append(middle - start)
    seconds["messages"].append(time.perf_counter() - middle)
  medians = {k: 1e3 * statistics.median(v) for k, v in seconds.items()}
  return medians | {"ratio": medians["messages"] / medians["buffer"]}


def time_preparation(records: list[bytes], count: int) -> dict[str, float]:
  """Records a second when they are prepared, and when a cache is made."""
  import jax

  with tempfile.TemporaryDirectory() as directory:
    root = pathlib.Path(directory)
    file = root / "repeated.tfrecords"
    with gzip.open(file, "wb", 6) as out:
      for i in range(count):
        out.write(tfrecord.frame(records[i % len(records)]))
    report = prepare.prepare(
      "clevr_with_masks", source=str(file), data_dir=root
    )
    stored = sum(
      p.stat().st_size for p in pathlib.Path(report["path"]).iterdir()
    )
    mesh = jax.make_mesh(
      (1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    start = time.perf_counter()
    dataset.open(
      root,
      "records[:]",
      transforms.ImageSpec((128, 128), "paper", root / "cache"),
      cached_dataset.Batching(
        1, jax.NamedSharding(mesh, jax.P("data")), train=True
      ),
      name="clevr_with_masks",
    )
    cached = time.perf_counter() - start
  return {
    "prepared_per_second": count / report["seconds"],
    "cached_per_second": count / cached,
    "kilobytes_per_scene": stored / count / 1e3,
  }


def main() -> None:
  """Measures, prints a line each, and JSON."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--file", type=pathlib.Path, required=True)
  parser.add_argument("--repeats", type=int, default=60)
  parser.add_argument("--records", type=int, default=300, help="to prepare")
  arguments = parser.parse_args()
  logging.set_verbosity(logging.ERROR)
  with arguments.file.open("rb") as file:
    records = list(tfrecord.read_records(file, file.name))
  result: dict[str, Any] = {
    "date": datetime.date.today().isoformat(),
    "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
    "file": arguments.file.name,
    **compare_parsing(records, arguments.repeats),
    **time_preparation(records, arguments.records),
  }
  print(
    f"a record: {result['buffer']:.1f} ms, by messages "
    f"{result['messages']:.1f} ms, {result['ratio']:.1f} times as long"
  )
  print(
    f"{arguments.records} records: {result['prepared_per_second']:.0f} a "
    f"second prepared, {result['kilobytes_per_scene']:.0f} kB each, "
    f"{result['cached_per_second']:.0f} a second into a cache"
  )
  print(json.dumps(result))


if __name__ == "__main__":
  main()
