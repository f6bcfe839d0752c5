"""The model card of weights: their metadata as Markdown."""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slot_attention_jax.config import aliases
from slot_attention_jax.metrics import names
from slot_attention_jax.pretrained import weights_file

_LIMITS = {
  "discovery": (
    "The model was trained on images of {height}x{width} pixels of the data "
    "above alone. On other images its slots need not be objects."
  ),
  "set_prediction": (
    "The model was trained on the data above at {height}x{width} pixels and on "
    "their properties alone. On other images its predictions mean nothing."
  ),
}
# What the Hub calls them, and what we do.
_TASKS = {
  "discovery": ("image-segmentation", "object discovery"),
  "set_prediction": ("object-detection", "set prediction"),
}
_SYNTHETIC = (
  "The scenes are synthetic: the package renders them. No number on them is a "
  "result on the dataset that they resemble."
)


def model_card(name: str, metadata: weights_file.WeightsMetadata) -> str:
  """Writes the card.

  Args:
    name: of the weights.
    metadata: of the weights.

  Returns:
    Markdown, lines of at most 80 columns except in tables.
  """
  height, width = metadata.resolution
  model = metadata.create_model()
  # Keys of the config may have been renamed since.
  command = aliases.update_command(metadata.command)
  rows = {
    "task": metadata.task,
    "model": type(model).__name__,
    "slots K, iterations T": f"{model.num_slots}, {model.num_iterations}",
    "images": f"[B, {height}, {width}, 3] in [-1, 1]",
    "data": metadata.data,
    "command": f"`python -m slot_attention_jax.main {command}`",
    "seed": metadata.seed,
    "steps": _steps(metadata),
    "hardware": metadata.hardware,
    "minutes": "unknown"
    if metadata.minutes is None
    else f"{metadata.minutes:.1f}",
    "date": metadata.date,
    "versions": ", ".join(f"{k} {v}" for k, v in metadata.versions.items()),
    "license of the weights": metadata.license,
  }
  if metadata.layout is not None:
    properties = [f"{p.name} ({p.size})" for p in metadata.layout.properties]
    rows["properties"] = ", ".join(properties)
  evaluation = metadata.evaluation
  limits = _LIMITS[metadata.task].format(height=height, width=width)
  lines = [
    f"# {name}",
    "",
    *_table(("", ""), rows.items()),
    "",
    "## Metrics",
    "",
    *textwrap.wrap(
      f"Of {evaluation['num_examples']} examples, with "
      f"{evaluation['num_slots']} slots and {evaluation['num_iterations']} "
      "iterations.",
      80,
    ),
    "",
    *_metrics(metadata.metrics),
    "",
    "## Limits",
    "",
    *textwrap.wrap(
      f"{limits} {_SYNTHETIC}" if metadata.synthetic_scenes else limits, 80
    ),
  ]
  if metadata.notes:
    lines += ["", "## Notes", "", *textwrap.wrap(metadata.notes, 80)]
  return "\n".join(lines) + "\n"


def hub_card(repository: str, metadata: weights_file.WeightsMetadata) -> str:
  """Writes the `README.md` of a repository on the Hugging Face Hub.

  Args:
    repository: `"owner/name"`.
    metadata: of the weights.

  Returns:
    The card, with a front matter in YAML that the Hub reads: license, tags,
    and the metrics under the name of the data they were measured on.
  """
  name = repository.rpartition("/")[2]
  first, separator, rest = model_card(name, metadata).partition("\n\n")
  usage = [
    "```python",
    "import slot_attention_jax as sa",
    "",
    f'model, params = sa.load_pretrained("hf://{repository}")',
    "```",
  ]
  matter = _yaml(_front_matter(name, metadata))
  return "\n".join(
    ["---", *matter, "---", "", first, "", *usage, separator.strip(), rest]
  )


def _front_matter(name, metadata) -> dict[str, Any]:
  """What the Hub shows and searches."""
  task, task_name = _TASKS[metadata.task]
  by_data: dict[tuple[str, str], list[dict[str, Any]]] = {}
  for full_name, value in metadata.metrics.items():
    data, _, rest = full_name.rpartition("/")
    data, _, split = data.rpartition("/")
    if isinstance(value, int | float):  # Text is what JSON has no number for.
      metric = {"type": rest, "name": rest, "value": value}
      by_data.setdefault((data, split), []).append(metric)
  return {
    "license": metadata.license.lower(),
    "library_name": "slot_attention_jax",
    "pipeline_tag": task,
    "tags": ["slot-attention", "object-centric-learning", "jax", "flax"],
    "model-index": [
      {
        "name": name,
        "results": [
          {
            "task": {"type": task, "name": task_name},
            "dataset": {"type": data, "name": data, "split": split},
            "metrics": metrics,
          }
          for (data, split), metrics in by_data.items()
        ],
      }
    ],
  }


def _yaml(content: dict[str, Any]) -> list[str]:
  """Lines of YAML: one for each key, with its value as JSON, which is YAML."""
  return [f"{key}: {json.dumps(value)}" for key, value in content.items()]


def _steps(metadata: weights_file.WeightsMetadata) -> str:
  if metadata.steps == metadata.planned_steps:
    return f"{metadata.steps:,}"
  return (
    f"{metadata.steps:,} of the {metadata.planned_steps:,} that the command "
    "asks for"
  )


def _value(value: object) -> str:
  # JSON has no infinity or NaN: they are stored as strings.
  return f"{value:.4f}" if isinstance(value, float) else str(value)


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
  """A table with what each metric is, its range, and whether more is better."""
  rows = []
  for name, value in metrics.items():
    short = name.rpartition("/")[2]
    words = names.meaning(short.removesuffix(names.OF_ATTENTION))
    if words and short.endswith(names.OF_ATTENTION):
      words = f"of the attention, not of the decoder's masks: {words}"
    rows.append((name, _value(value), words))
  return _table(("metric", "value", "what it is"), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
  return [
    f"| {' | '.join(titles)} |",
    "|---" * len(titles) + "|",
    *(f"| {' | '.join(map(str, row))} |" for row in rows),
  ]
