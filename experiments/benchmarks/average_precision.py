"""Times average precision on small and full evaluation sets.

  python -m experiments.benchmarks.average_precision

The yardstick is the reference's `average_precision_clevr`, a Python loop with
TensorFlow calls on single objects: 7.7 s for 40 images of 10 predictions at one
threshold, measured with TensorFlow 2.21 on one CPU core (the golden values of
`tests/testdata/golden/set_metrics.npz`). It grows with images and thresholds,
so its time for a row is taken to be 7.7 s * images / 40 * thresholds.
"""

import argparse
import datetime
import os
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention_jax.data import types
from slot_attention_jax.metrics import average_precision

_REFERENCE_SECONDS = 7.7
_REFERENCE_IMAGES = 40


def make_scenes(
  num_images: int, num_objects: int, seed: int
) -> tuple[jax.Array, jax.Array]:
  """Random CLEVR targets [N, O, 19] and noisy predictions of them."""
  rng = np.random.default_rng(seed)
  layout = types.CLEVR_LAYOUT
  lead = (num_images, num_objects)
  values = {
    p.name: (
      rng.uniform(p.low, p.high, (*lead, p.size))
      if p.kind == "continuous"
      else rng.integers(0, p.size, lead)
    )
    for p in layout.properties
    if p.kind != "confidence"
  }
  targets = layout.encode(values, real=rng.random(lead) < 0.65)
  predictions = targets + 0.15 * rng.normal(size=targets.shape)
  return jnp.asarray(predictions, jnp.float32), jnp.asarray(targets)


def measure(num_images, num_objects, thresholds, repeats, seed):
  """Returns (seconds to trace and compile, best seconds of a later run)."""
  jax.clear_caches()
  predictions, targets = make_scenes(num_images, num_objects, seed)

  def run():
    start = time.perf_counter()
    average_precision.average_precision(
      predictions, targets, types.CLEVR_LAYOUT, thresholds
    ).block_until_ready()
    return time.perf_counter() - start

  first = run()
  later = min(run() for _ in range(repeats))
  return max(first - later, 0.0), later


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--images", type=int, default=15_000, help="images of the full set"
  )
  parser.add_argument("--objects", type=int, default=10, help="slots and rows")
  parser.add_argument("--repeats", type=int, default=5, help="best of")
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args()

  device = jax.devices()[0]
  print(
    f"{datetime.date.today()}, {device.device_kind} ({device.platform}), "
    f"{os.cpu_count()} x {platform.machine()}, jax {jax.__version__}"
  )
  print("| images | thresholds | compile s | run s | reference s | ratio |")
  print("|---|---|---|---|---|---|")
  for num_images, thresholds in (
    (_REFERENCE_IMAGES, (0.25,)),
    (args.images, average_precision.PAPER_THRESHOLDS),
  ):
    compiling, running = measure(
      num_images, args.objects, thresholds, args.repeats, args.seed
    )
    scale = num_images / _REFERENCE_IMAGES * len(thresholds)
    reference = _REFERENCE_SECONDS * scale
    note = "" if scale == 1 else " (scaled)"
    print(
      f"| {num_images} | {len(thresholds)} | {compiling:.2f} | {running:.5f} "
      f"| {reference:.1f}{note} | {reference / running:,.0f} |"
    )
  print(
    f"reference: {_REFERENCE_SECONDS} s, measured for {_REFERENCE_IMAGES} "
    "images at one threshold, TensorFlow 2.21, one CPU core"
  )


if __name__ == "__main__":
  main()
