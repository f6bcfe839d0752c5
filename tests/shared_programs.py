"""Lets the runs of one process share what they compile, for tests.

A training makes its functions anew and so traces, lowers and compiles them
anew, which is most of the time of a test. Under `sharing()` runs whose configs
differ in nothing that is compiled share their data, task, optimizer and
compiled functions. Runs in processes of their own share nothing of this.
"""

import contextlib
import json
from unittest import mock

from slot_attention_jax import data, tasks
from slot_attention_jax.evaluation import examples
from slot_attention_jax.runtime import files
from slot_attention_jax.training import multi_step, optimizers, steps

# Keys that no compiled function depends on.
_FREE = {
  "train": ("num_steps", "max_minutes", "steps_per_call", "initial_weights"),
  "eval": ("every_steps", "checkpoint", "split"),
  "checkpoint": None,
  "logging": None,
}
_made = {}


def _key(value):
  """What an argument is for the memory: a config's text, else the object."""
  if not hasattr(value, "to_dict"):
    return value
  settings = files.jsonable(value.to_dict())
  for group, names in _FREE.items():
    for name in list(settings.get(group, ())) if names is None else names:
      settings.get(group, {}).pop(name, None)
  return json.dumps(settings, sort_keys=True)


def _memoized(module, name):
  function = getattr(module, name)

  def call(*args, **kwargs):
    arguments = (*args, *sorted(kwargs.items()))
    key = (name, *map(_key, arguments))
    try:
      hash(key)
    except TypeError:
      key = (name, *(id(x) for x in arguments))
    if key not in _made:
      # The arguments are kept too, so that no other object gets their id.
      _made[key] = (function(*args, **kwargs), arguments)
    return _made[key][0]

  return mock.patch.object(module, name, call)


@contextlib.contextmanager
def sharing():
  """Shares what runs compile, with all that ran under it before."""
  with contextlib.ExitStack() as stack:
    for module, name in (
      (data, "create_dataset"),
      (tasks, "create_task"),
      (optimizers, "create_optimizer"),
      (multi_step, "make_step"),
      (steps, "make_train_step"),
      (steps, "abstract_state"),
      (steps, "_make_initializer"),
      (examples, "make_eval_step"),
      (examples, "abstract_params"),
    ):
      stack.enter_context(_memoized(module, name))
    yield
