"""An evaluation as Markdown: what was measured, and under which conditions."""

from typing import Any

from slot_attention_jax.metrics import names

# Of conditions whose key in the file says something else to a reader.
_TITLES = {"own_scenes": "synthetic scenes"}


def markdown(content: dict[str, Any]) -> str:
  """Formats an evaluation as Markdown tables.

  Args:
    content: of `evaluation.json`.

  Returns:
    The text.
  """
  conditions = {
    "steps": content["step"],
    "K, T": f"{content['num_slots']}, {content['num_iterations']}",
    **content["protocol"],
  }
  lines = [
    f"# {conditions['model']} on {conditions['data']}/{conditions['split']}",
    "",
  ]
  cells: dict[str, list[str]] = {}
  for name, value in content["metrics"].items():
    error = content["standard_errors"].get(name)
    shown = f"{value:.4f}" + ("" if error is None else f" +- {error:.4f}")
    short = name.rsplit("/", 1)[-1]
    kinds = cells.setdefault(short.removesuffix(names.OF_ATTENTION), ["", ""])
    kinds[short.endswith(names.OF_ATTENTION)] = shown
  both = any(attention for _, attention in cells.values())
  titles = ["decoder's masks", "attention"] if both else ["value"]
  lines.append(f"| metric | {' | '.join(titles)} | what it is |")
  lines.append("|---" * (2 + len(titles)) + "|")
  for short in sorted(cells, key=names.order):
    values = cells[short][: len(titles)]
    lines.append(f"| {short} | {' | '.join(values)} | {names.meaning(short)} |")
  lines += ["", "| conditions | |", "|---|---|"]
  for name, value in conditions.items():
    if value is not None and value != "":
      title = _TITLES.get(name, name.replace("_", " "))
      lines.append(f"| {title} | {value} |")
  return "\n".join(lines) + "\n"
