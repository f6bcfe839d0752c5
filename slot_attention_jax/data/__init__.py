"""Data: batches as pure functions of (seed, step), from disk or rendered.

`create_dataset` makes what a config asks for; each source has a room or file of
its own. Nothing here knows a model, a task or a training run.
"""

from slot_attention_jax.data.expected import expected_info
from slot_attention_jax.data.from_config import (
  NAMES,
  create_dataset,
  create_family,
  register,
)
