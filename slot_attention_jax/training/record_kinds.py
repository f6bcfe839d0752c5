"""What the JSON files of a run hold, as far as they are read again.

Users edit these files; `files.read_json` tells what they made of them.
"""

from slot_attention_jax.runtime import json_kinds

_LAYOUT: json_kinds.Kinds = {"properties": [dict]}
RULE: json_kinds.Kinds = {"checkpoint": {"best_metric": str, "best_mode": str}}
"""Of `config.json`: which checkpoint is the best."""
SAVED_CONFIG: json_kinds.Kinds = {
  "task": str,
  "data": {
    "name": str,
    "resolution": [int],
    "scenes": dict,
    "tfds": dict,
    "folder": dict,
  },
  "model": dict,
  "optim": dict,
  "train": {"num_steps": int, "initial_weights": str},
  "eval": dict,
  "checkpoint": dict,
  "logging": dict,
}
"""Of the config of a checkpoint; those of earlier versions lack some."""
DATA: json_kinds.Kinds = {"data": str}
"""Of `metadata.json`, of any task."""
DATA_OF_SETS: json_kinds.Kinds = {"data": str, "layout": _LAYOUT}
"""Of `metadata.json`, of set prediction."""
PROVENANCE: json_kinds.Kinds = {
  "data": str,
  "own_scenes": bool,
  "devices": str,
  "versions": dict,
}
"""Of `metadata.json`: what a model card needs."""
METADATA: json_kinds.Kinds = {
  "recipe": str,
  "layout": (dict, type(None)),
  "scenes_version": (int, type(None)),
  "changes": [{"step": int, "key": str}],
  "initial_weights": {"step": int, "parameters_sha256": str},
  "settings": dict,
}
"""Of `metadata.json`: what some runs and scenes have besides."""
EVALUATION: json_kinds.Kinds = {
  "step": (int, type(None)),
  "metrics": dict,
  "num_slots": (int, type(None)),
  "num_iterations": (int, type(None)),
  "num_examples": int,
}
"""Of `evaluation.json`; its protocol is newer."""
PROTOCOL: json_kinds.Kinds = {"protocol": {"model": str}}
