"""A trained model by the name of its weights, their file, or its run."""

import dataclasses
import os
import pathlib
from typing import Any

from slot_attention_jax import models, pretrained
from slot_attention_jax.data import from_config, transforms, types
from slot_attention_jax.models import from_config as models_from_config
from slot_attention_jax.modules import slot_init
from slot_attention_jax.runtime import files, storage
from slot_attention_jax.training import record_kinds

_SUFFIX = ".safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
  """A model, its parameters, and what its images and predictions mean.

  Attributes:
    name: what it is, for messages.
    model: the autoencoder or the set predictor.
    params: its parameters.
    resolution: (h, w) of the images that it takes, in pixels.
    crop: of images before they are resized, as of `sa.preprocess`.
    layout: meaning of the predictions of a set predictor; None in discovery.
    data: name of the data that it was trained on.
    steps: training steps done.
  """

  name: str
  model: models.SlotAttentionAutoEncoder | models.SlotAttentionClassifier
  params: Any
  resolution: tuple[int, int]
  crop: transforms.Crop
  layout: types.PropertyLayout | None
  data: str
  steps: int

  def check_num_slots(self, num_slots: int) -> None:
    """Raises ValueError unless the model works with this number of slots."""
    fixed = self.model.slot_init not in slot_init.ANY_NUM_SLOTS
    if num_slots < 1 or (fixed and num_slots != self.model.num_slots):
      at_least = (
        f"{self.model.num_slots} slots, which {self.name} has and which "
        f"slot_init={self.model.slot_init!r} fixes"
        if fixed
        else "at least 1 slot"
      )
      raise ValueError(
        f"Expected {at_least}, got {num_slots}. Leave the number out."
      )


def load(
  source: str | os.PathLike[str], *, checkpoint: str = "best"
) -> TrainedModel:
  """Loads a trained model.

  Args:
    source: a name out of `sa.pretrained_names()`; the path of a `.safetensors`
      file of `export_weights`; or the directory of a run, local or `gs://`.
    checkpoint: of a run: `"best"`, or else the last if there is no best one;
      or `"last"`.

  Returns:
    The model.

  Raises:
    FileNotFoundError: if there is no such file, or no checkpoint in the run.
    ValueError: if it is none of these, or the file is damaged.

  Example:
    >>> from slot_attention_jax.predict import trained_model
    >>> trained = trained_model.load("clevr6_small")
    >>> trained.resolution, trained.crop, trained.model.num_slots
    ((64, 64), 'paper', 7)
  """
  name = os.fspath(source)
  if storage.is_remote(name):
    return _of_run(storage.open_path(name, "the path"), checkpoint)
  path = pathlib.Path(source).expanduser()
  if name not in pretrained.pretrained_names():
    if name and path.is_dir():
      return _of_run(path.absolute(), checkpoint)
    if path.suffix == _SUFFIX or path.is_file():
      model, params = pretrained.load_weights(path)
      metadata = pretrained.read_weights_metadata(path)
      return _of_weights(str(path), model, params, metadata)
    if "://" not in name:
      # With ml_collections, which the library is imported without.
      from slot_attention_jax.config import arguments

      near = arguments.suggest(name, list(pretrained.pretrained_names()))
      raise ValueError(
        f"Expected a name out of {list(pretrained.pretrained_names())}, a "
        f"{_SUFFIX} file or the directory of a run, got {name!r}, which is "
        f"none of these.{near}"
      )
  model, params = pretrained.load_pretrained(name)
  metadata = pretrained.pretrained_metadata(name)
  return _of_weights(name, model, params, metadata)


def _of_weights(name, model, params, metadata) -> TrainedModel:
  return TrainedModel(
    name=name,
    model=model,
    params=params,
    resolution=tuple(metadata.resolution),
    crop=metadata.crop,
    layout=metadata.layout,
    data=metadata.data,
    steps=metadata.steps,
  )


def _of_run(path: storage.Path, checkpoint: str) -> TrainedModel:
  """The best, or else the last, checkpoint of a run; or the last."""
  advice = "Give the --workdir of a training."
  if not (path / "checkpoints").is_dir():
    raise FileNotFoundError(
      f"Expected the directory of a run, got {path}, which has no "
      f"'checkpoints'. {advice}"
    )
  file = path / "config.json"
  rule = files.read_json(file, advice, record_kinds.RULE)["checkpoint"]
  which, step, config, params = _restore(path, rule, checkpoint)
  file, layout = path / "metadata.json", None
  if config["task"] == "set_prediction":
    about = files.read_json(file, advice, record_kinds.DATA_OF_SETS)
    layout = types.layout_from_dict(about["layout"])
  else:
    about = files.read_json(file, advice, record_kinds.DATA)
  resolution = config["data"]["resolution"]
  return TrainedModel(
    name=f"{path} ({which} checkpoint, step {step})",
    model=models_from_config.create_model(
      config["task"],
      config["model"],
      resolution=(resolution[0], resolution[1]),
      num_properties=layout.size if layout else None,
    ),
    params=params,
    resolution=(resolution[0], resolution[1]),
    crop=from_config.crop_of(config["data"]["name"], config["data"]["crop"]),
    layout=layout,
    data=about["data"],
    steps=step,
  )


def _restore(path, rule, checkpoint) -> tuple[str, int, dict[str, Any], Any]:
  """The kind of the checkpoint, its step, config and parameters."""
  # With orbax, which weights do without.
  from slot_attention_jax.training import trained_run

  metric = rule["best_metric"]
  metric = None if metric in ("", "auto") else metric
  best_first = metric and checkpoint == "best"
  for which in ("best", "last") if best_first else ("last",):
    try:
      with trained_run.open_run(
        path, which, best_metric=metric, best_mode=rule["best_mode"]
      ) as (checkpointer, step):
        config = checkpointer.restore_config(step)
        return which, step, config, checkpointer.restore_params(step=step)
    except FileNotFoundError:
      # Nothing was evaluated yet.
      if which == "last":
        raise
  raise AssertionError
