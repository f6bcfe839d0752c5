"""Checkpoints: a small front of orbax.

A checkpoint is a directory `<directory>/<step>` of four items: `params` (the
parameters alone, for evaluation and for users of the library), `train` (step,
optimizer state, key), `config` and `scores` (its metrics), both JSON. It is
written under another name and renamed when it is complete, so that a run killed
at any moment leaves complete checkpoints only.
"""

import contextlib
import json
import logging as python_logging
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from slot_attention_jax.runtime import arrays
from slot_attention_jax.training import state as state_lib

PyTree = Any
_ARRAYS, _JSON = ("params", "train"), ("config", "scores")


def _is_not_chatter(record: python_logging.LogRecord) -> bool:
  """False for what orbax logs below a warning, about 60 lines a save."""
  return "orbax" not in record.pathname or record.levelno >= python_logging.WARN


class _LatestAndBest(NamedTuple):
  """A preservation policy; orbax's own BestN also keeps unscored ones."""

  keep: int
  keep_best: int
  best_first: Callable[[Sequence[int]], list[int]]

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    del context
    steps = [info.step for info in checkpoints]
    preserve = {*steps[-self.keep :], *self.best_first(steps)[: self.keep_best]}
    return [step in preserve for step in steps]


class Checkpointer(contextlib.AbstractContextManager):
  """Saves and restores the checkpoints of one run.

  Saving is asynchronous: `save` returns when the state is copied to the host,
  so that it may be donated to the next step at once; the files are written in
  the background. Leave the context, or call `close`, before the process ends.
  With several processes each of them makes the same calls.

  Before its first `save` it only reads, also beside a run that is training.

  Args:
    directory: where the checkpoints are or will be, local or `gs://`.
    keep: how many of the latest checkpoints to keep, at least 1.
    best_metric: name of the metric that decides which checkpoints are best;
      None keeps the latest only.
    best_mode: whether the largest or the smallest value is the best.
    keep_best: how many of the best checkpoints to keep besides the latest. One
      without the metric, or where it is not finite, is never among the best.

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
    self.directory = epath.Path(directory).expanduser().absolute()
    self._best_metric = best_metric
    self._sign = 1.0 if best_mode == "max" else -1.0
    self._policy = _LatestAndBest(keep, keep_best, self._best_first)
    self._scores: dict[int, Mapping[str, float | None]] = {}
    logging.get_absl_logger().addFilter(_is_not_chatter)
    self._writes = False
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
      preservation_policy=self._policy,
      create=self._writes,
      # What an earlier run left when it was killed. A reader must not do this:
      # it would delete what a running training is about to complete.
      cleanup_tmp_directories=self._writes,
    )
    # Orbax tells the shapes in an item only if it knows the item's handler.
    handlers = {name: ocp.StandardCheckpointHandler() for name in _ARRAYS}
    handlers |= {name: ocp.JsonCheckpointHandler() for name in _JSON}
    return ocp.CheckpointManager(
      self.directory, options=options, item_handlers=handlers
    )

  def __exit__(self, *unused_exception) -> None:
    self.close()

  def save(
    self,
    state: state_lib.TrainState,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    force: bool = False,
  ) -> bool:
    """Starts to save a checkpoint named by the updates done, `state.step`.

    Args:
      state: the state; its arrays may be donated as soon as this returns.
      config: the resolved config, of JSON's types (tuples become lists).
      metrics: scalars by name that were measured on this state.
      force: save although there are checkpoints of later steps.

    Returns:
      Whether it saves; False if there is a checkpoint of this step already.

    Raises:
      ValueError: if the config is not JSON, if metrics lack `best_metric`, or
        if there are later checkpoints, which the run would resume from.
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
    scores = {k: float(v) for k, v in (metrics or {}).items()}
    # JSON has no NaN.
    scores = {k: v if math.isfinite(v) else None for k, v in scores.items()}
    if not self._writes:
      self._manager.close()
      self._writes = True
      self._manager = self._open()
    steps = self.all_steps()
    if step in steps:
      logging.info("%s exists, not saved again.", self.directory / str(step))
      return False
    if steps and step < steps[-1] and not force:
      raise ValueError(
        f"Expected a step after those in {self.directory}, {steps}, got {step}."
        " Delete the later ones, save to another directory, or force it."
      )
    self._read_scores(steps)
    self._scores[step] = scores
    items = ocp.args.Composite(
      params=ocp.args.StandardSave(state.params),
      train=ocp.args.StandardSave(_train_item(state)),
      config=ocp.args.JsonSave(config),
      scores=ocp.args.JsonSave(scores),
    )
    # Unforced, orbax skips a step before the latest and tells nobody.
    return self._manager.save(step, args=items, force=True)

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
    steps = self.all_steps()
    self._read_scores(steps)
    return next(iter(self._best_first(steps)), None)

  def restore(
    self, abstract_state: state_lib.TrainState, step: int | None = None
  ) -> state_lib.TrainState:
    """Restores a state exactly, onto any number of devices.

    Args:
      abstract_state: a state of `jax.ShapeDtypeStruct`; their shardings say
        where arrays go, without one (`jax.eval_shape` gives none) to the first
        local device.
      step: which checkpoint; None is the latest.

    Returns:
      The state as it was saved.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: if it holds other arrays, or cannot be read.
    """
    train = _train_item(abstract_state)
    restored = self._restore(step, params=abstract_state.params, train=train)
    return state_lib.TrainState(params=restored.params, **restored.train)

  def restore_params(
    self, abstract_params: PyTree = None, step: int | None = None
  ) -> PyTree:
    """Restores the parameters alone, a nested dict; needs no optimizer.

    Args and errors are those of `restore`, of parameters; with None for
    `abstract_params` whatever was saved goes to the first local device.
    """
    return self._restore(step, params=abstract_params).params

  def restore_config(self, step: int | None = None) -> dict[str, Any]:
    """Reads the config of a checkpoint; step and errors as in `restore`."""
    return self._restore(step, config=None).config

  def wait(self) -> None:
    """Blocks until all that `save` began is written; raises if that failed."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for what is being saved and ends the background threads."""
    self._manager.close()

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
      if name in _JSON:
        args[name] = ocp.args.JsonRestore()
        continue
      with self._reading(step):
        saved = self._manager.item_metadata(step)[name].tree
      like = saved if abstract is None else abstract
      where = f"{self.directory / str(step)}: {name}"
      arrays.check_arrays(like, saved, where=where)
      args[name] = ocp.args.StandardRestore(jax.tree.map(_placed, like))
    with self._reading(step):
      return self._manager.restore(step, args=ocp.args.Composite(**args))

  @contextlib.contextmanager
  def _reading(self, step: int):
    try:
      yield
    except Exception as error:  # Orbax raises what its many layers raise.
      path = self.directory / str(step)
      before = max((s for s in self.all_steps() if s < step), default=None)
      reason = str(error).strip().partition("\n")[0][:150]
      raise ValueError(
        f"Cannot read the checkpoint {path}, it may be damaged: "
        f"{type(error).__name__}: {reason}. If it is, delete {path} and start "
        f"again; the checkpoint before it is of step {before}."
      ) from error

  def _read_scores(self, steps: Sequence[int]) -> None:
    for step in steps:
      if step in self._scores:
        continue
      try:
        self._scores[step] = self._restore(step, scores=None).scores
      except ValueError as error:
        # It cannot be the best then, which is no reason to stop.
        logging.warning("%s", error)
        self._scores[step] = {}

  def _best_first(self, steps: Sequence[int]) -> list[int]:
    """Those of the steps that have a score, the later one of equals first."""
    scores = {s: self._scores[s].get(self._best_metric or "") for s in steps}
    scored = [(self._sign * v, s) for s, v in scores.items() if v is not None]
    return [step for _, step in sorted(scored, reverse=True)]


def _train_item(state: state_lib.TrainState) -> dict[str, PyTree]:
  return {"opt_state": state.opt_state, "step": state.step, "key": state.key}


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
  """Adds the first local device to an abstract array that has no sharding."""
  place = leaf.sharding
  if not isinstance(place, jax.sharding.Sharding):
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)


@contextlib.contextmanager
def open_run(
  workdir: pathlib.Path,
  which: str,
  *,
  best_metric: str | None = None,
  best_mode: Literal["max", "min"] = "min",
) -> Iterator[tuple[Checkpointer, int]]:
  """Opens the checkpoints of a run to read one of them.

  Args:
    workdir: directory of the run, absolute.
    which: `"last"` or `"best"`.
    best_metric: short name of the metric that decides the best.
    best_mode: `"min"` or `"max"`.

  Yields:
    A pair (checkpointer, step), with the step that was asked for.

  Raises:
    FileNotFoundError: if there is no such run or checkpoint.
    ValueError: on another `which`.
  """
  if which not in ("last", "best"):
    raise ValueError(
      "Expected a checkpoint 'last' or 'best' (eval.checkpoint), got "
      f"{which!r}."
    )
  path = workdir / "checkpoints"
  if not path.is_dir():
    raise FileNotFoundError(
      f"Expected a trained run in {workdir}, found no 'checkpoints' in it. "
      "Train first, with --mode=train and the same --workdir."
    )
  with Checkpointer(
    path, best_metric=best_metric, best_mode=best_mode
  ) as checkpointer:
    best = which == "best"
    step = checkpointer.best_step() if best else checkpointer.latest_step()
    if step is None:
      raise FileNotFoundError(
        f"Expected a {which} checkpoint in {path}, found none "
        f"(checkpoint.best_metric is {best_metric!r})."
      )
    yield checkpointer, step


def restore_params(
  config: Any, workdir: pathlib.Path, abstract_params: Any
) -> tuple[int, Any]:
  """Restores the parameters that a config asks for.

  Args:
    config: a whole `ConfigDict`; `eval.checkpoint` says which checkpoint,
      `checkpoint` which is the best.
    workdir: directory of the run, absolute.
    abstract_params: as for `Checkpointer.restore_params`.

  Returns:
    A pair (step, params).

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    ValueError: on another `eval.checkpoint` than "last" or "best".
  """
  with open_run(
    workdir,
    config.eval.checkpoint,
    best_metric=config.checkpoint.best_metric or None,
    best_mode=config.checkpoint.best_mode,
  ) as (checkpointer, step):
    return step, checkpointer.restore_params(abstract_params, step)
