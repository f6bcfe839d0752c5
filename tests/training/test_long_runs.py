"""What a run of days must not gather."""

import gc
import os
import pathlib
import threading

import jax
import jax.numpy as jnp
import optax
import pytest

from slot_attention_jax.training import checkpoints
from slot_attention_jax.training import state as state_lib


@pytest.mark.thorough
@pytest.mark.skipif(
  not pathlib.Path("/proc/self/fd").exists(), reason="counts files by /proc"
)
def test_threads_and_open_files_do_not_grow_with_saves(tmp_path):
  params = {"w": jnp.ones((4, 4))}
  state = state_lib.create(params, optax.adam(1.0), jax.random.key(0))
  counts = []
  with checkpoints.Checkpointer(tmp_path, keep=2) as checkpointer:
    for step in range(1, 7):
      checkpointer.save(state.replace(step=jnp.int32(step)), {"seed": 0})
      checkpointer.wait()
      gc.collect()
      files = len(os.listdir("/proc/self/fd"))
      counts.append((threading.active_count(), files))
  # From the first checkpoint that is deleted on.
  assert counts[3:] == [counts[2]] * 3
