"""Times the matching of small sets beside the Hungarian algorithm.

  python -m experiments.benchmarks.matching

Random costs, uniform in [0, 1), of `--batch_size` problems of `--sizes` times
as many, seed 0. `slot_attention_jax.hungarian_match` and
`optax.assignment.hungarian_algorithm` under vmap are compiled, checked to give
the same totals (of a few problems also beside SciPy's) and called alternately.
Operations are those of the compiled program that do work: outside of loops, and
inside of them, where each runs once per iteration.
"""

import argparse
import re
import statistics
import time
from collections.abc import Sequence

import jax
import numpy as np
import optax
from scipy import optimize

from slot_attention_jax import matching

# What takes no time of its own.
_IDLE = (
  "parameter",
  "constant",
  "tuple",
  "get-tuple-element",
  "bitcast",
  "while",
)


def hungarian(cost: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The Hungarian algorithm of each problem, cost [B, K, O]."""
  return jax.vmap(optax.assignment.hungarian_algorithm)(cost)


def count_operations(text: str) -> tuple[int, int, int]:
  """Operations outside of loops, operations inside, and loops of a program."""
  outside, inside, loops = 0, 0, 0
  bodies = set(re.findall(r"(?:body|condition)=%([\w.\-]+)", text))
  for block in text.split("\n\n"):
    header = re.search(r"^(ENTRY )?%([\w.\-]+) \(.*\{$", block, re.MULTILINE)
    if header is None or not (header[1] or header[2] in bodies):
      continue
    # A result's shape has no space followed by a name and a bracket.
    operations = re.findall(
      r"^ +(?:ROOT )?%\S+ = .*? ([a-z][a-z\-]*)\(", block, re.MULTILINE
    )
    count = sum(operation not in _IDLE for operation in operations)
    loops += operations.count("while")
    outside, inside = (
      (outside + count, inside) if header[1] else (outside, inside + count)
    )
  return outside, inside, loops


def total(cost: np.ndarray, pairs: tuple[jax.Array, jax.Array]) -> np.ndarray:
  """Total cost [B] of the pairs."""
  rows, cols = map(np.asarray, pairs)
  return np.take_along_axis(
    np.take_along_axis(cost, rows[..., None], axis=1), cols[..., None], axis=2
  ).sum(axis=(1, 2))


def main(argv: Sequence[str] | None = None) -> None:
  """Prints a Markdown row for each size."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--batch_size", type=int, default=512, help="problems")
  parser.add_argument("--sizes", type=int, nargs="+", default=[4, 7, 10, 12])
  parser.add_argument("--repeats", type=int, default=21, help="timed calls")
  arguments = parser.parse_args(argv)
  # A compilation cache of the environment would hide the time of compiling.
  jax.config.update("jax_enable_compilation_cache", False)
  device = jax.devices()[0]
  print(f"{device.platform}, {device.device_kind}, jax {jax.__version__}")
  print(
    "| problems | hungarian_match, ms | Hungarian, ms | ratio | operations "
    "outside / inside of loops (loops) | Hungarian's | compile, s | Hungarian's"
    " |\n" + "|---" * 8 + "|"
  )
  for size in arguments.sizes:
    shape = (arguments.batch_size, size, size)
    cost = np.random.default_rng(0).random(shape).astype(np.float32)
    placed = jax.device_put(cost)
    programs, compiled = [], []
    for match in (matching.hungarian_match, hungarian):
      start = time.perf_counter()
      programs.append(jax.jit(match).lower(placed).compile())
      compiled.append(time.perf_counter() - start)
    totals = [total(cost, program(placed)) for program in programs]
    few = [c[optimize.linear_sum_assignment(c)].sum() for c in cost[:50]]
    np.testing.assert_allclose(totals[0], totals[1], rtol=1e-5)
    np.testing.assert_allclose(totals[0][:50], few, rtol=1e-5)
    times: list[list[float]] = [[], []]
    for _ in range(arguments.repeats):
      for values, program in zip(times, programs, strict=True):
        start = time.perf_counter()
        jax.block_until_ready(program(placed))
        values.append(1e3 * (time.perf_counter() - start))
    ours, other = (statistics.median(values) for values in times)
    counts = [
      "{} / {} ({})".format(*count_operations(program.as_text()))
      for program in programs
    ]
    print(
      f"| {arguments.batch_size} of {size}x{size} | {ours:.3g} | {other:.3g} | "
      f"{other / ours:.1f} | {counts[0]} | {counts[1]} | {compiled[0]:.2f} | "
      f"{compiled[1]:.2f} |",
      flush=True,
    )


if __name__ == "__main__":
  main()
