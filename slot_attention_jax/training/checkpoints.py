"""Checkpoints: a thin wrapper around Orbax.

A checkpoint is a directory `<directory>/<step>` of five items: `params` (the
parameters alone, for evaluation and for users of the library), `train` (step,
optimizer state, key), `config`, `checksums` of all the others and, if it was
evaluated, `metrics`, all JSON. What is restored is compared with its checksum.
It is written under another name and renamed when it is complete, so that a run
killed at any moment leaves complete checkpoints only.
"""

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from slot_attention_jax.runtime import arrays as arrays_lib
from slot_attention_jax.runtime import json_kinds, processes, storage
from slot_attention_jax.runtime import mesh as mesh_lib
from slot_attention_jax.training import (
  checkpoint_digests,
  checkpoint_errors,
  checkpoint_manager,
  record_kinds,
)
from slot_attention_jax.training import state as state_lib

PyTree = Any

ITEMS = ("params", "train", "config")
"""What a training resumes from."""
DamagedCheckpointError = checkpoint_errors.DamagedCheckpointError


class Checkpointer(contextlib.AbstractContextManager):
  """Saves and restores the checkpoints of one run.

  Saving is asynchronous: `save` returns when the state is copied to the host,
  so that it may be donated to the next step at once; files are written in the
  background. Leave the context, or call `close`, before the process ends.
  With several processes, all of them must make the same calls.

  Before its first `save` it only reads, also beside a run that is training.

  Args:
    directory: where the checkpoints are or will be, local or `gs://`.
    keep: how many of the latest checkpoints to keep, at least 1.
    best_metric: name of the metric that decides which checkpoints are best;
      None keeps the latest only.
    best_mode: whether the largest or the smallest value is the best.
    keep_best: how many of the best checkpoints to keep besides the latest. One
      without the metric, or where it is not finite, is never among the best
      (but kept as long as there are no more than `keep_best` in all).

  Example:
    >>> import tempfile
    >>> import jax, jax.numpy as jnp, optax
    >>> from slot_attention_jax.training import checkpoints
    >>> from slot_attention_jax.training import state as state_lib
    >>> def init():
    ...   params = {"w": jnp.ones((2, 3))}
    ...   return state_lib.create(params, optax.adam(1.0), jax.random.key(0))
    >>> with checkpoints.Checkpointer(tempfile.mkdtemp()) as checkpointer:
    ...   _ = checkpointer.save(init(), {"seed": 0})
    ...   state = checkpointer.restore(jax.eval_shape(init))
    ...   params = checkpointer.restore_params()
    >>> int(state.step), params["w"].shape
    (0, (2, 3))
  """

  def __init__(
    self,
    directory: epath.PathLike,
    *,
    keep: int = 3,
    best_metric: str | None = None,
    best_mode: Literal["max", "min"] = "max",
    keep_best: int = 1,
  ):
    if keep < 1 or keep_best < 0 or best_mode not in ("max", "min"):
      raise ValueError(
        "Expected keep >= 1, keep_best >= 0 and best_mode max or min, got "
        f"keep={keep}, keep_best={keep_best}, best_mode={best_mode!r}."
      )
    self.directory = epath.Path(storage.to_path(directory))
    self._best_metric = best_metric
    self._sign = 1.0 if best_mode == "max" else -1.0
    self._keep, self._keep_best = keep, keep_best if best_metric else 0
    self._writes = False
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    return checkpoint_manager.create_manager(
      self.directory,
      keep=self._keep,
      keep_best=self._keep_best,
      rank=self._rank,
      writes=self._writes,
    )

  def _rank(self, metrics: Mapping[str, float | None]) -> float:
    """The larger, the better."""
    value = metrics.get(self._best_metric or "")
    return -math.inf if value is None else self._sign * value

  def _finite(self, metrics: Mapping[str, Any]) -> dict[str, float]:
    """What JSON can hold of metrics; nothing if `best_metric` is not in it."""
    finite = {k: float(v) for k, v in metrics.items()}
    finite = {k: v for k, v in finite.items() if math.isfinite(v)}
    return finite if self._best_metric in (None, *finite) else {}

  def __exit__(self, *unused_exception) -> None:
    self.close()

  def save(
    self,
    state: state_lib.TrainState,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    force: bool = False,
  ) -> bool:
    """Starts to save a checkpoint, named by `state.step`.

    Args:
      state: the state; its arrays may be donated as soon as this returns.
      config: the resolved config, of JSON's types (tuples become lists).
      metrics: scalars by name that were measured on this state; those that
        are not finite are left out, and all of them if `best_metric` is not.
      force: save although there are checkpoints of later steps.

    Returns:
      Whether it saves; False if there is a checkpoint of this step already.

    Raises:
      ValueError: if the config is not JSON, if metrics lack `best_metric`, or
        if there are later checkpoints, which the run would resume from.
      OSError: if the disk refuses this checkpoint or, begun in the background,
        the one before it.
    """
    step = int(state.step)
    try:
      config = json.loads(json.dumps(dict(config)))
    except TypeError as error:
      raise ValueError(f"Expected a config that is JSON: {error}.") from error
    if metrics and self._best_metric not in (None, *metrics):
      raise ValueError(
        f"Expected metrics with best_metric {self._best_metric!r}, got "
        f"{sorted(metrics)}. Choose one of these, or give none."
      )
    finite = self._finite(metrics or {})
    if not self._writes:
      self._writes = True
      with self._writing():
        self.reopen()
    steps = self.all_steps()
    if step in steps:
      logging.info("%s exists, not saved again.", self.directory / str(step))
      return False
    if steps and step < steps[-1] and not force:
      raise ValueError(
        f"Expected a step after those in {self.directory}, {steps}, got {step}."
        " Delete the later ones, save to another directory, or force it."
      )
    arrays = {"params": state.params, "train": _train_item(state)}
    contents = {"config": config} | ({"metrics": finite} if finite else {})
    digests = checkpoint_digests.digests_of(arrays, contents)
    items = ocp.args.Composite(
      **{name: ocp.args.StandardSave(tree) for name, tree in arrays.items()},
      config=ocp.args.JsonSave(config),
      checksums=ocp.args.JsonSave(digests),
    )
    # Unforced, Orbax skips a step before the latest and tells nobody.
    with self._writing():
      return self._manager.save(
        step, args=items, metrics=finite or None, force=True
      )

  def add_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Adds metrics to a checkpoint that was saved before its evaluation.

    Args:
      step: of the checkpoint.
      metrics: as of `save`; a checkpoint that has some keeps them.
    """
    finite = self._finite(metrics)
    self.wait()
    if finite and self._manager.metrics(step) is None:
      if jax.process_index() == 0:
        checkpoint_manager.write_metrics(self.directory / str(step), finite)
      processes.wait_for_all("add_metrics")
      self._manager.reload()

  def all_steps(self) -> list[int]:
    """Steps that have a checkpoint or are being saved, in ascending order."""
    if not self._writes:
      self._manager.reload()  # Another process may be saving.
    return sorted(self._manager.all_steps())

  def latest_step(self) -> int | None:
    """The last of `all_steps`; None if there is none."""
    return max(self.all_steps(), default=None)

  def best_step(self) -> int | None:
    """The step with the best metric, the later one of equals; None if none."""
    self.wait()
    if not self.all_steps():
      return None
    step = self._manager.best_step()
    metrics = None if step is None else self._manager.metrics(step)
    return step if metrics and self._rank(metrics) > -math.inf else None

  def ranked_steps(self) -> list[int]:
    """Steps that have the metric, the best first, the later one of equals."""
    self.wait()
    ranks = {}
    for step in self.all_steps():
      metrics = self._manager.metrics(step)
      ranks[step] = self._rank(metrics) if metrics else -math.inf
    found = [step for step, rank in ranks.items() if rank > -math.inf]
    return sorted(found, key=lambda step: (ranks[step], step), reverse=True)

  def check(self, step: int, items: Sequence[str] = ITEMS) -> None:
    """Raises DamagedCheckpointError unless items are as they were saved."""
    self._restore(step, **dict.fromkeys(items))

  def reopen(self) -> None:
    """Looks at the directory anew, after another hand than this changed it."""
    self._manager.close()
    self._manager = self._open()

  def restore(
    self, abstract_state: state_lib.TrainState, step: int | None = None
  ) -> state_lib.TrainState:
    """Restores a state exactly, onto any number of devices.

    Args:
      abstract_state: a state of `jax.ShapeDtypeStruct`; their shardings say
        where arrays go, without one (`jax.eval_shape` gives none) to the first
        device or, with several processes, to all.
      step: which checkpoint; None is the latest.

    Returns:
      The state as it was saved.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: if it holds other arrays.
      DamagedCheckpointError: if it cannot be read, or is not what was saved.
    """
    train = _train_item(abstract_state)
    restored = self._restore(step, params=abstract_state.params, train=train)
    return state_lib.TrainState(params=restored.params, **restored.train)

  def restore_params(
    self, abstract_params: PyTree = None, step: int | None = None
  ) -> PyTree:
    """Restores the parameters alone, a nested dict; needs no optimizer.

    Args and errors are those of `restore`, of parameters; with None for
    `abstract_params` whatever was saved goes to these places.
    """
    return self._restore(step, params=abstract_params).params

  def restore_config(self, step: int | None = None) -> dict[str, Any]:
    """Reads the config of a checkpoint; step and errors as in `restore`."""
    config = self._restore(step, config=None).config
    if problem := json_kinds.problem(config, record_kinds.SAVED_CONFIG):
      which = "last" if step is None else step
      raise DamagedCheckpointError(
        f"Expected the config of checkpoint {which} in {self.directory} to "
        f"have {problem}. Restore it from a copy."
      )
    return config

  def wait(self) -> None:
    """Blocks until all that `save` began is written; raises if that failed."""
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for what is being saved and ends the background threads."""
    with self._writing():
      self._manager.close()

  def _writing(self) -> contextlib.AbstractContextManager[None]:
    return checkpoint_errors.writing(self.directory)

  def _restore(self, step: int | None, **items: PyTree) -> Any:
    """Restores items; those of arrays into abstract arrays, None as saved."""
    self.wait()
    steps = self.all_steps()
    if not steps or step not in (None, *steps):
      raise FileNotFoundError(
        f"Expected a checkpoint of step {'any' if step is None else step} in "
        f"{self.directory} (in directories named by steps), got "
        f"{steps or 'none'}."
      )
    step = steps[-1] if step is None else step
    args = {}
    for name, abstract in items.items():
      if name in checkpoint_manager.JSON_ITEMS:
        args[name] = ocp.args.JsonRestore()
        continue
      with self._reading(step):
        saved = self._manager.item_metadata(step)[name].tree
      like = saved if abstract is None else abstract
      where = f"{self.directory / str(step)}: {name}"
      arrays_lib.check_arrays(like, saved, where=where)
      args[name] = ocp.args.StandardRestore(jax.tree.map(_with_sharding, like))
    with self._reading(step):
      restored = self._manager.restore(step, args=ocp.args.Composite(**args))
      digests = checkpoint_manager.read_digests(self.directory / str(step))
      if digests is None:
        logging.info(
          "%s has no checksums, an earlier version saved it: not verified.",
          self.directory / str(step),
        )
      else:
        for name in items:
          checkpoint_digests.check(name, restored[name], digests)
      return restored

  def _reading(self, step: int) -> contextlib.AbstractContextManager[None]:
    before = max((s for s in self.all_steps() if s < step), default=None)
    return checkpoint_errors.reading(self.directory / str(step), before)


def _train_item(state: state_lib.TrainState) -> dict[str, PyTree]:
  return {"opt_state": state.opt_state, "step": state.step, "key": state.key}


def _with_sharding(leaf: Any) -> jax.ShapeDtypeStruct:
  """Adds a place to an abstract array that has none."""
  place = leaf.sharding
  if isinstance(place, jax.sharding.Sharding):
    pass
  elif jax.process_count() > 1:  # Orbax reads together.
    place = mesh_lib.replicated(mesh_lib.create_mesh())
  else:
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
