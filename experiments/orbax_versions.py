"""Checkpoints of two versions of Orbax are read by each other.

  pip install --no-deps --target=/tmp/old orbax-checkpoint==0.11.30 nest_asyncio
  PYTHONPATH=/tmp/old:. python -m experiments.orbax_versions --write=/tmp/a
  python -m experiments.orbax_versions --read=/tmp/a --write=/tmp/b
  PYTHONPATH=/tmp/old:. python -m experiments.orbax_versions --read=/tmp/b

Writes a run's two checkpoints (parameters, optimizer state, key, config,
metrics, checksums) and reads them: resumed as training does, evaluated without
an optimizer, every value compared bit for bit, and a third checkpoint saved
beside them. The last line printed is JSON.
"""

import argparse
import json
import pathlib
import shutil
import tempfile
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint

from slot_attention_jax.training import checkpoints, sound_checkpoints
from slot_attention_jax.training import state as state_lib

CONFIG = {"seed": 1, "model": {"sizes": [1, 2], "name": None}}
BEST = {"best_metric": "score", "best_mode": "max"}


def _init() -> state_lib.TrainState:
  params = {"params": {"w": jnp.zeros((4, 3)), "b": jnp.array([-0.0, 1.0])}}
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adam(optax.cosine_decay_schedule(1e-3, 100)),
  )
  return state_lib.create(params, optimizer, jax.random.key(5))


def _state_at(step: int) -> state_lib.TrainState:
  state = _init()
  params = jax.tree.map(lambda x: x + step, state.params)
  return state.replace(step=jnp.int32(step), params=params)


def _write(directory: pathlib.Path) -> None:
  with checkpoints.Checkpointer(directory, **BEST) as checkpointer:
    checkpointer.save(_state_at(1), CONFIG, {"score": 0.9})
    checkpointer.save(_state_at(2), CONFIG)
    checkpointer.add_metrics(2, {"score": 0.5})


def _bits(tree) -> list[bytes]:
  leaves = jax.tree.leaves(tree)
  keys = jax.dtypes.prng_key
  return [
    np.asarray(
      jax.random.key_data(x) if jnp.issubdtype(x.dtype, keys) else x
    ).tobytes()
    for x in leaves
  ]


def _read(directory: pathlib.Path) -> dict[str, bool]:
  """What of the checkpoints is as it was written."""
  with tempfile.TemporaryDirectory() as temporary:
    run = pathlib.Path(temporary) / "run"
    shutil.copytree(directory, run)
    with checkpoints.Checkpointer(run, **BEST) as checkpointer:
      found = {
        "sound": sound_checkpoints.newest_sound_step(checkpointer) == 2,
        "best": sound_checkpoints.best_sound_step(checkpointer) == 1,
        "config": checkpointer.restore_config() == CONFIG,
      }
      for step in (1, 2):
        expected = _state_at(step)
        state = checkpointer.restore(jax.eval_shape(_init), step)
        params = checkpointer.restore_params(step=step)
        found[f"state {step}"] = _bits(state) == _bits(expected)
        found[f"params {step}"] = _bits(params) == _bits(expected.params)
      found["goes on"] = checkpointer.save(_state_at(3), CONFIG)
      checkpointer.wait()
      found["goes on"] &= checkpointer.all_steps() == [1, 2, 3]
  return found


def main(argv: Sequence[str] | None = None) -> None:
  """Reads and writes as the arguments say; the exit status is 0 if all is."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--write", type=pathlib.Path, help="a new directory")
  parser.add_argument("--read", type=pathlib.Path, help="of --write")
  arguments = parser.parse_args(argv)
  found = _read(arguments.read) if arguments.read else {}
  if arguments.write:
    _write(arguments.write)
  print(json.dumps({"orbax": orbax.checkpoint.__version__, "read": found}))
  raise SystemExit(0 if all(found.values()) else 1)


if __name__ == "__main__":
  main()
