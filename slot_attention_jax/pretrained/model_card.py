"""The model card of weights: their facts, as Markdown."""

import textwrap

from slot_attention_jax.pretrained import weights_file

_LIMITS = {
  "discovery": (
    "The model knows the scenes that it was trained on: images of {height}x"
    "{width} pixels of the data above. On other images its slots need not be "
    "objects."
  ),
  "set_prediction": (
    "The model knows the properties and the scenes that it was trained on, the "
    "data above at {height}x{width} pixels. On other images its predictions "
    "mean nothing."
  ),
}
_OWN_SCENES = (
  "The scenes are the package's own renderings. No number on them is a result "
  "on the data set that they resemble."
)


def model_card(name: str, facts: weights_file.WeightsFacts) -> str:
  """Writes the card.

  Args:
    name: of the weights.
    facts: all that the card says.

  Returns:
    Markdown, lines of at most 80 columns but for tables.
  """
  height, width = facts.resolution
  model = facts.create_model()
  rows = {
    "task": facts.task,
    "model": type(model).__name__,
    "slots K, iterations T": f"{model.num_slots}, {model.num_iterations}",
    "images": f"[B, {height}, {width}, 3] in [-1, 1]",
    "data": facts.data,
    "recipe": f"`python -m slot_attention_jax.main {facts.recipe}`",
    "seed": facts.seed,
    "updates": _updates(facts),
    "hardware": facts.hardware,
    "minutes": "unknown" if facts.minutes is None else f"{facts.minutes:.1f}",
    "date": facts.date,
    "versions": ", ".join(f"{k} {v}" for k, v in facts.versions.items()),
    "licence of the weights": facts.license,
  }
  if facts.layout is not None:
    properties = [f"{p.name} ({p.size})" for p in facts.layout.properties]
    rows["properties"] = ", ".join(properties)
  evaluation = facts.evaluation
  limits = _LIMITS[facts.task].format(height=height, width=width)
  lines = [
    f"# {name}",
    "",
    *_table("fact", "value", rows),
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
    *_table(
      "metric", "value", {k: _value(v) for k, v in facts.metrics.items()}
    ),
    "",
    "## Limits",
    "",
    *textwrap.wrap(
      f"{limits} {_OWN_SCENES}" if facts.own_scenes else limits, 80
    ),
  ]
  if facts.notes:
    lines += ["", "## Notes", "", *textwrap.wrap(facts.notes, 80)]
  return "\n".join(lines) + "\n"


def _updates(facts: weights_file.WeightsFacts) -> str:
  if facts.updates == facts.planned_updates:
    return f"{facts.updates:,}"
  return (
    f"{facts.updates:,} of the {facts.planned_updates:,} that the recipe asks "
    "for"
  )


def _value(value: object) -> str:
  # What is not finite is a string in JSON.
  return f"{value:.4f}" if isinstance(value, float) else str(value)


def _table(left: str, right: str, rows: dict[str, object]) -> list[str]:
  return [
    f"| {left} | {right} |",
    "|---|---|",
    *(f"| {key} | {value} |" for key, value in rows.items()),
  ]
