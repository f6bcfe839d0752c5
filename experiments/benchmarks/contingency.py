"""Times both ways to count the pixels that two segmentations share.

  python -m experiments.benchmarks.contingency

`contingency_table` counts pair by pair on a CPU and multiplies one-hot ids
elsewhere. The command runs both forms on the same random ids, in turn, and
checks that they give the same table.
"""

import argparse
import datetime
import functools
import os
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.metrics import contingency

# Images, true groups, predicted groups: CLEVR's evaluation, and one of datasets
# with many segments.
_CASES = ((64, 11, 11), (16, 256, 11))
_PIXELS = 128 * 128


def measure(
  num_images: int, num_true: int, num_pred: int, repeats: int, seed: int
) -> tuple[float, float]:
  """Median seconds of counting and of the product, compiled.

  Args:
    num_images: B, images of 128x128 pixels.
    num_true: G, true groups.
    num_pred: S, predicted groups.
    repeats: runs of each form, in turn.
    seed: of the ids.

  Raises:
    AssertionError: if the tables differ.
  """
  rng = np.random.default_rng(seed)
  ids = [
    jnp.asarray(rng.integers(-1, groups + 1, (num_images, _PIXELS)), jnp.int32)
    for groups in (num_true, num_pred)
  ]
  sizes = {"num_true": num_true, "num_pred": num_pred}
  forms = [
    jax.jit(functools.partial(form, **sizes))
    for form in (contingency._by_counting, contingency._by_matrix_product)
  ]
  np.testing.assert_array_equal(*(form(*ids) for form in forms))
  seconds = [[], []]
  for _ in range(repeats):
    for form, times in zip(forms, seconds, strict=True):
      start = time.perf_counter()
      form(*ids).block_until_ready()
      times.append(time.perf_counter() - start)
  counting, product = map(statistics.median, seconds)
  return counting, product


def main(argv: list[str] | None = None) -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--repeats", type=int, default=7, help="median of")
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args(argv)
  device = jax.devices()[0]
  print(
    f"{datetime.date.today()}, {device.device_kind} ({device.platform}), "
    f"{os.cpu_count()} x {platform.machine()}, jax {jax.__version__}"
  )
  print("| images of 128x128 | groups | counting, ms | product, ms | ratio |")
  print("|---|---|---|---|---|")
  for num_images, num_true, num_pred in _CASES:
    counting, product = measure(
      num_images, num_true, num_pred, args.repeats, args.seed
    )
    print(
      f"| {num_images} | {num_true} x {num_pred} | {1e3 * counting:.1f} "
      f"| {1e3 * product:.1f} | {product / counting:.1f} |"
    )


if __name__ == "__main__":
  main()
