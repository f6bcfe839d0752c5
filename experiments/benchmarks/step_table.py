"""The table of the benchmark of the train step."""

import json
from collections.abc import Sequence
from typing import Any


def print_result(result: dict[str, Any], sides: Sequence[str]) -> None:
  """Prints the result of `step.run`: a table, then one line of JSON.

  Args:
    result: the result.
    sides: keys of the sides, `"step"` and `"peer_step"`, if there is a peer.
  """
  print(
    f"{result['config']}, batch of {result['batch_size']}, "
    f"{result['precision']}, {result['data']}, {result['device']}, jax "
    f"{result['jax']}; peer: {result.get('peer_runs_on', 'none')}\n"
    f"A step: {result['work']}, "
    f"{result['model_flops_per_step'] / 1e9:.4g} GFLOP of the model. Ceiling: "
    f"{result['ceiling_flops_per_second'] / 1e9:.4g} GFLOP/s."
  )
  if "differences" in result:
    listed = (f"{k} {v:.1e}" for k, v in result["differences"].items())
    print(f"Both compute the same; largest differences: {', '.join(listed)}.")
  print(
    "| side | step, ms: median | least | GFLOP/s | of the ceiling | memory, "
    "MiB | compile, s |\n" + "|---" * 7 + "|"
  )
  for name in sides:
    memory = result[f"{name}_memory_bytes"]
    print(
      f"| {'JAX' if name == 'step' else result['peer']} | "
      f"{1e3 * result[f'{name}_seconds']:.4g} | "
      f"{1e3 * result[f'{name}_seconds_min']:.4g} | "
      f"{result[f'{name}_model_flops_per_second'] / 1e9:.4g} | "
      f"{100 * result[f'{name}_ceiling_share']:.1f} % | "
      f"{'-' if memory is None else round(memory / 2**20)} | "
      f"{result[f'{name}_compile_seconds']:.1f} |"
    )
  if "ratio" in result:
    print(f"The peer takes {result['ratio']:.2f} times as long.")
  print(json.dumps(result))
