"""Made-up directories of runs, for tests of reports; nothing is trained."""

import copy
import dataclasses
import json

import numpy as np

from slot_attention_jax.config import base
from slot_attention_jax.data import types
from slot_attention_jax.runtime import files

DATA = "scenes"
LAYOUT = types.CLEVR_LAYOUT


def config(**changes):
  """A config as `config.json` has it; keys by their dotted names."""
  content = files.jsonable(base.base_config().to_dict())
  content = copy.deepcopy(content)
  content["train"]["num_steps"] = 4
  for key, value in changes.items():
    *groups, name = key.split("__")
    group = content
    for part in groups:
      group = group[part]
    group[name] = value
  return content


def row(step, **scalars):
  """A row of metrics; `train_loss` is `scenes/train/loss`."""
  names = {f"{DATA}/{k.replace('_', '/', 1)}": v for k, v in scalars.items()}
  return {"step": step, "time": "2026-01-01", "seconds": 60 * step, **names}


ROWS = [
  row(2, train_loss=0.5),
  row(2, validation_mse=0.6, validation_fg_ari=0.7),
  row(4, train_loss=0.25),
  row(4, validation_mse=0.375, validation_fg_ari=0.5),
]


def make(path, rows=ROWS, about=None, **changes):
  """Writes the directory of a run."""
  path.mkdir(parents=True)
  files.write_json(path / "config.json", config(**changes))
  metadata = {
    "recipe": "--config=quickstart",
    "data": DATA,
    "seed": changes.get("seed", 0),
    "versions": {"jax": "1.2"},
    "layout": dataclasses.asdict(LAYOUT),
    **(about or {}),
  }
  files.write_json(path / "metadata.json", metadata)
  lines = [json.dumps(r) + "\n" for r in rows]
  (path / "metrics.jsonl").write_text("".join(lines))
  return path


def arrays(b=2, k=3, t=2, size=(8, 12), grid=(2, 3), seed=0):
  """What an evaluation of an autoencoder keeps: slot i owns four columns."""
  masks = np.zeros((b, k, *size), np.uint8)
  attention = np.zeros((b, t, k, *grid), np.uint8)
  for i in range(k):
    masks[:, i, :, 4 * i : 4 * i + 4] = 255
    attention[:, :, i, :, i] = 255
  true = np.zeros((b, *size), np.uint8)
  true[:, 2:6, 5:8] = 1
  rng = np.random.default_rng(seed)
  return {
    "image": rng.integers(0, 256, (b, *size, 3), np.uint8),
    "attention": attention,
    "masks": masks,
    "reconstruction": np.zeros((b, *size, 3), np.uint8),
    "segmentation": true,
    "score_FG-ARI": np.linspace(0.25, 0.75, b),
  }


def object_arrays():
  """What an evaluation of a set predictor keeps: one object, one missed."""
  found = arrays(b=1)
  for name in ("masks", "reconstruction", "segmentation", "score_FG-ARI"):
    del found[name]
  target = LAYOUT.encode(
    {
      "coords": np.array([[0.0, 0.0, 0.3], [1.0, 1.0, 0.3]]),
      "size": np.array([0, 1]),
      "material": np.array([0, 1]),
      "shape": np.array([0, 1]),
      "color": np.array([2, 3]),
    },
    real=np.array([True, True]),
  )
  predictions = np.zeros((1, 3, LAYOUT.size), np.float32)
  predictions[0, 1] = np.asarray(target)[0]
  return found | {
    "predictions": predictions,
    "target": np.asarray(target, np.float32)[None],
  }
